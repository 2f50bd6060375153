"""spaCy's model, an export of it, or rules: with a small pipeline of ours under the model's name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.t2i_compbench.language.choose import choose_language
from benchmarks.t2i_compbench.language.export import Export, write_export
from benchmarks.t2i_compbench.language.spacy_model import SpacyModel, installed_meta
from benchmarks.t2i_compbench.language.tokens import Token

ROOT = Path(__file__).parents[3]
TEXT = "A red car near it"
CHUNKS = ("A red car", "it")
TOKENS = (
    Token("A", "DET"),
    Token("red", "ADJ"),
    Token("car", "NOUN"),
    Token("near", "ADP"),
    Token("it", "PRON"),
)

# A real pipeline of spaCy whose only component knows a few words; noun_chunks is spaCy's own.
PACKAGE = """
import spacy
from spacy.language import Language

POS = {"a": "DET", "red": "ADJ", "blue": "ADJ", "car": "NOUN", "book": "NOUN"}
POS |= {"near": "ADP", "it": "PRON", "and": "CCONJ"}
loads = 0


@Language.component("few_words")
def few_words(doc):
    root = next((token for token in doc if POS.get(token.lower_) == "NOUN"), None)
    for token in doc:
        token.pos_ = POS.get(token.lower_, "X")
        following = [other for other in doc[token.i + 1 :] if POS.get(other.lower_) == "NOUN"]
        if token == root or root is None:
            token.head, token.dep_ = token, "ROOT"
        elif token.pos_ in ("DET", "ADJ") and following:
            token.head, token.dep_ = following[0], "det" if token.pos_ == "DET" else "amod"
        elif token.pos_ in ("NOUN", "PRON"):
            near = doc[token.i - 1].pos_ == "ADP"
            token.head, token.dep_ = (doc[token.i - 1], "pobj") if near else (root, "conj")
        else:
            token.head, token.dep_ = root, "prep" if token.pos_ == "ADP" else "cc"
    return doc


def load():
    global loads
    loads += 1
    pipeline = spacy.blank("en")
    pipeline.add_pipe("few_words")
    return pipeline
"""


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the model, whatever is installed here."""
    monkeypatch.setattr("benchmarks.t2i_compbench.language.spacy_model.MODEL", "no_such_model_sm")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a package `en_core_web_sm` that is found before any other."""
    folder = write_model(tmp_path / "packages")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "en_core_web_sm", raising=False)
    yield folder
    sys.modules.pop("en_core_web_sm", None)


def write_model(root: Path, version: str = "3.5.0", code: str = PACKAGE) -> Path:
    folder = root / "en_core_web_sm"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(code, encoding="utf-8")
    (folder / "meta.json").write_text(
        json.dumps({"lang": "en", "name": "core_web_sm", "version": version}), encoding="utf-8"
    )
    return folder


def test_spacy_reads_tokens_and_chunks_through_the_model(model):
    language = choose_language("spacy", None)
    assert language.name == "en_core_web_sm 3.5.0"
    assert language.external == (str(model / "meta.json"),)
    assert language.chunks(TEXT) == CHUNKS
    assert language.tokens(TEXT) == TOKENS
    assert language.chunks("a blue book and a red car") == ("a blue book", "a red car")
    assert language.chunks("xyzzy") == () == language.chunks("")
    assert sys.modules["en_core_web_sm"].loads == 1


def test_the_name_says_which_version_is_installed(model):
    (model / "meta.json").write_text('{"version": "3.8.0"}', encoding="utf-8")
    assert SpacyModel().name == "en_core_web_sm 3.8.0"


def test_spacy_without_its_model_says_how_to_install_it(absent):
    with pytest.raises(
        ValueError,
        match=r"pip install --no-deps https://github\.com/.*en_core_web_sm-3\.5\.0-py3-none-any\.whl#sha256=0964",
    ):
        choose_language("spacy", None)
    assert installed_meta() is None


def test_a_folder_without_meta_is_no_model(model):
    (model / "meta.json").unlink()
    assert installed_meta() is None


def test_auto_takes_the_export_then_the_model_then_rules(model, tmp_path, monkeypatch):
    file = tmp_path / "chunks.json"
    assert choose_language("auto", str(file)).name == "en_core_web_sm 3.5.0"
    write_export([TEXT], file)
    assert choose_language("auto", str(file)).name == "export of en_core_web_sm 3.5.0"
    monkeypatch.setattr("benchmarks.t2i_compbench.language.spacy_model.MODEL", "no_such_model_sm")
    assert (
        choose_language("auto", str(tmp_path / "other.json")).name
        == "rules"
        == choose_language("auto", None).name
    )


def test_rules_are_taken_where_asked_for(model):
    language = choose_language("rules", None)
    assert language.name == "rules" and language.external == ()
    assert language.chunks(TEXT) == CHUNKS


@pytest.mark.parametrize("np", ["", "Rules", "nltk", "missing.json"])
def test_an_unknown_reading_is_refused_with_the_known_ones(np):
    with pytest.raises(ValueError, match=f"np={np}: give auto, spacy, rules, or the file of an export"):
        choose_language(np, None)


def test_choosing_imports_neither_spacy_nor_torch(tmp_path):
    write_model(tmp_path, code="raise RuntimeError('imported')")
    code = (
        "import sys\n"
        "from benchmarks.t2i_compbench.language.choose import choose_language\n"
        "print([choose_language(np, None).name for np in ('auto', 'spacy', 'rules')])\n"
        "print(*[name for name in ('spacy', 'torch', 'thinc', 'en_core_web_sm') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['en_core_web_sm 3.5.0', 'en_core_web_sm 3.5.0', 'rules']\n\n"


# The export.


def test_an_export_answers_as_the_model_did(model, tmp_path, absent_after):
    file = tmp_path / "deep" / "chunks.json"
    write_export([TEXT, "naïve “quotes” / \\ 日本", TEXT], file)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert (content["model"], content["version"]) == ("en_core_web_sm", "3.5.0") and content["spacy"][
        0
    ] == "3"
    assert content["prompts"][TEXT] == {
        "chunks": list(CHUNKS),
        "tokens": [[token.text, token.pos] for token in TOKENS],
    }
    assert list(content["prompts"]) == [TEXT, "naïve “quotes” / \\ 日本"]
    assert [entry.name for entry in file.parent.iterdir()] == ["chunks.json"]
    absent_after()
    language = choose_language(str(file), None)
    assert language.external == (str(file),)
    assert (language.chunks(TEXT), language.tokens(TEXT)) == (CHUNKS, TOKENS)


@pytest.fixture
def absent_after(monkeypatch: pytest.MonkeyPatch):
    """Call it, and the model is gone."""
    return lambda: monkeypatch.setattr(
        "benchmarks.t2i_compbench.language.spacy_model.MODEL", "no_such_model_sm"
    )


def test_an_export_needs_the_model(absent, tmp_path):
    with pytest.raises(ValueError, match="pip install"):
        write_export([TEXT], tmp_path / "chunks.json")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_the_old_file(model, tmp_path):
    file = tmp_path / "chunks.json"
    write_export([TEXT], file)
    before = file.read_bytes()

    def texts():
        yield "a blue book"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_export(texts(), file)
    assert file.read_bytes() == before


def test_a_text_outside_the_export_goes_to_the_same_model_or_is_refused(model, tmp_path, absent_after):
    file = tmp_path / "chunks.json"
    write_export([TEXT], file)
    assert Export(file).chunks("a blue book") == ("a blue book",)
    (model / "meta.json").write_text('{"version": "3.8.0"}', encoding="utf-8")
    with pytest.raises(ValueError, match="does not hold the prompt 'a blue book'"):
        Export(file).chunks("a blue book")
    absent_after()
    with pytest.raises(ValueError, match=r"does not hold the prompt 'a blue book'.*Export again.*np=rules"):
        Export(file).tokens("a blue book")
    assert Export(file).chunks(TEXT) == CHUNKS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "no export"),
        ('{"model": "en_core_web_sm", "version": "3.5.0"}', "no export"),
        ('{"model": "en_core_web_sm", "version": 3, "prompts": {}}', "no export"),
        (
            '{"model": "m", "version": "3.5.0", "prompts": {"a cat": {"chunks": ["a cat"]}}}',
            "the prompt 'a cat'",
        ),
        (
            '{"model": "m", "version": "3.5.0", "prompts": {"a cat": {"chunks": [1], "tokens": []}}}',
            "the prompt 'a cat'",
        ),
        (
            '{"model": "m", "version": "3.5.0", "prompts": {"a cat": {"chunks": [], "tokens": [["a"]]}}}',
            "the prompt 'a cat'",
        ),
    ],
)
def test_a_damaged_export_is_refused(tmp_path, content, reason):
    file = tmp_path / "chunks.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"chunks\.json.*{reason}.*Export again"):
        choose_language("auto", str(file))
