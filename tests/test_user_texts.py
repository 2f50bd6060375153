"""Texts that users bring: every reader skips a byte order mark, and names a file of another encoding."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.geneval import files as geneval
from benchmarks.given import GivenRows
from benchmarks.t2i_compbench import files as compbench
from benchmarks.t2i_compbench import official
from benchmarks.t2i_compbench.annotations import read_annotations
from benchmarks.t2i_compbench.language.export import Export
from benchmarks.t2i_compbench.rules.numeracy import Nouns
from harness import command
from harness.data.files import rows
from harness.experts.judge.rubric import Rubric
from harness.files import read_user_rows, read_user_text
from harness.generate import read_request
from harness.stages.syntax import read_module
from policies.images.folder import read_groups
from policies.janus.folder import _json

ANNOTATION = {"prompt": "é", "nouns": [], "attr_nouns": [], "task_type": "color"}
EXPORT = {"model": "m", "version": "1", "prompts": {}}


def given(file: Path) -> Any:
    found = GivenRows(file, lambda row: (row["prompt"], row), str)
    return found.find(["é", "b"])


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "text": ("é\r\nb", read_user_text),
    "rows": ('{"a": "é"}\n', lambda file: list(read_user_rows(file, dict))),
    "captions": ("é\nb\n", compbench.read_captions),
    "prompts": ("é\nb\n", compbench.read_prompts),
    "nouns": ("é - és\n", Nouns.read),
    "annotations": (json.dumps(ANNOTATION, ensure_ascii=False), read_annotations),
    "export": (
        json.dumps({**EXPORT, "prompts": {"é": {"chunks": [], "tokens": []}}}),
        lambda f: Export(f).chunks("é"),
    ),
    "results": ('[{"question_id": 0, "answer": 1}]', lambda f: official._read(f, official.FORMS["clip"], 1)),
    "names": ("é\n", geneval._text),
    "rubric": ("É $prompt", lambda f: Rubric(str(f), "prompt", folder=f.parent).fill({"prompt": "x"})),
    "given": ('{"prompt": "é"}\n{"prompt": "b"}\n', given),
    "JSON array": ('[{"a": "é"}]', lambda file: list(rows(file, ["a"]))),
    "JSON lines": ('{"a": "é"}\n{"a": 2}\n', lambda file: list(rows(file, ["a"]))),
    "model configuration": ('{"model_type": "é"}', lambda file: _json(file, "configuration")),
    "module": ("import json\nx = 'é'\n", lambda file: read_module("named", file)),
}
OTHER_ENCODINGS = sorted(
    {*READERS} - {"module", "model configuration", "export", "results", "JSON array", "JSON lines"}
)


@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, reader: str) -> None:
    text, read = READERS[reader]
    found = []
    for folder, mark in (("plain", b""), ("marked", codecs.BOM_UTF8)):
        file = tmp_path / folder / "file.json"
        file.parent.mkdir()
        file.write_bytes(mark + text.encode())
        found.append(read(file))
    assert found[0] == found[1] and "\ufeff" not in repr(found[1])


@pytest.mark.parametrize("reader", OTHER_ENCODINGS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_another_encoding_is_named_with_the_file(tmp_path: Path, reader: str, encoding: str) -> None:
    text, read = READERS[reader]
    file = tmp_path / "file.json"
    file.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"file\.json"):
        read(file)


def test_a_list_of_prompts_in_utf_16_is_no_list_of_other_prompts(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("a cow\n", encoding="utf-16-le")
    with pytest.raises(
        ValueError, match=r"captions\.txt is not UTF-8 text .*zero bytes.*convert it to UTF-8"
    ):
        compbench.read_captions(file)


def test_the_prompt_beside_images_and_the_prompt_of_a_command(tmp_path: Path) -> None:
    (tmp_path / "00000/samples").mkdir(parents=True)
    (tmp_path / "00000/metadata.jsonl").write_text('{"prompt": "a cow"}', encoding="utf-8-sig")
    (tmp_path / "00000/samples/00000.png").touch()
    assert list(read_groups(tmp_path, ["x"])["x"].images) == ["a cow"]
    assert read_request({"prompt": "\ufeffa cow"}).prompt.text == "a cow"


def test_yaml_of_ones_own_keeps_its_header(tmp_path: Path) -> None:
    file = tmp_path / "ablations" / "marked.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nstudy:\n  name: marked\n", encoding="utf-8-sig")
    with command.composed(["ablations=marked", f"--config-dir={tmp_path}"]) as root:
        assert root.config.study.name == "marked"
