"""One GRPO step timed by part, and two processes against one, with a tiny random Janus."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_gpu
import torch

from harness.gpu import pair, step
from harness.gpu.pair import draw_and_differentiate
from policies.janus.gpu.bench import study

SMALL = (
    "grpo.prompts=2",
    "grpo.samples=2",
    "grpo.rollout_batch=2",
    "grpo.micro_batch=2",
    "grpo.lora.rank=2",
    "rollout.max_chain_tokens=6",
)


@pytest.fixture
def words(make_once):
    folder = make_once("gpu_study", lambda draft: study(tiny_gpu.TINY, draft))

    def named() -> list[str]:
        return [*study(tiny_gpu.TINY, folder), *SMALL]

    return named


def test_a_step_is_timed_by_part_beside_its_memory_and_the_estimate(words):
    found = {measured.name: measured for measured in step.measure(words, "cpu")}
    seconds = {part: found[part].value for part in step.PARTS}
    assert all(value > 0 for value in seconds.values()), seconds
    beside = seconds.pop("rewards")  # another thread may give them
    assert max(beside, sum(seconds.values())) < found["whole step"].value
    assert found["speed"].value == pytest.approx(4 / found["whole step"].value)
    gap = found["gap of sampler and replay"]
    assert gap.at_most == 0.2 and 0 <= gap.value < 0.2
    assert found["peak memory"].value > 0 and found["memory by the estimate of doctor"].value > 0


@pytest.mark.slow
def test_one_and_two_processes_have_the_same_gradient(words, tmp_path):
    found = {measured.name: measured for measured in pair.compare(words, tmp_path, rows=4)}
    difference = found["relative difference of the gradients"]
    assert difference.value <= 1e-5 < difference.at_most
    gradient = torch.load(tmp_path / "processes-2" / "gradient.pt", weights_only=True)
    assert gradient.norm() > 0
    speeds = [found[f"rollout in {name}"].value for name in ("1 process", "2 processes")]
    assert found["gain"].value == pytest.approx(speeds[1] / speeds[0])


def test_another_gradient_fails_the_check(words, tmp_path, monkeypatch):
    def other(processes: int, settings: dict, start: Path, folder: Path) -> None:
        gradient = torch.ones(3) if processes == 1 else torch.tensor([1.0, 1.0, 1.1])
        torch.save(gradient, folder / "gradient.pt")
        (folder / "speed.json").write_text("10.0")

    monkeypatch.setattr(pair, "_in_processes", other)
    difference, *_ = pair.compare(words, tmp_path, rows=4)
    assert difference.value > difference.at_most
    assert f"{draw_and_differentiate.__module__}.{draw_and_differentiate.__name__}" == pair.PROGRAM
