"""Links, commands, files and names in the documents are true.

A command is a line of a fenced block, or an inline code span, that starts with `python -m harness` or
`got-r1`. It is composed, planned or run here, except that

* `docs/plugins.md` belongs to `test_plugins.py`, which runs its commands with that page's files;
* words with FOLDER or FILE are only composed, because nothing lies there;
* words with another placeholder in capitals (`ablations=NAME`) are not commands.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from PIL import Image

from harness import bench, cancel, command, doctor, fetch, generate, score
from harness.chain import format_chain
from harness.composition import groups
from harness.composition.arguments import prepare
from harness.report import __main__ as report
from harness.status import main as status
from harness.study import planning
from harness.types import Box, PlannedObject

ROOT = Path(__file__).resolve().parents[1]
MANUALS = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *MANUALS]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STARTED = (ROOT / "docs" / "getting_started.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
FILE = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"[=\s\[][A-Z]{3,}\b")
ABSENT = re.compile(r"=?\b(FOLDER|FILE)\b")
MAKE = re.compile(r"make (?:[A-Z]+=\S+ )?(\w+)")

ENTRIES = sorted(path.name for path in ROOT.iterdir() if path.name not in ("outputs", ".venv"))


def links() -> list:
    cases = []
    for path in DOCUMENTS:
        for link in LINK.findall(path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", link):
                cases.append(pytest.param(path, link, id=f"{path.name}:{link}"))
    return cases


def code(text: str) -> list[str]:
    """Lines of fenced shell blocks, without remarks, then inline code spans on one line."""
    lines = []
    for language, body in BLOCK.findall(text):
        if language in ("bash", "console"):
            lines += [re.sub(r" {2,}#.*", "", line).strip() for line in body.splitlines()]
    return lines + [span for span in SPAN.findall(BLOCK.sub("", text)) if "\n" not in span]


def module_words(words: str) -> str:
    """`got-r1 NAME ...` and `python -m harness NAME ...` as `python -m harness.NAME ...`."""
    return re.sub(r"^(?:got-r1|python -m harness) (?=\w)", "python -m harness.", words)


def commands() -> list[str]:
    found: dict[str, None] = {}
    for path in DOCUMENTS:
        if path.name == "plugins.md":
            continue
        for words in code(path.read_text(encoding="utf-8")):
            command_line = module_words(words)
            if command_line.startswith("python -m harness.") and not PLACEHOLDER.search(
                ABSENT.sub("", words)
            ):
                found[command_line] = None
    return list(found)


def anchor(heading: str) -> str:
    """The name that a page gives to a heading, as hosts of Git repositories do."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(("path", "link"), links())
def test_a_link_leads_to_a_file_and_a_heading(path, link):
    name, _, part = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    assert target.is_relative_to(ROOT)
    assert target.exists()
    if part:
        assert part in map(anchor, HEADING.findall(target.read_text(encoding="utf-8")))


@pytest.fixture
def beside_the_users_files(monkeypatch, tmp_path, prompt_files):
    """The working directory holds the files that are shown, and the prompts lie where they are looked for."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    for name, text in FILE.findall(STARTED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")


def test_there_are_commands_of_every_kind():
    modules = {words.split()[2] for words in commands()}
    names = ("sweep", "status", "cancel", "report", "generate", "bench", "doctor", "fetch", "score")
    assert modules == {f"harness.{name}" for name in names}


def test_the_words_got_r1_and_python_m_harness_run_those_commands():
    from harness.__main__ import COMMANDS

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"got-r1": "harness.__main__:main"}
    assert {words.split()[2] for words in commands()} == {f"harness.{name}" for name in COMMANDS}


@pytest.mark.parametrize("words", commands())
def test_a_command_means_something(beside_the_users_files, words, capsys):
    _, _, module, *rest = shlex.split(words)
    if "--help" in rest:
        return
    if module == "harness.score":
        for word in rest:
            if word.startswith(("samples=", "results=")):
                Path(word.partition("=")[2]).mkdir(parents=True, exist_ok=True)
        assert not rest or command.settings(score.read_request(rest).words)["benchmarks"]
    elif module == "harness.sweep":
        assert composed(rest).study.name if ABSENT.search(words) else plan(rest).cells
    elif module == "harness.generate":
        taken, others = command.take(rest, ("prompt", "plan", "n", "out"))
        if taken.get("plan", "").endswith(".txt"):
            chain = format_chain(PlannedObject(name="yellow diamond", box=Box(0, 0, 500, 500)))
            Path(taken["plan"]).write_text(chain, encoding="utf-8")
        assert generate.read_request(taken).prompt.text
        assert command.settings(others)["policies"]
        assert ABSENT.search(words) or command.choose(others).trained
    elif module == "harness.bench":
        names, others = bench.read_words(rest)
        assert names and command.choose(others).trained
    elif module == "harness.doctor":
        assert doctor.main(rest) in (0, 2) and "Settings" in capsys.readouterr().out
    elif module == "harness.fetch":
        assert set(rest) <= set(fetch.offers())
    elif module in ("harness.status", "harness.cancel"):
        main = status if module == "harness.status" else cancel.main
        assert main(rest) == 2 and "no study" in capsys.readouterr().err
    else:
        assert module == "harness.report"
        assert report.main(rest or ["reward_components"]) == 1 and "error: " in capsys.readouterr().err


def composed(words: list[str]) -> DictConfig:
    """The root configuration of a sweep; `seed` and `arms` are swept over and never composed."""
    arguments, search = _read(words)
    with initialize(version_base="1.3", config_path=None):
        return compose("config", [*search, *_common(arguments)], return_hydra_config=True)


def plan(words: list[str]) -> planning.Study:
    """As a sweep plans it."""
    arguments, search = _read(words)
    with initialize(version_base="1.3", config_path=None):
        config = compose("config", [*search, *_common(arguments)], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        return planning.plan(config, loader, planning.expand(config, arguments))


def _read(words: list[str]) -> tuple[list[str], list[str]]:
    arguments, folder = command.without_flags(prepare(words))
    return arguments, [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []


def _common(arguments: list[str]) -> list[str]:
    return [word for word in arguments if not word.startswith(("seed=", "arms="))]


def test_the_reward_that_is_shown_scores(beside_the_users_files):
    from harness.reward.function import RewardFunction

    words = "ablations=reward_components arm.mine=rewards=brief arms=mine --config-dir my"
    cells = plan(shlex.split(words)).cells
    assert [cell.config["rewards"]["total"] for cell in cells] == ["pi * brief"]
    sys.path.append("my")
    from brevity import Brevity

    from harness.chain import parse
    from harness.types import Prompt, Sample, Tokens

    tokens, prompt = Tokens(prompt=(), chain=(), image=()), Prompt(id="p", text="a vase", category="color")
    image = Image.new("RGB", (1, 1))
    samples = [
        Sample(prompt=prompt, chain=parse(text), image=image, tokens=tokens, logprobs=(), seed=0)
        for text in ["", "a" * 100, "a" * 300, "a" * 900]
    ]
    rewards = RewardFunction(total="brief", components={"brief": Brevity(length=200)})(samples)
    assert [reward.total.value for reward in rewards] == [None, 1.0, 0.5, 0.0]


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named: set[str] = set()
    for path in DOCUMENTS:
        for words in code(path.read_text(encoding="utf-8")):
            if target := MAKE.match(words):
                named.add(target[1])
    assert {"quickstart", "test", "smoke", "check", "format"} <= named <= targets


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 130
    assert not [line for line in lines if len(line) > 140]


def test_the_readme_leads_to_every_manual():
    assert {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(README)} >= set(MANUALS)


# docs/architecture.md: an inline code span without spaces is a path if its first part is an entry of the
# repository, or if it ends in .py, .yaml or .md. `PATH.py:NAME` and `PATH.py:CLASS.NAME` also name something
# in that file. A `*` stands for any name. Spans with other first parts (`outputs/...`, `checkpoint/...`) are
# written by runs.


def is_path(span: str) -> bool:
    path = span.partition(":")[0]
    if re.search(r"\s|[<>={}$]", span):
        return False
    return path.endswith((".py", ".yaml", ".md")) or ("/" in path and path.partition("/")[0] in ENTRIES)


def paths_named(text: str) -> list[str]:
    return sorted({span for span in SPAN.findall(BLOCK.sub("", text)) if is_path(span)})


def exists(span: str) -> bool:
    """Whether the path exists in the repository, and defines the name behind it."""
    path, _, name = span.partition(":")
    if "*" in path:
        return bool(list(ROOT.glob(path)))
    if not name:
        return (ROOT / path).exists()
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for part in name.split("."):
        definitions = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        node = next((node for node in definitions if node.name == part), None)
        if node is None:
            return False
        body = node.body
    return True


@pytest.mark.parametrize("span", paths_named(ARCHITECTURE))
def test_a_path_that_the_architecture_page_names_exists(span):
    assert exists(span)


def test_the_architecture_page_names_every_package_of_the_harness():
    packages = [path.parent.relative_to(ROOT) for path in sorted((ROOT / "harness").rglob("__init__.py"))]
    spans = set(SPAN.findall(BLOCK.sub("", ARCHITECTURE)))
    folders = {f"{path.as_posix()}/" for path in packages if path.name != "harness"}
    assert folders and not folders - spans
    assert {f"{name}/" for name in groups.BESIDE} <= spans


def test_the_architecture_page_begins_with_a_drawing():
    assert re.match(r"# Architecture\n\n```", ARCHITECTURE)


@pytest.mark.parametrize(
    ("span", "here"),
    [
        ("harness/types.py", True),
        ("harness/study/planning.py:expand", True),
        ("harness/stages/store.py:StageStore.make", True),
        ("harness/*.py", True),
        ("harness/type.py", False),
        ("harness/study/planning.py:expands", False),
        ("harness/stages/store.py:StageStore.makes", False),
        ("nowhere/*.py", False),
    ],
)
def test_the_check_of_paths_can_fail(span, here):
    assert is_path(span) and exists(span) is here


@pytest.mark.parametrize(
    "span", ["outputs/studies/STUDY/", "seed", "a/b c", "component/<name>", "sft.steps=0"]
)
def test_what_runs_write_is_no_path_of_the_repository(span):
    assert not is_path(span)
