from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness import bench
from harness.composition import groups
from harness.composition.arguments import UsageError
from harness.protocols import Benchmark, Race
from harness.stages import provenance

TOY = Path(__file__).resolve().parent / "toy"
sys.path.append(str(TOY))
from toy_parts import ToyBenchmark, ToyPolicy  # noqa: E402


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Measures the toy world, with no benchmark beside it; returns exit code, lines of stdout, stderr."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(groups, "classes", lambda group: {})

    def run(*words: str) -> tuple[int, list[str], str]:
        code = bench.main(
            [*words, "--config-dir", str(TOY), "ablations=toy", f"outputs_dir={tmp_path / 'outputs'}"]
        )
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_every_figure_names_machine_threads_precision_and_batch(command):
    code, lines, _ = command()
    assert code == 0
    assert [line.split("  ")[0] for line in lines] == [
        "rollout",
        "rollout, chains",
        "rollout, images",
        "climb",
        "score",
        "reward",
    ]
    for line in lines:
        for part in ("batch", "5 repeats", "1 thread, precision of the checkpoint", provenance.hardware()):
            assert part in line


def test_rollouts_are_raced_against_other_systems(command, monkeypatch):
    begun = []

    def races():
        for samples in (8, 32):
            yield Race(
                work="a middling model",
                setting=f"{samples} samples",
                amount=samples,
                unit="samples",
                counts={"chain": 100, "image": 300},
                count_unit="tokens",
                systems={
                    "theirs": lambda: begun.append("theirs") or {"chain": 10.0, "image": 30.0},
                    "ours": lambda: begun.append("ours") or {"chain": 4.0, "image": 12.0},
                },
                floor_s=lambda: 8.0,
            )

    module = ModuleType("raced")
    module.races = races
    monkeypatch.setitem(sys.modules, "raced", module)
    monkeypatch.setattr(ToyPolicy, "races", "raced.races")
    code, lines, _ = command("rollout")
    assert code == 0 and begun == ["theirs", "ours"] * 2
    work, theirs, ours, *_ = lines[3:]
    assert work.startswith("a middling model; 1 thread; ") and len(lines) == 3 + 1 + 4
    assert theirs.split(";")[0].split() == [
        "8",
        "samples",
        "theirs",
        "0.200",
        "samples/s",
        "1.00",
        "x",
        "theirs",
    ]
    assert ours.split(";")[:3] == [
        "8 samples            ours        0.500 samples/s  2.50 x theirs",
        " chain 25 tokens/s, image 25 tokens/s",
        " 16.0 s, 50 % of what the device allows",
    ]
    assert ours.split("peak ")[1].endswith(" MB")


class Racing(Benchmark):
    """A benchmark of the group that would refuse to be constructed."""

    def __init__(self) -> None:
        raise ValueError("a folder is missing")

    races = "mini_races.races"


class Silent(Racing):
    races = None


def test_scoring_is_raced_by_every_benchmark_that_has_races(command, monkeypatch):
    seen = []
    benchmarks = {"racing": Racing, "again": Racing, "silent": Silent, "toy": ToyBenchmark}
    monkeypatch.setattr(groups, "classes", lambda group: seen.append(group) or benchmarks)
    code, lines, _ = command("score")
    assert code == 0 and seen == ["benchmarks"]
    assert [line.split("  ")[0] for line in lines[:2]] == ["score", "reward"]
    questions, *laps, rules, alone = lines[2:]
    assert questions.startswith("questions; 1 thread; ") and rules.startswith("rules; 1 thread; ")
    assert [lap.split("; peak")[0] for lap in laps] == [
        "20 images            official         1.667 images/s  1.00 x official; 13 answers/s; 12.0 s",
        "20 images            image once       5.000 images/s  3.00 x official; 40 answers/s; 4.00 s",
        "20 images            blanks skipped   3.333 images/s  2.00 x official; 27 answers/s; 6.00 s",
        "20 images            ours            10.000 images/s  6.00 x official; 80 answers/s; 2.00 s",
    ]
    assert alone.startswith(
        "3000 images          rules      12,000 images/s; match 36,000 boxes/s; 0.25 s; peak "
    )


def test_the_chosen_benchmark_races_too(command, monkeypatch):
    monkeypatch.setattr(ToyBenchmark, "races", Racing.races)
    _, lines, _ = command("score")
    assert len(lines) == 2 + 5 + 2


def test_steps_are_timed_in_a_folder_that_is_thrown_away(command, tmp_path):
    code, (line,), _ = command("grpo", "trainers.pause_s=0.02")
    assert code == 0
    rate, unit = line.split()[1:3]
    assert unit == "steps/min" and 60 / 0.2 < float(rate.replace(",", "")) < 60 / 0.02
    assert sorted(path.name.rpartition("-")[0] for path in (tmp_path / "outputs" / "stages").iterdir()) == [
        "base",
        "warm",
    ]


def test_too_few_steps_are_no_measurement(command):
    code, lines, err = command("grpo", "trainers.steps=1")
    assert (code, lines) == (2, [])
    assert "too few steps to be timed" in err


def test_a_figure_is_the_median():
    figure = bench.Figure(name="x", amount=10, unit="things/s", seconds=[4.0, 2.0, 100.0], setting="batch 2")
    assert str(figure).split() == [
        "x",
        "2.50",
        "things/s",
        "4",
        "s",
        "(2",
        "to",
        "100,",
        "3",
        "repeats);",
        "batch",
        "2",
    ]


def test_names_come_first_and_are_known():
    assert bench.read_words(["score", "rollout", "score", "seed=1"]) == (["score", "rollout"], ["seed=1"])
    assert bench.read_words(["preset=smoke"]) == (["rollout", "grpo", "score"], ["preset=smoke"])
    with pytest.raises(UsageError, match=r"unknown bench 'rolout'\. Did you mean 'rollout'\?"):
        bench.read_words(["rolout"])
