"""What the documents say of files and commands is true."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra

from harness import bench, command, doctor, fetch, generate, score
from harness.composition import groups
from harness.composition.arguments import prepare
from harness.report import __main__ as report
from harness.status import main as status
from harness.study import planning

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
README = DOCUMENTS[0].read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(
    r"^ {4}(python -m harness\..*?)(?: {2,}#.*)?$|`(python -m harness\.[^`]*)`", re.MULTILINE
)
FILE = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"[=\s\[][A-Z]{3,}\b")  # as in ablations=NAME


def links() -> list:
    found = [(path, link) for path in DOCUMENTS for link in LINK.findall(path.read_text(encoding="utf-8"))]
    return [
        pytest.param(path, link, id=f"{path.name}:{link}")
        for path, link in found
        if not re.match(r"[a-z]+:", link)
    ]


def commands() -> list[str]:
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    found = dict.fromkeys(block or inline for text in texts for block, inline in COMMAND.findall(text))
    return [words for words in found if not PLACEHOLDER.search(words)]


@pytest.mark.parametrize(("path", "link"), links())
def test_a_link_leads_to_a_file(path, link):
    target = (path.parent / link.partition("#")[0]).resolve()
    assert target.is_relative_to(ROOT)
    assert target.exists()


@pytest.fixture
def beside_the_users_files(monkeypatch, tmp_path, prompt_files):
    """The working directory holds the files that the README shows, and the prompts lie where they
    are looked for.
    """
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    for name, text in FILE.findall(README):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")


def test_there_are_commands_of_every_kind():
    assert {words.split()[2] for words in commands()} >= {
        f"harness.{name}" for name in ("sweep", "status", "report", "generate", "bench", "doctor")
    }


@pytest.mark.parametrize("words", commands())
def test_a_command_means_something(beside_the_users_files, words, capsys):
    _, _, module, *rest = shlex.split(words)
    if "--help" in rest:
        return
    if module == "harness.sweep":
        assert plan(prepare(rest)).cells
    elif module == "harness.generate":
        taken, others = command.take(rest, ("prompt", "n", "out"))
        assert generate.read_request(taken).prompt.text
        assert command.choose(others).trained
    elif module == "harness.bench":
        names, others = bench.read_words(rest)
        assert names and command.choose(others).trained
    elif module == "harness.doctor":
        assert doctor.main(rest) in (0, 2) and "Settings" in capsys.readouterr().out
    elif module == "harness.score":
        for word in rest:
            if word.startswith(("samples=", "results=")):
                Path(word.partition("=")[2]).mkdir(parents=True, exist_ok=True)
        assert not rest or command.settings(score.read_request(rest).words)["benchmarks"]
    elif module == "harness.fetch":
        assert set(rest) <= set(fetch.offers())
    elif module == "harness.status":
        assert status(rest) == 2 and "no study" in capsys.readouterr().err
    else:
        assert module == "harness.report"
        assert report.main(rest) == 1 and "error: " in capsys.readouterr().err


def plan(words: list[str]) -> planning.Study:
    """As a sweep plans it; `seed` and `arms` are swept over and never composed."""
    arguments, folder = command.without_flags(words)
    search = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []
    with initialize(version_base="1.3", config_path=None):
        common = [word for word in arguments if not word.startswith(("seed=", "arms="))]
        config = compose("config", [*search, *common], return_hydra_config=True)
        return planning.plan(
            config, GlobalHydra.instance().config_loader(), planning.expand(config, arguments)
        )


def test_the_readmes_own_reward_scores(beside_the_users_files):
    from harness.reward.function import RewardFunction

    cells = plan(
        prepare(shlex.split("ablations=reward_components arm.mine=rewards=brief arms=mine --config-dir my"))
    ).cells
    assert [cell.config["rewards"]["total"] for cell in cells] == ["pi * brief"]
    sys.path.append("my")
    from brevity import Brevity  # type: ignore[import-not-found]

    from harness.chain import parse
    from harness.types import Prompt, Sample, Tokens

    tokens, prompt = Tokens(prompt=(), chain=(), image=()), Prompt(id="p", text="a vase", category="color")
    texts = ["", "a" * 100, "a" * 300, "a" * 900]
    samples = [
        Sample(prompt=prompt, chain=parse(text), image=None, tokens=tokens, logprobs=(), seed=0)
        for text in texts
    ]
    rewards = RewardFunction(total="brief", components={"brief": Brevity(length=200)})(samples)
    assert [reward.total.value for reward in rewards] == [None, 1.0, 0.5, 0.0]


def test_the_file_tree_is_true():
    """Every entry exists, and everything directly within the named folders' first level is named."""
    block = README.partition("## Where things are")[2].split("```")[1]
    entries, folder = [], ""
    for line in block.strip().splitlines():
        name = line.split()[0]
        if line.startswith("  "):
            entries.append(folder + name)
        else:
            entries.append(name)
            folder = name if name.endswith("/") else ""
    assert not [entry for entry in entries if entry != "reports/" and not list(ROOT.glob(entry))]
    there = {
        f"harness/{path.name}" + "/" * path.is_dir()
        for path in (ROOT / "harness").iterdir()
        if not path.name.startswith("__")
    }
    assert there == {entry for entry in entries if re.fullmatch(r"harness/[^/]+/?", entry)}
    assert {f"{name}/" for name in groups.BESIDE} <= set(entries)


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"(?:^ {4}|`)make (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"quickstart", "test"} <= named <= targets
