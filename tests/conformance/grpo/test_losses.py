"""Losses, gradients, KL terms and clip shares compared with those of TRL, verl and ms-swift.

All rows of a case are the whole step. The gradient is that of the loss with respect to `new`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_vectors import Case, agree, cases, program_of
from torch import Tensor

from harness.protocols import Ratio
from harness.trainers.aggregate import Counts, aggregate
from harness.trainers.kl import k1, k2, k3
from harness.trainers.ratio import Cispo, SequenceRatio, TokenRatio, sequence_log_ratio

SEQUENCE = ("sequence", "sequence_token", "gspo")
VERL_AGGREGATION = {
    "token-mean": "token",
    "seq-mean-token-mean": "sample",
    "seq-mean-token-sum": "fixed",  # with horizon 1
    "seq-mean-token-sum-norm": "fixed",
}
OTHERS_AGGREGATION = {
    "grpo": "sample",
    "bnpo": "token",  # over the micro-batch, which here is the step
    "dapo": "token",
    "cispo": "token",
    "dr_grpo": "fixed",
}


@dataclass
class Batch:
    """The tensors of a case, in float64."""

    new: Tensor
    old: Tensor
    reference: Tensor | None
    mask: Tensor
    advantages: Tensor
    one_per_row: bool

    @classmethod
    def of(cls, case: Case) -> Batch:
        def tensor(name: str) -> Tensor:
            return torch.tensor(case[name], dtype=torch.float64)

        new, advantages = tensor("new").requires_grad_(), tensor("advantages")
        return cls(
            new=new,
            old=tensor("old"),
            reference=tensor("reference") if "reference" in case else None,
            mask=tensor("mask").bool(),
            advantages=advantages[:, None].expand_as(new) if advantages.dim() == 1 else advantages,
            one_per_row=advantages.dim() == 1,
        )


def ratio_of(settings: dict[str, Any], program: str) -> Ratio:
    """Our class for a case's loss and bounds."""
    low, high = settings["clip_low"], settings["clip_high"]
    kind = settings["loss"] if program == "verl" else settings["loss_type"]
    if kind == "cispo":  # TRL and ms-swift give the cap itself, verl its distance from 1
        return Cispo(clip_low=low, clip_high=high if program == "verl" else high - 1)
    if (kind if program == "verl" else settings["level"]) in SEQUENCE:
        return SequenceRatio(clip_low=low, clip_high=high)
    dual = settings["dual_clip"] if program == "verl" else settings["delta"]
    return TokenRatio(clip_low=low, clip_high=high, dual_clip=dual)


def policy_terms(batch: Batch, ratio: Ratio, level: str) -> tuple[Tensor, Tensor]:
    """The loss per action, and where clipping changes it."""
    found = ratio(batch.new, batch.old, batch.advantages, [batch.mask])
    if level != "sequence" or batch.one_per_row:
        return found
    # The ratio with its whole gradient in every action; ours has the gradient of the token form.
    assert isinstance(ratio, SequenceRatio)
    whole = sequence_log_ratio(batch.new, batch.old, batch.mask).exp()
    gain = (whole * batch.advantages).minimum(ratio.clip(whole) * batch.advantages)
    return -gain, found[1]


def kl_terms(batch: Batch, settings: dict[str, Any]) -> Tensor:
    """k3; with `kl_ratio_corrected` times the ratio with its gradient, which we do not offer."""
    assert batch.reference is not None
    terms = k3(batch.new, batch.reference)
    if not settings.get("kl_ratio_corrected"):
        return terms
    if settings["level"] == "token":
        return terms * (batch.new - batch.old).exp()
    return terms * sequence_log_ratio(batch.new, batch.old, batch.mask).exp()


def share(counted: Tensor, mask: Tensor) -> float:
    return (counted & mask).sum().item() / max(mask.sum().item(), 1)


def masked_mean(values: Tensor, mask: Tensor) -> float:
    return (values * mask).sum().item() / max(mask.sum().item(), 1)


def clip_shares(batch: Batch, clipped: Tensor, *, of_rows: bool) -> dict[str, float]:
    """Shares of actions, or of rows where every row has one ratio."""
    low = clipped & (batch.advantages < 0)
    high = clipped & (batch.advantages > 0)
    if of_rows:
        rows = {"clip_low": low, "clip_high": high, "clip_fraction": clipped}
        return {name: (where & batch.mask).any(1).double().mean().item() for name, where in rows.items()}
    return {
        "clip_low": share(low, batch.mask),
        "clip_high": share(high, batch.mask),
        "clip_fraction": share(clipped, batch.mask),
    }


def total_loss(kind: str, terms: Tensor, mask: Tensor, *, horizon: int, samples: int, actions: int) -> Tensor:
    """The mean over the step; there are no stages in these cases."""
    counts = Counts(samples=samples, actions=actions, with_chain=samples, with_image=0)
    return aggregate(kind, terms, mask, torch.zeros_like(mask), counts, horizon)


def trl_or_swift(case: Case, program: str) -> dict[str, Any]:
    settings, batch = case["settings"], Batch.of(case)
    counted = int(batch.mask.sum())
    if "truncated" in case:
        batch.mask = batch.mask & ~torch.tensor(case["truncated"])[:, None]
        if settings["loss_type"] not in ("dapo", "cispo"):  # these divide by what was counted before
            counted = int(batch.mask.sum())
    terms, clipped = policy_terms(batch, ratio_of(settings, program), settings["level"])
    of_rows = program == "trl" and settings["level"] == "sequence" and batch.one_per_row
    found = clip_shares(batch, clipped, of_rows=of_rows)
    if settings["kl_weight"]:
        divergence = kl_terms(batch, settings)
        terms = terms + settings["kl_weight"] * divergence
        found |= {"per_token_kl": divergence, "kl": masked_mean(divergence, batch.mask)}
    kind = OTHERS_AGGREGATION[settings["loss_type"]]
    horizon = settings["horizon"] or batch.new.shape[1]
    loss = total_loss(kind, terms, batch.mask, horizon=horizon, samples=len(terms), actions=counted)
    (gradient,) = torch.autograd.grad(loss, batch.new)
    return {**found, "loss": loss.item(), "per_token_loss": terms, "gradient": gradient}


def verl(case: Case, program: str) -> dict[str, Any]:
    settings, batch = case["settings"], Batch.of(case)
    ratio = ratio_of(settings, program)
    terms, clipped = policy_terms(batch, ratio, settings["loss"])
    if isinstance(ratio, Cispo):  # verl counts ratios out of bounds, whatever the advantage's sign
        ratios = (batch.new - batch.old).exp()
        clipped = ratio.clip(ratios) != ratios
    loss = verl_mean(settings, terms, batch.mask)
    (gradient,) = torch.autograd.grad(loss, batch.new)
    return {
        "loss": loss.item(),
        "per_token_loss": terms,
        "gradient": gradient,
        "clip_fraction": share(clipped, batch.mask),
        "clip_fraction_dual": dual_share(settings, batch, terms),
        "old_minus_new": masked_mean(k1(batch.old, batch.new), batch.mask),
    }


def dual_share(settings: dict[str, Any], batch: Batch, terms: Tensor) -> float:
    """Where the dual clip changes the loss."""
    without = ratio_of({**settings, "dual_clip": None}, "verl")
    plain, _ = without(batch.new, batch.old, batch.advantages, [batch.mask])
    return share(terms < plain, batch.mask)


def verl_mean(settings: dict[str, Any], terms: Tensor, mask: Tensor) -> Tensor:
    """The mean as of verl: rows without actions do not count, and the default horizon is the width."""
    aggregation = settings["aggregation"]
    horizon = 1 if aggregation == "seq-mean-token-sum" else settings.get("horizon") or mask.shape[1]
    samples, actions = int(mask.any(1).sum()), int(mask.sum())
    kind = VERL_AGGREGATION[aggregation]
    return total_loss(kind, terms, mask, horizon=horizon, samples=samples, actions=actions)


def verl_kl(estimator: str, new: Tensor, reference: Tensor) -> Tensor:
    """An estimate as of verl: `+` has the gradient of k2; k3 is bounded, and so is what it takes exp of."""
    if estimator.endswith("+"):
        gradient = k2(new, reference)
        return verl_kl(estimator[:-1], new, reference).detach() + gradient - gradient.detach()
    if estimator == "k3":
        gap = (reference - new).clamp(-20, 20)
        return k3(-gap, torch.zeros_like(gap)).clamp(-10, 10)
    return {"k1": k1, "k2": k2, "abs": lambda *pair: k1(*pair).abs()}[estimator](new, reference)


def compare(case: Case, whole: Case) -> None:
    """Raise AssertionError where our functions give other numbers than the program."""
    program, expected, tolerance = program_of(case, whole), case["expected"], whole["tolerance"]
    found = (verl if program == "verl" else trl_or_swift)(case, program)
    mask = torch.tensor(case["mask"]).bool()
    for name, value in expected.items():
        place = f"{case['name']} {name}"
        if name in ("per_token_loss", "per_token_kl"):
            wanted = torch.tensor(value, dtype=torch.float64).expand(mask.shape)
            agree(found[name][mask].tolist(), wanted[mask].tolist(), tolerance, place=place)
        elif name == "gradient":
            agree(found[name].tolist(), value, tolerance, place=place)
        else:
            agree(found[name], value, tolerance, "" if name == "loss" else "metrics", place)


def compare_kl(case: Case, whole: Case) -> None:
    assert program_of(case, whole) == "verl"
    new = torch.tensor(case["new"], dtype=torch.float64).requires_grad_()
    reference = torch.tensor(case["reference"], dtype=torch.float64)
    mask = torch.tensor(case["mask"]).bool()
    terms = verl_kl(case["settings"]["estimator"], new, reference)
    mean = verl_mean(case["settings"], terms, mask)
    (gradient,) = torch.autograd.grad(mean, new)
    expected, tolerance = case["expected"], whole["tolerance"]
    wanted = torch.tensor(expected["per_token_kl"], dtype=torch.float64)
    agree(terms[mask].tolist(), wanted[mask].tolist(), tolerance, place=f"{case['name']} per_token_kl")
    agree(mean.item(), expected["kl"], tolerance, place=f"{case['name']} kl")
    agree(gradient.tolist(), expected["gradient"], tolerance, place=f"{case['name']} gradient")


def test_losses_are_those_of_the_programs(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-losses"):
        compare(case, whole)


def test_kl_terms_are_those_of_verl(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-kl"):
        compare_kl(case, whole)


def falsified(case: Case) -> list[Case]:
    """The case with one wrong number, in turn for each name of `expected`."""
    row = next(index for index, actions in enumerate(case["mask"]) if any(actions))
    column = case["mask"][row].index(1)
    wrong = []
    for name in case["expected"]:
        copy = deepcopy(case)
        value = copy["expected"][name]
        if isinstance(value, list):
            value[row][column] += 0.01
        else:
            copy["expected"][name] = value + 0.01
        wrong.append(copy)
    return wrong


def test_a_wrong_number_of_a_loss_is_noticed(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-losses"):
        for wrong in falsified(case):
            with pytest.raises(AssertionError):
                compare(wrong, whole)


def test_a_wrong_number_of_a_kl_term_is_noticed(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-kl"):
        for wrong in falsified(case):
            with pytest.raises(AssertionError):
                compare_kl(wrong, whole)


def test_a_changed_log_prob_is_noticed(conformance_dir: Path) -> None:
    noticed: dict[str, bool] = {}  # of each program, in any case: a clipped action hardly minds
    for case, whole in cases(conformance_dir, "grpo-losses"):
        row = next(index for index, actions in enumerate(case["mask"]) if any(actions))
        case["new"][row][case["mask"][row].index(1)] -= 0.25
        program = program_of(case, whole)
        try:
            compare(case, whole)
        except AssertionError:
            noticed[program] = True
        noticed.setdefault(program, False)
    assert all(noticed.values()), noticed
