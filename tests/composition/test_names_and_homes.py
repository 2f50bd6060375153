"""Names stay as they are typed, and `~` is the home folder wherever a path stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import command, fetch, generate, score, status
from harness.composition.arguments import UsageError, prepare
from harness.composition.components import make, with_homes
from harness.data.got import _files
from harness.experts.judge.rubric import Rubric
from harness.paths import cache, user_path
from harness.study.planning import expand, plan

NAMES = ["2026_11_27", "2026-11-27", "1e3", "0x1F", "007", "true", "Off", "null", "a.b"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("ablation", [[], ["ablations=reward_components", "arms=full"]])
@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_the_name_that_was_typed(tmp_path: Path, name: str, ablation: list[str]) -> None:
    words = [*ablation, f"study.name={name}", f"outputs_dir={tmp_path}"]
    with command.composed(words) as root:
        study = plan(root.config, root.loader, expand(root.config, root.overrides))
    assert study.name == name and study.folder == tmp_path / "studies" / name
    assert study.cells[0].arm == ("full" if ablation else name)


@pytest.mark.parametrize("name", ["true", "on", "no", "NaN"])
def test_an_arm_has_the_name_that_was_typed(name: str) -> None:
    words = ["ablations=reward_components", f"arm.{name}=grpo.steps=2", f"arms={name},full"]
    with command.composed(words) as root:
        study = plan(root.config, root.loader, expand(root.config, root.overrides))
    assert [cell.arm for cell in study.cells] == [name, "full"]


def test_words_of_names_that_hydra_reads_as_texts_stay() -> None:
    words = [
        "study.name=mine",
        "arms=full,w_PI",
        "arms=[full,w_PI]",
        "arms=null",
        "reports_dir=null",
        "seed=0,1",
    ]
    assert prepare(words) == words
    assert prepare(["outputs_dir=2026_11_27"]) == ['outputs_dir="2026_11_27"']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  name: 2026_11_27", "study.name is 20261127 in its YAML, and no text: put the name in quotes"),
        ("  name: mine\n  arms: {on: [seed=1]}", "an arm is True in its YAML, and no text: put its name in"),
    ],
)
def test_a_name_of_a_file_that_yaml_reads_as_no_text_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "mine.yaml").write_text(f"# @package _global_\nstudy:\n{text}\n")
    with (
        command.composed(["ablations=mine", f"--config-dir={tmp_path}"]) as root,
        pytest.raises(UsageError, match=message),
    ):
        plan(root.config, root.loader, expand(root.config, root.overrides))


def test_status_knows_a_study_by_the_name_that_was_typed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "outputs" / "studies" / "2026_11_27"
    folder.mkdir(parents=True)
    facts = {"study": {}, "command": "sweep", "created": "now", "cells": []}
    (folder / "plan.json").write_text(json.dumps(facts))
    assert status.main(["2026_11_27", "--outputs", "~/outputs"]) == 0
    assert capsys.readouterr().out.startswith("2026_11_27: 0 of 0")


def test_a_path_begins_at_home(home: Path) -> None:
    assert user_path("~/a b") == home / "a b" and user_path("~") == home and user_path("a/~") == Path("a/~")
    with pytest.raises(ValueError, match="~nobody-here/x"):
        user_path("~nobody-here/x")


def test_every_setting_that_is_a_path_begins_at_home(home: Path) -> None:
    settings = {"a": "~/x", "b": ["~", {"c": "~/y z/*.json"}], "d": "~nobody-here", "e": "~ 5 and /", "f": 1}
    assert with_homes(settings) == {
        "a": f"{home}/x",
        "b": [str(home), {"c": f"{home}/y z/*.json"}],
        "d": "~nobody-here",
        "e": "~ 5 and /",
        "f": 1,
    }
    assert make({"_target_": "pathlib.Path", "_args_": ["~/x"]}) == home / "x"


def test_the_folders_of_a_command_begin_at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "my").mkdir()
    assert prepare(["--config-dir=~/my"]) == [f"--config-dir={home}/my"]
    assert prepare(["--config-dir", "~/my"]) == ["--config-dir", f"{home}/my"]
    chosen = command.choose(["outputs_dir=~/outputs", "--config-dir", "~/my"])
    assert chosen.store.root == home / "outputs" / "stages"
    assert generate.read_request({"prompt": "x", "out": "~/drawn"}).out == home / "drawn"
    request = score.read_request(["samples=~/my", "out=~/scored"])
    assert (request.folder, request.out) == (home / "my", home / "scored")
    assert score.read_request(["results=~/my"]).folder == home / "my"
    places = []
    monkeypatch.setattr(fetch, "get_method", lambda _: places.append)
    fetch.fetch(["geneval", "to=~/geneval"])
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cached")
    assert places == [home / "geneval"] and cache("x").is_relative_to(home / "cached")


def test_files_of_settings_and_variables_begin_at_home(
    home: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "geneval").symlink_to(data_dir / "geneval")
    (home / "found.jsonl").touch()
    monkeypatch.setenv("GENEVAL_DIR", "~/geneval")
    words = ["benchmarks=geneval", "trainers=frozen", "benchmarks.scoring.given=~/found.jsonl"]
    benchmark = command.settings(words)["benchmarks"]
    assert benchmark["root"] == f"{home}/geneval"
    made = make(benchmark)
    assert made.external == (f"{home}/geneval", f"{home}/found.jsonl")
    (home / "a.json").touch()
    assert _files("shards", ["~/*.json"], (".json",), "files") == [home / "a.json"]
    (home / "mine.txt").write_text("How good is $prompt?")
    assert Rubric("~/mine.txt", "prompt", folder=home / "none").fill({"prompt": "it"}) == "How good is it?"


def test_a_list_of_paths_on_the_command_line_begins_at_home() -> None:
    assert prepare(["benchmarks.captions=[~/a.txt,b.txt]"]) == ['benchmarks.captions=["~/a.txt",b.txt]']
