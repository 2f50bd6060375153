from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import command
from harness.composition.arguments import UsageError
from harness.protocols import ImageSource
from harness.stages.keys import key
from harness.stages.store import StorageError
from harness.types import Stage

TOY = Path(__file__).resolve().parent / "toy"


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The cell that words mean in the toy world."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return lambda *words: command.choose(
        ["--config-dir", str(TOY), "ablations=toy", f"outputs_dir={tmp_path / 'outputs'}", *words]
    )


def test_without_an_ablation_it_is_the_studys_full_arm():
    alone = command.choose([])
    arm = command.choose(["ablations=reward_components"])
    assert alone.trained.name == "grpo"
    assert arm.cell.arm == "full"
    assert key(alone.cell.stages[-1]) == key(arm.cell.stages[-1])


def test_trainers_sft_is_the_studys_baseline():
    assert key(command.choose(["trainers=sft"]).trained) == key(
        command.choose(["ablations=reward_components", "arms=baseline"]).trained
    )


def test_a_total_and_a_seed_choose_another_checkpoint():
    keys = {key(command.choose(words).trained) for words in ([], ["rewards.total=pi*ri"], ["seed=1"])}
    assert len(keys) == 3


def test_planning_needs_no_torch():
    code = """
import sys
from harness import bench, command, generate
command.choose([])
print("torch" in sys.modules)
"""
    root = Path(__file__).resolve().parents[1]
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "False"


def test_an_arm_of_ones_own_and_one_of_the_study(toy):
    assert toy().cell.arm == "full"
    assert toy("arms=half").cell.arm == "half"
    mine = toy("arm.mine=rewards.components.glow.gain=0.75", "arms=mine", "resources.threads=2")
    assert (mine.cell.arm, mine.threads, mine.trained.settings["gain"]) == ("mine", 2, 0.75)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["seed=0,1"], ["seed=0,1 gives several values", "give one value"]),
        (["arms=[half,full]"], ["these words describe 2 cells", "arms=NAME"]),
        (["arms=ful"], ["unknown arm 'ful'", "Did you mean 'full'?"]),
        (["policies.start=7"], ["policies.start=7: give a brightness from 0 to 1"]),
        (["resources.threads=0"], ["resources.threads=0: give a whole number from 1"]),
        (["circle"], ["'circle' is not KEY=VALUE", "needs quotes around the whole"]),
        (["--config-dir", "no such folder"], ["no such folder", "rewards/NAME.yaml"]),
        (["--cfg", "job"], ["unknown flag '--cfg'", "--config-dir FOLDER"]),
    ],
)
def test_a_mistake_is_answered(toy, words, parts):
    with pytest.raises(UsageError) as error:
        toy(*words)
    for part in parts:
        assert part in str(error.value)


class Album(ImageSource):
    """A policy of pictures that exist already."""

    def samples(self, config):
        return Stage(name="samples", program="json.dumps", settings={})


def test_a_policy_of_pictures_draws_none(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "album", sys.modules[__name__])
    chosen = toy("policies._target_=album.Album", "~policies.start", "trainers=frozen")
    assert chosen.samples.program == "json.dumps"
    with pytest.raises(UsageError, match="policies=images reads images and draws none") as error:
        chosen.trained  # noqa: B018
    assert "harness.score samples=FOLDER" in str(error.value)


def test_an_unknown_name_ends_with_2_and_the_nearest(capsys):
    def program(words):
        command.choose(words)

    assert command.run(program, ["polices=tiny_janus"], "") == 2
    assert "Did you mean 'policies'?" in capsys.readouterr().err
    assert command.run(program, ["policies=tiny_janu"], "") == 2
    assert "Did you mean 'tiny_janus'?" in capsys.readouterr().err


def test_a_folder_with_spaces_is_a_configuration_folder(tmp_path):
    (tmp_path / "my own" / "rewards").mkdir(parents=True)
    (tmp_path / "my own" / "rewards" / "gentle.yaml").write_text(
        "defaults: [got_r1, _self_]\ntotal: (pi + ri) / 2\n"
    )
    chosen = command.choose(["rewards=gentle", f"--config-dir={tmp_path / 'my own'}"])
    assert chosen.trained.settings["rewards"]["total"] == "(pi + ri) / 2"


def test_words_of_the_command_are_taken_raw():
    taken, rest = command.take(["prompt=a=b, {c} ${d} 'e'", "seed=1", "n=2"], ("prompt", "n"))
    assert taken == {"prompt": "a=b, {c} ${d} 'e'", "n": "2"}
    assert rest == ["seed=1"]
    with pytest.raises(UsageError, match="n= is given twice, as '1' and '2'"):
        command.take(["n=1", "n=2"], ("n",))


def test_help_lists_the_groups(capsys):
    assert command.run(lambda words: pytest.fail("it ran"), ["x=1", "--help"], "how to use it\n") == 0
    shown = capsys.readouterr().out
    assert (
        shown.startswith("how to use it") and "trainers: dpo, frozen, grpo, sft, sft_dpo, sft_grpo" in shown
    )


def test_it_says_what_is_made_first_and_how_long_a_like_one_took(toy, capsys):
    first = toy()
    folder = command.obtain(first.trained, first.store)
    assert json.loads((folder / "checkpoint" / "weight.json").read_text()) > 0.2
    said = capsys.readouterr().err
    assert "to be made first" in said and "none was made here yet" in said
    assert [word in said for word in ("base", "warm", "climb")] == [True] * 3
    assert "10/10" in said

    assert command.obtain(first.trained, first.store) == folder
    assert capsys.readouterr().err == ""

    other = toy("seed=1")
    command.obtain(other.trained, other.store)
    said = capsys.readouterr().err
    assert "climb        about 0s, as a similar one took" in said and "warm " not in said


def test_the_most_similar_stage_tells_the_time(toy, capsys):
    slow, quick = toy("trainers.steps=8", "seed=1"), toy("arms=half")
    for chosen, seconds in ((slow, 7200.0), (quick, 61.0)):
        record = command.obtain(chosen.trained, chosen.store) / "stage.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "seconds": seconds}))
    capsys.readouterr()
    command.obtain(toy().trained, quick.store)
    assert "about 1m01s, as a similar one took" in capsys.readouterr().err


def test_outputs_that_cannot_be_written(toy, tmp_path):
    (tmp_path / "file").write_text("")
    chosen = toy(f"outputs_dir={tmp_path / 'file'}")
    with pytest.raises(StorageError, match="outputs_dir=FOLDER"):
        command.obtain(chosen.trained, chosen.store)


def test_a_failing_stage_that_the_user_wrote_is_reported_without_a_traceback(toy, capsys):
    def program(words):
        raise ValueError("the benchmark gave no training prompts")

    assert command.run(program, [], "") == 1
    assert capsys.readouterr().err == "error: the benchmark gave no training prompts\n"


def test_progress_is_printed_every_five_seconds_and_never_twice_the_same(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = command.LineReporter()
    stage = Stage(name="sft", program="json.dumps", settings={})
    lines.begin(stage)
    for step in (*range(1, 13), 12, 12):
        lines.progress(step, 12, {"reward": None})
        now += 2.0
    shown = [line.split()[2:] for line in capsys.readouterr().err.splitlines()]
    assert [words[0] for words in shown] == ["1/12", "4/12", "7/12", "10/12", "12/12", "12/12", "12/12"]
    assert shown[1] == ["4/12", "ETA", "16s", "elapsed", "6s"]
    assert len(set(map(tuple, shown))) == len(shown)


def test_waiting_for_another_process_is_printed_in_the_same_way(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = command.LineReporter()
    for _ in range(25):
        lines.wait(Stage(name="sft", program="json.dumps", settings={}), None)
        now += 0.5
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3 and shown[0].split() == ["sft", "waiting", "waits", "for", "another", "process"]
