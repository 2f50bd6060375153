"""DPO against plain Python and against TRL's loss, and the `dpo` program on a tiny Janus."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from mini_world import BENCHMARK, FakeWorkspace, Interrupted, dpo_settings, with_ranks
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.files import read_rows
from harness.protocols import Policy
from harness.stages import program, ranks
from harness.trainers import dpo
from harness.trainers.dpo import Task, Update, gains, pair_losses, schedule
from harness.trainers.pairs import Pair, StepPairs
from harness.types import Prompt, Sample, Sampling, TokenLogprobs, Tokens

VECTORS = json.loads(Path(__file__).with_name("dpo_vectors.json").read_text(encoding="utf-8"))
WORDS, CODES = 5, 4
LORA = {"rank": 2, "alpha": 4, "targets": r".*language_model.*\.(q|v)_proj"}


def deviations(case: dict[str, Any]) -> dict[str, float]:
    """How far our loss, margins and gradients are from those of a vector."""
    scored, reference = {}, {}
    for side in ("best", "worst"):
        values_BT = torch.tensor(case[side]["new"], dtype=torch.float64, requires_grad=True)
        mask_BT = torch.tensor(case[side]["mask"]).bool()
        scored[side] = TokenLogprobs(values_BT, mask_BT, torch.zeros_like(mask_BT))
        reference[side] = torch.tensor(case[side]["reference"], dtype=torch.float64)
    best_B, worst_B = (gains(scored[side], reference[side]) for side in ("best", "worst"))
    loss = pair_losses(best_B, worst_B, case["beta"]).mean()
    loss.backward()
    margin_B = case["beta"] * (best_B - worst_B)
    expected = case["expected"]
    far = {
        "loss": abs(loss.item() - expected["loss"]),
        "margin": abs(margin_B.mean().item() - expected["margin"]),
        "accuracy": abs((margin_B > 0).double().mean().item() - expected["accuracy"]),
        "reward_chosen": abs(case["beta"] * best_B.mean().item() - expected["reward_chosen"]),
        "reward_rejected": abs(case["beta"] * worst_B.mean().item() - expected["reward_rejected"]),
    }
    for side in ("best", "worst"):
        gradient_BT = scored[side].values_BT.grad
        assert gradient_BT is not None
        wanted_BT = torch.tensor(expected[f"gradient_{side}"], dtype=torch.float64)
        far[f"gradient_{side}"] = (gradient_BT - wanted_BT).abs().max().item()
    return far


@pytest.mark.parametrize("case", VECTORS["cases"], ids=range(len(VECTORS["cases"])))
def test_loss_margin_and_gradient_equal_those_of_trl(case: dict[str, Any]) -> None:
    assert max(deviations(case).values()) < 1e-6


@pytest.mark.parametrize("name", ["loss", "margin", "accuracy", "gradient_best", "gradient_worst"])
def test_a_falsified_vector_is_noticed(name: str) -> None:
    false = copy.deepcopy(VECTORS["cases"][1])
    if name.startswith("gradient"):
        false["expected"][name][0][0] += 1e-3
    else:
        false["expected"][name] += 1e-3
    far = deviations(false)
    assert far[name] > 1e-4 and sum(value > 1e-6 for value in far.values()) == 1


class Table(nn.Module):
    """A model without context: one distribution over words and one over codes."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        drawn = torch.randn(WORDS + CODES, generator=generator, dtype=torch.float64)
        drawn += torch.linspace(-shift, shift, WORDS + CODES, dtype=torch.float64)
        self.logits = nn.Parameter(drawn)


@dataclass
class FakePolicy(Policy):
    """Scores ids with its table; guidance doubles the logits of codes."""

    module: Table = field(default_factory=Table)

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        raise NotImplementedError

    def logprobs(self, tokens: Sequence[Tokens], sampling: Sampling, **_: Any) -> TokenLogprobs:
        width = max(len(row.chain + row.image) for row in tokens)
        strength = 2.0 if sampling.guidance > 1 else 1.0
        words = torch.log_softmax(self.module.logits[:WORDS], 0)
        codes = torch.log_softmax(strength * self.module.logits[WORDS:], 0)
        values, action, image = [], [], []
        for row in tokens:
            chain, drawn = len(row.chain), len(row.image)
            padding = width - chain - drawn
            values.append(
                torch.cat((words[list(row.chain)], codes[list(row.image)], codes.new_ones(padding)))
            )
            acting = chain - row.forced_end
            action.append([True] * acting + [False] * row.forced_end + [True] * drawn + [False] * padding)
            image.append([False] * chain + [True] * drawn + [False] * padding)
        return TokenLogprobs(torch.stack(values), torch.tensor(action), torch.tensor(image))


@dataclass
class FakeLearner:
    """Keeps the gradient instead of taking a step. It is rank `rank` of `processes`."""

    module: Table
    learning_rate: float = 0.5
    rank: int = 0
    processes: int = 1
    gradient: list[float] = field(default_factory=list)

    def share(self, items: Sequence[Any]) -> list[Any]:
        size = len(items) // self.processes
        return list(items)[self.rank * size : (self.rank + 1) * size]

    def total(self, value: Any) -> Any:
        return value

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> float:
        gradient = self.module.logits.grad
        self.gradient = [0.0] * (WORDS + CODES) if gradient is None else gradient.tolist()
        return math.hypot(*self.gradient)


def ids(chain: tuple[int, ...], image: tuple[int, ...], forced: bool = False) -> Tokens:
    return Tokens(prompt=(0,), chain=chain, image=image, forced_end=forced)


PAIRS = StepPairs(
    step=0,
    pairs=(
        Pair(
            position=0,
            best=ids((1, 4), (0, 2)),
            worst=ids((2, 2, 3, 4), (1, 1), forced=True),
            best_total=0.9,
            worst_total=0.1,
        ),
        Pair(
            position=2, best=ids((3, 1, 4), (3, 0)), worst=ids((4,), (2, 2)), best_total=0.6, worst_total=0.5
        ),
        Pair(
            position=3,
            best=ids((0, 1, 2, 4), (3, 3), forced=True),
            worst=ids((1, 1, 4), (0, 1)),
            best_total=0.3,
            worst_total=0.0,
        ),
    ),
    groups_without_pair=1,
    unscored=2,
)


def update(
    drawn: StepPairs = PAIRS,
    sampling: Sampling | None = None,
    rank: int = 0,
    processes: int = 1,
    **changes: Any,
) -> tuple[dict[str, Any], FakeLearner]:
    policy, frozen = FakePolicy(), FakePolicy(Table(shift=0.4))
    learner = FakeLearner(policy.module, rank=rank, processes=processes)
    settings = dpo_settings(**changes)["dpo"]
    run = Update(policy, lambda: nullcontext(frozen), learner, sampling or Sampling(), settings)  # type: ignore[arg-type]
    return run(drawn), learner


def plain_terms(logits: Sequence[float], beta: float, strength: float = 1.0) -> dict[str, float]:
    """The objective of the module's docstring, id by id."""

    def logprob(one: Sequence[float], row: Tokens) -> float:
        total = 0.0
        words, codes = one[:WORDS], [strength * value for value in one[WORDS:]]
        for part, chosen in (
            (words, row.chain[: len(row.chain) - row.forced_end]),
            (codes, row.image),
        ):
            norm = math.log(sum(math.exp(value) for value in part))
            total += sum(part[index] - norm for index in chosen)
        return total

    start = Table(shift=0.4).logits.tolist()
    margins = []
    for pair in PAIRS.pairs:
        best, worst = (logprob(logits, row) - logprob(start, row) for row in (pair.best, pair.worst))
        margins.append(beta * (best - worst))
    return {
        "loss": sum(math.log(1 + math.exp(-margin)) for margin in margins) / 3,
        "margin": sum(margins) / 3,
        "accuracy": sum(margin > 0 for margin in margins) / 3,
    }


@pytest.mark.parametrize(
    ("image_logprobs", "guidance", "strength"),
    [("guided", 1.0, 1.0), ("guided", 3.0, 2.0), ("conditional", 3.0, 1.0)],
    ids=["plain", "guided", "conditional"],
)
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_the_update_is_the_plain_one(
    image_logprobs: str, guidance: float, strength: float, beta: float
) -> None:
    metrics, learner = update(sampling=Sampling(guidance=guidance), image_logprobs=image_logprobs, beta=beta)
    logits = Table().logits.tolist()
    expected = plain_terms(logits, beta, strength)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    gradient = []
    for place in range(WORDS + CODES):
        up, down = list(logits), list(logits)
        up[place] += 1e-5
        down[place] -= 1e-5
        losses = [plain_terms(one, beta, strength)["loss"] for one in (up, down)]
        gradient.append((losses[0] - losses[1]) / 2e-5)
    assert learner.gradient == pytest.approx(gradient, abs=1e-8)
    assert any(gradient[:WORDS]) and any(gradient[WORDS:]), "chain and image both teach"


def test_what_happened_is_counted() -> None:
    metrics, learner = update()
    assert metrics["grad_norm"] == pytest.approx(math.hypot(*learner.gradient))
    assert (metrics["pairs"], metrics["groups_without_pair"], metrics["unscored"]) == (3, 1, 2)
    assert metrics["reward_best"] == pytest.approx((0.9 + 0.6 + 0.3) / 3)
    assert metrics["reward_worst"] == pytest.approx((0.1 + 0.5 + 0.0) / 3)
    assert metrics["lr"] == 0.5


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 100])
def test_the_micro_batch_bounds_memory_and_changes_nothing_else(micro_batch: int) -> None:
    (whole, one), (parts, other) = update(micro_batch=3), update(micro_batch=micro_batch)
    assert {**parts, "seconds": 0} == pytest.approx({**whole, "seconds": 0}, abs=1e-12)
    assert other.gradient == pytest.approx(one.gradient, abs=1e-12)


def test_each_process_trains_on_the_pairs_of_its_groups() -> None:
    whole, one = update()
    ranks = [update(rank=rank, processes=2) for rank in (0, 1)]
    for name in ("loss", "margin", "accuracy"):
        assert sum(metrics[name] for metrics, _ in ranks) == pytest.approx(whole[name])
    summed = [sum(pair) for pair in zip(*(learner.gradient for _, learner in ranks), strict=True)]
    assert summed == pytest.approx(one.gradient)


def test_a_step_without_pairs_has_no_gradient_and_no_means() -> None:
    metrics, learner = update(StepPairs(step=0, pairs=(), groups_without_pair=4, unscored=0))
    assert not any(learner.gradient)
    for name in ("loss", "accuracy", "margin", "reward_best", "reward_worst"):
        assert metrics[name] is None


def test_a_round_is_drawn_whole_before_a_step_trains_on_it() -> None:
    order = [f"{task} {step}" for task, step in schedule(5, 2)]
    assert order == [
        *("draw 0", "draw 1", "train 0", "train 1"),
        *("draw 2", "draw 3", "train 2", "train 3"),
        *("draw 4", "train 4"),
    ]
    assert schedule(2, 2)[-1] == Task("train", 1)


# The program


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
