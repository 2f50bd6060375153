from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness import bench, provenance
from harness.arguments import UsageError
from harness.protocols import Race

TOY = Path(__file__).resolve().parent / "toy"
sys.path.append(str(TOY))
from toy_parts import ToyPolicy  # noqa: E402


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Measures the toy world; returns exit code, lines of stdout, stderr."""
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def run(*words: str) -> tuple[int, list[str], str]:
        code = bench.main([*words, "--config-dir", str(TOY), "ablations=toy", f"outputs_dir={tmp_path / 'outputs'}"])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_every_figure_names_machine_threads_precision_and_batch(command):
    code, lines, _ = command()
    assert code == 0
    assert [line.split("  ")[0] for line in lines] == ["rollout", "rollout, chains", "rollout, images", "climb", "score", "reward"]
    for line in lines:
        for part in ("batch", "5 repeats", "1 thread, precision of the checkpoint", provenance.hardware()):
            assert part in line


def test_rollouts_are_raced_against_other_systems(command, monkeypatch):
    begun = []

    def races(_):
        for samples in (8, 32):
            yield Race(
                work="a middling model",
                setting=f"{samples} samples",
                samples=samples,
                tokens={"chain": 100, "image": 300},
                systems={
                    "theirs": lambda: begun.append("theirs") or {"chain": 10.0, "image": 30.0},
                    "ours": lambda: begun.append("ours") or {"chain": 4.0, "image": 12.0},
                },
                floor_s=lambda: 8.0,
            )

    monkeypatch.setattr(ToyPolicy, "races", races, raising=False)
    code, lines, _ = command("rollout")
    assert code == 0 and begun == ["theirs", "ours"] * 2
    work, theirs, ours, *_ = lines[3:]
    assert work.startswith("a middling model; 1 thread; ") and len(lines) == 3 + 1 + 4
    assert theirs.split(";")[0].split() == ["8", "samples", "theirs", "0.200", "samples/s", "1.00", "x", "theirs"]
    assert ours.split(";")[:3] == [
        "8 samples            ours        0.500 samples/s  2.50 x theirs",
        " chain 25 tokens/s, image 25 tokens/s",
        " 16.0 s, 50 % of what the device allows",
    ]
    assert ours.split("peak ")[1].endswith(" MB")


def test_steps_are_timed_in_a_folder_that_is_thrown_away(command, tmp_path):
    code, (line,), _ = command("grpo", "trainers.pause_s=0.02")
    assert code == 0
    rate, unit = line.split()[1:3]
    assert unit == "steps/min" and 60 / 0.2 < float(rate.replace(",", "")) < 60 / 0.02
    assert sorted(path.name.rpartition("-")[0] for path in (tmp_path / "outputs" / "stages").iterdir()) == ["base", "warm"]


def test_too_few_steps_are_no_measurement(command):
    code, lines, err = command("grpo", "trainers.steps=1")
    assert (code, lines) == (2, [])
    assert "too few steps to be timed" in err


def test_a_figure_is_the_median():
    figure = bench.Figure(name="x", amount=10, unit="things/s", seconds=[4.0, 2.0, 100.0], setting="batch 2")
    assert str(figure).split() == ["x", "2.50", "things/s", "4", "s", "(2", "to", "100,", "3", "repeats);", "batch", "2"]


def test_names_come_first_and_are_known():
    assert bench.read_words(["score", "rollout", "score", "seed=1"]) == (["score", "rollout"], ["seed=1"])
    assert bench.read_words(["preset=smoke"]) == (["rollout", "grpo", "score"], ["preset=smoke"])
    with pytest.raises(UsageError, match=r"unknown bench 'rolout'\. Did you mean 'rollout'\?"):
        bench.read_words(["rolout"])
