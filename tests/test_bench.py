from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness import bench, provenance
from harness.arguments import UsageError

TOY = Path(__file__).resolve().parent / "toy"


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
