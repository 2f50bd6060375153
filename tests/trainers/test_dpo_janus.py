"""The `dpo` program on a tiny Janus: rounds of pairs, kills between and within them, LoRA, two processes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mini_world import BENCHMARK, FakeWorkspace, Interrupted, dpo_settings, with_ranks
from safetensors.torch import load_file

from harness.files import read_rows
from harness.stages import program, ranks
from harness.trainers import dpo

LORA = {"rank": 2, "alpha": 4, "targets": r".*language_model.*\.(q|v)_proj"}


def weights(work: FakeWorkspace) -> bytes:
    return (work.folder / "checkpoint" / "model.safetensors").read_bytes()


def trained_lines(work: FakeWorkspace) -> list[dict[str, Any]]:
    """The last report of every training step."""
    last = {line["step"]: {**line, "seconds": 0} for line in work.lines if "loss" in line}
    return list(last.values())


class Killed(FakeWorkspace):
    """Ends by an exception at its report number `at`, counted from 1, whatever it reports."""

    at: int | None = None

    def progress(self, step: int, total: int, metrics: Any = None) -> None:
        super().progress(step, total, metrics)
        if len(self.lines) == self.at:
            raise Interrupted


@pytest.mark.parametrize("at", range(1, 8), ids="report-{}".format)
@pytest.mark.parametrize(
    "settings",
    [dpo_settings(), dpo_settings({"guidance": 3.0}, renew_every=2, lora=LORA)],
    ids=["offline", "renewed-guided-lora"],
)
def test_a_killed_run_ends_in_the_same_bytes(
    train, janus_folder: Path, tmp_path: Path, settings: dict[str, Any], at: int
) -> None:
    """Reports 1 to 3 come while the offline round is drawn; 1 and 4 while those of two steps are."""
    whole = train(dpo.train, settings)
    work = Killed(tmp_path / "stage")
    work.at = at
    inputs = {"start": janus_folder.parent}
    if at <= len(whole.lines):
        with pytest.raises(Interrupted):
            dpo.train(work, settings, inputs)
        assert not (work.folder / "checkpoint").exists()
    work.at = None
    dpo.train(work, settings, inputs)
    assert trained_lines(work) == trained_lines(whole)
    assert weights(work) == weights(whole)


def test_a_resumed_round_draws_nothing_twice(train, janus_folder: Path, tmp_path: Path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(dpo, "_draw", lambda *a, _draw=dpo._draw: drawn.append(a[-1]) or _draw(*a))
    work = Killed(tmp_path / "stage")
    work.at = 2
    for _ in range(2):
        try:
            dpo.train(work, dpo_settings(), {"start": janus_folder.parent})
        except Interrupted:
            work.at = None
    assert drawn == [0, 1, 2, 3]


def test_all_steps_of_an_offline_run_train_on_pairs_of_the_start(train) -> None:
    """A larger learning rate changes the policy, but no pair."""
    slow, fast = (train(dpo.train, dpo_settings(learning_rate=rate)) for rate in (1e-3, 1e-1))
    assert (slow.folder / "pairs.jsonl").read_bytes() == (fast.folder / "pairs.jsonl").read_bytes()
    assert weights(slow) != weights(fast)


def test_a_renewed_round_is_drawn_by_the_policy_as_it_is_then(train) -> None:
    slow, fast = (train(dpo.train, dpo_settings(learning_rate=rate, renew_every=2)) for rate in (1e-3, 1e-1))
    rows = read_rows(slow.folder / "pairs.jsonl")
    assert [row["step"] for row in rows] == [2, 3], "the file holds the last round alone"
    assert (slow.folder / "pairs.jsonl").read_bytes() != (fast.folder / "pairs.jsonl").read_bytes()
    first, again = (trained_lines(work)[:2] for work in (slow, train(dpo.train, dpo_settings())))
    assert [line["reward_best"] for line in first] == [line["reward_best"] for line in again], (
        "the first round is drawn by the start in both"
    )


def test_what_a_stage_resumes_from_is_named(train) -> None:
    work = train(dpo.train, dpo_settings(steps=1))
    named = program.resume_files("harness.trainers.dpo.train")
    assert sorted(path.name for path in work.folder.iterdir()) == sorted(["checkpoint", *named])


def test_pairs_that_are_gone_are_a_clear_error(janus_folder: Path, tmp_path: Path) -> None:
    settings, inputs = dpo_settings(checkpoint_every=1), {"start": janus_folder.parent}
    work = Killed(tmp_path / "stage")
    work.at = 5
    with pytest.raises(Interrupted):
        dpo.train(work, settings, inputs)  # in the second training step
    (work.folder / "pairs.jsonl").unlink()
    with pytest.raises(ValueError, match=r"pairs\.jsonl lacks the pairs of step 1\. Delete training\.pt"):
        dpo.train(work, settings, inputs)


def test_the_reports_of_a_round_come_before_those_of_training(train) -> None:
    work = train(dpo.train, dpo_settings())
    assert [(line["step"], line["total"], "loss" in line) for line in work.lines] == [
        *((step, 4, False) for step in (1, 2, 3)),
        *((step, 4, True) for step in (1, 2, 3, 4)),
    ]
    assert set(work.lines[-1]) == {
        *("step", "total", "loss", "accuracy", "margin", "reward_best", "reward_worst", "pairs"),
        *("groups_without_pair", "unscored", "grad_norm", "lr", "seconds"),
    }


def test_training_starts_at_the_reference_and_unscored_groups_give_no_pair(train) -> None:
    work = train(dpo.train, dpo_settings(pairs=4))
    lines = trained_lines(work)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5) and abs(lines[0]["margin"]) < 1e-4
    assert all(line["unscored"] == 3 and line["groups_without_pair"] >= 1 for line in lines)
    assert all(line["pairs"] + line["groups_without_pair"] == 4 for line in lines)


def sum_of(lines: list[dict[str, Any]], *names: str) -> float:
    return sum(line[name] for line in lines for name in names)


def test_offline_pairs_teach_which_samples_are_preferred(train) -> None:
    lines = trained_lines(train(dpo.train, dpo_settings(steps=15, samples=6, beta=0.1, learning_rate=2e-3)))
    assert sum_of(lines[-5:], "margin") > sum_of(lines[:5], "margin") + 0.5


def test_the_reward_of_renewed_pairs_rises(train) -> None:
    settings = dpo_settings(steps=15, samples=6, beta=0.1, learning_rate=5e-3, renew_every=1)
    lines, names = trained_lines(train(dpo.train, settings)), ("reward_best", "reward_worst")
    assert sum_of(lines[-4:], *names) > sum_of(lines[:4], *names) + 2


def test_two_processes_have_the_losses_of_one(train, janus_folder: Path, tmp_path: Path) -> None:
    settings = dpo_settings({"guidance": 3.0}, steps=3, pairs=4, renew_every=2, micro_batch=1)
    alone, together = train(dpo.train, settings), FakeWorkspace(tmp_path / "two")
    inputs = {"start": janus_folder.parent}
    named = {name: str(path) for name, path in inputs.items()}
    call = ranks.ProgramCall(
        program="harness.trainers.dpo.train", settings=settings, inputs=named, folder=str(together.folder)
    )
    with with_ranks(call, 2):
        dpo.train(together, settings, inputs)
    assert len(together.lines) == len(alone.lines) == 4
    for one, two in zip(alone.lines, together.lines, strict=True):
        assert {**two, "seconds": 0} == pytest.approx({**one, "seconds": 0}, rel=1e-4, abs=1e-5)
    assert (together.folder / "pairs.jsonl").read_bytes() == (alone.folder / "pairs.jsonl").read_bytes()


def test_lora_changes_its_targets_alone(train, janus_folder: Path) -> None:
    work = train(dpo.train, dpo_settings(lora=LORA))
    before = load_file(janus_folder / "model.safetensors")
    after = load_file(work.folder / "checkpoint" / "model.safetensors")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)
    assert (work.folder / "checkpoint" / "lora").is_dir()


def test_too_many_unscored_samples_stop_the_round_which_resumes(
    train, janus_folder: Path, tmp_path: Path
) -> None:
    """One prompt a step, and the reward says nothing of one of the four."""
    inputs = {"start": janus_folder.parent}
    tolerant, strict = (dpo_settings(pairs=1, unscored_tolerance=share) for share in (1.0, 0.0))
    whole = train(dpo.train, tolerant)
    work = FakeWorkspace(tmp_path / "stage")
    with pytest.raises(ValueError, match=r"3 of 3 samples of step \d .* dpo\.unscored_tolerance=0\.0"):
        dpo.train(work, strict, inputs)
    dpo.train(work, tolerant, inputs)
    assert weights(work) == weights(whole)


def test_no_prompts_is_a_clear_error(train) -> None:
    settings = dpo_settings() | {"benchmark": {**BENCHMARK, "captions": []}}
    with pytest.raises(ValueError, match="no training prompts"):
        train(dpo.train, settings)
