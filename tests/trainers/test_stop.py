"""A trainer that is asked to stop saves at the end of the step; resumed, it ends with the same bytes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from mini_world import (
    BENCHMARK,
    POLICY,
    REWARDS,
    FakeWorkspace,
    LowCodes,
    dpo_settings,
    grpo_settings,
    sft_settings,
    with_ranks,
)

from harness.composition.components import make
from harness.stages import program, ranks, stop
from harness.types import Sample, Score

ONLY_AT_THE_END = 1000  # steps between periodic checkpoints
Trained = Callable[..., list[dict[str, Any]]]

pytestmark = pytest.mark.usefixtures("handlers")


class Signaled(FakeWorkspace):
    """Its process gets a signal after a step, before the program decides whether to save."""

    at: int | None = None

    def progress(self, step: int, total: int, metrics: Any = None) -> None:
        super().progress(step, total, metrics)
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


class AbsentJudge(LowCodes):
    """Does not answer its call `absent` until `is_back`; a stop is requested meanwhile."""

    calls = 0
    absent = 2
    is_back = False

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        AbsentJudge.calls += 1
        if self.calls == self.absent and not self.is_back:
            threading.Timer(0.2, stop.request, [signal.SIGTERM]).start()
            time.sleep(600)
        return super().__call__(samples)


@pytest.fixture
def trained(janus_folder: Path, tokens_folder: Path) -> Trained:
    """Runs a program in a folder, with a signal after a step; returns what it reports."""
    inputs = {"start": janus_folder.parent, "tokens": tokens_folder}

    def run(
        path: str, settings: dict[str, Any], folder: Path, at: int | None = None, processes: int = 1
    ) -> list[dict[str, Any]]:
        stop.install()
        work = Signaled(folder)
        work.at = at
        named = {name: str(source) for name, source in inputs.items()}
        call = ranks.ProgramCall(program=path, settings=settings, inputs=named, folder=str(folder))
        with with_ranks(call, processes) if processes > 1 else nullcontext():
            program.run(path, work, settings, inputs)
        return [{**line, "seconds": 0} for line in work.lines]

    return run


def weights(folder: Path) -> bytes:
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


def tokenizer_settings() -> dict[str, Any]:
    policy = {**POLICY, "vq": POLICY["vq"] | {"steps": 4}}
    config = {"policies": policy, "benchmarks": BENCHMARK, "sft_seed": 3}
    return dict(make(policy).start(config).settings)


GRPO = grpo_settings(steps=4, prompts=4, checkpoint_every=ONLY_AT_THE_END)
DPO = dpo_settings(steps=4, pairs=4, renew_every=1, checkpoint_every=ONLY_AT_THE_END)
SFT = sft_settings(steps=4, batch_size=4, checkpoint_every=ONLY_AT_THE_END)


@pytest.mark.parametrize(
    ("path", "settings", "processes"),
    [
        ("harness.trainers.grpo.train", GRPO, 1),
        ("harness.trainers.grpo.train", GRPO, 2),
        ("harness.trainers.grpo.train", {**GRPO, "grpo": GRPO["grpo"] | {"rollout_batch": 4}}, 2),
        ("harness.trainers.dpo.train", DPO, 2),
        ("harness.trainers.sft.train", SFT, 1),
        ("harness.trainers.sft.train", {**SFT, "sft": SFT["sft"] | {"fsdp": True}}, 2),
        ("policies.janus.tiny.build", tokenizer_settings(), 1),
    ],
    ids=["grpo-1", "grpo-2", "grpo-2-parts", "dpo-2", "sft-1", "sft-2", "tokenizer"],
)
def test_a_stop_loses_no_step_and_changes_no_bit(
    trained: Trained, tmp_path: Path, path: str, settings: dict[str, Any], processes: int
) -> None:
    whole = trained(path, settings, tmp_path / "whole", processes=processes)
    cut = tmp_path / "cut"
    with pytest.raises(stop.Stopped) as stopped:
        trained(path, settings, cut, at=2, processes=processes)
    assert stopped.value.signal == signal.SIGTERM and not (cut / "checkpoint").exists()
    rest = trained(path, settings, cut, processes=processes)
    assert rest == whole[2:] and len(rest) == 2
    assert weights(cut) == weights(tmp_path / "whole")


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        ("harness.trainers.grpo.train", GRPO),
        ("harness.trainers.dpo.train", DPO),
        ("harness.trainers.sft.train", SFT),
        ("policies.janus.tiny.build", tokenizer_settings()),
    ],
    ids=["grpo", "dpo", "sft", "tokenizer"],
)
def test_after_its_last_step_a_trainer_ends_as_if_nobody_had_asked(
    trained: Trained, tmp_path: Path, path: str, settings: dict[str, Any]
) -> None:
    assert len(trained(path, settings, tmp_path, at=4)) == 4
    assert weights(tmp_path)
    with pytest.raises(stop.Stopped):
        stop.check()


@pytest.mark.parametrize(
    ("steps", "rollout_batch", "absent"),
    [(4, None, 2), (2, None, 2), (4, 5, 4), (4, 5, 6)],
    ids=["in the middle", "in the last step", "in the first part", "in the last part"],
)
def test_a_judge_that_does_not_answer_is_not_waited_for(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    rollout_batch: int | None,
    absent: int,
) -> None:
    monkeypatch.setattr(AbsentJudge, "calls", 0)
    monkeypatch.setattr(AbsentJudge, "absent", absent)
    judge = {"_target_": f"{__name__}.AbsentJudge", "silent": "x"}
    present = {**GRPO, "grpo": GRPO["grpo"] | {"steps": steps, "rollout_batch": rollout_batch}}
    settings = {**present, "rewards": {**REWARDS, "components": {"low": judge}}}
    whole = trained("harness.trainers.grpo.train", present, tmp_path / "whole")
    began = time.monotonic()
    with pytest.raises(stop.Stopped):
        trained("harness.trainers.grpo.train", settings, tmp_path / "cut")
    assert time.monotonic() - began < 120
    monkeypatch.setattr(AbsentJudge, "is_back", True)
    rest = trained("harness.trainers.grpo.train", settings, tmp_path / "cut")
    assert rest == whole[1:], "the first step is done, and the second was not trained"
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_stop_while_pairs_are_drawn_loses_none(trained: Trained, tmp_path: Path) -> None:
    offline = {**DPO, "dpo": DPO["dpo"] | {"renew_every": None}}
    whole = trained("harness.trainers.dpo.train", offline, tmp_path / "whole")
    with pytest.raises(stop.Stopped):
        trained("harness.trainers.dpo.train", offline, tmp_path / "cut", at=2)
    rest = trained("harness.trainers.dpo.train", offline, tmp_path / "cut")
    assert rest == whole[2:], "the pairs of two steps were there"
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_judge_that_is_absent_in_the_last_round_ends_no_training(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AbsentJudge, "calls", 0)
    two = {**DPO, "dpo": DPO["dpo"] | {"steps": 2}}
    whole = trained("harness.trainers.dpo.train", two, tmp_path / "whole")
    judge = {"_target_": f"{__name__}.AbsentJudge", "silent": "x"}
    settings = {**two, "rewards": {**REWARDS, "components": {"low": judge}}}
    with pytest.raises(stop.Stopped):
        trained("harness.trainers.dpo.train", settings, tmp_path / "cut")
    monkeypatch.setattr(AbsentJudge, "is_back", True)
    assert trained("harness.trainers.dpo.train", settings, tmp_path / "cut") == whole[1:]
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
