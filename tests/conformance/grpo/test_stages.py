"""Credit of stages, token weights, resampling and the penalty for length, compared with vectors."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_vectors import Case, agree, cases, formats
from torch import Tensor

from harness.reward.total import Total
from harness.trainers.advantage import centered, decoupled, divided_by_step, standard_scores
from harness.trainers.aggregate import Counts, aggregate
from harness.trainers.credit import STAGES, parts
from harness.trainers.kl import k3
from harness.trainers.length import overlong_penalty
from harness.trainers.ratio import TokenRatio
from harness.trainers.resample import first_live
from harness.trainers.token_weights import divergence, guidance_weights

Groups = list[list[float]]
Samples = list[list[dict[str, float]]]
TRL = {"bessel": True, "epsilon": 1e-4}


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Credit by our own definition; normalized as TRL does.


def values_of(part: Total | None, samples: Samples) -> Groups | None:
    if part is None:
        return None
    return [
        [part.evaluate({name: sample[name] for name in part.names}) for sample in group] for group in samples
    ]


def normalized(normalization: str, part: Total | None, samples: Samples) -> Groups:
    totals = values_of(part, samples)
    if part is None or totals is None:
        return [[0.0] * len(group) for group in samples]
    match normalization:
        case "group":
            return [standard_scores(group, **TRL) for group in totals]
        case "none":
            return [centered(group) for group in totals]
        case "batch":  # TRL divides by the deviation of the totals as they are
            return divided_by_step([centered(group) for group in totals], totals, **TRL)
        case "gdpo":
            components = [
                [{name: sample[name] for name in part.names} for sample in group] for group in samples
            ]
            return decoupled(components, {}, **TRL)
    raise AssertionError(normalization)


def compare_credit(case: Case, whole: Case) -> None:
    """Raise AssertionError where parts or advantages differ."""
    samples = [[dict(zip(case["names"], row, strict=True)) for row in group] for group in case["rewards"]]
    total, expected, tolerance = Total.parse(case["total"]), case["expected"], whole["tolerance"]
    split = parts("split", total, case["scopes"])
    found = {"total": total, "chain_part": split["chain"], "image_part": split["image"]}
    for name, part in found.items():
        values = values_of(part, samples)
        assert (values is None) == (expected[name] is None), f"{case['name']} {name}"
        if values is not None:
            agree(values, expected[name], tolerance, place=f"{case['name']} {name}")
    for normalization, kinds in expected["advantages"].items():
        for credit, stages in kinds.items():
            by_stage = parts(credit, total, case["scopes"])
            assert stages.keys() == set(STAGES)
            for stage, advantages in stages.items():
                place = f"{case['name']} {normalization} {credit} {stage}"
                agree(normalized(normalization, by_stage[stage], samples), advantages, tolerance, place=place)


def test_credit_of_stages_is_as_defined(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-stage-credit"):
        compare_credit(case, whole)


def test_a_wrong_number_of_credit_is_noticed(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-stage-credit"):
        wrong = deepcopy(case)
        wrong["expected"]["total"][0][0] += 0.01
        with pytest.raises(AssertionError):
            compare_credit(wrong, whole)
        for normalization, kinds in case["expected"]["advantages"].items():
            for credit in kinds:
                for stage in STAGES:
                    wrong = deepcopy(case)
                    wrong["expected"]["advantages"][normalization][credit][stage][-1][-1] += 0.01
                    with pytest.raises(AssertionError):
                        compare_credit(wrong, whole)


# Janus-Pro-R1: a reward, an advantage and a mean for each stage.


def mean_over_stages(terms: list[Tensor], masks: list[Tensor]) -> Tensor:
    """The aggregation `stage` for two stages; the program has the same mean of more."""
    samples = [int(mask.any(1).sum()) for mask in masks]
    if len(terms) == 2:
        counted, image = (
            torch.cat(masks, 1),
            torch.cat([torch.zeros_like(masks[0]), torch.ones_like(masks[1])], 1),
        )
        counts = Counts(samples=len(counted), actions=0, with_chain=samples[0], with_image=samples[1])
        return aggregate("stage", torch.cat(terms, 1), counted, image.bool(), counts, 1)
    means = []
    for term, mask, present in zip(terms, masks, samples, strict=True):
        counts = Counts(samples=present, actions=0, with_chain=0, with_image=0)
        means.append(aggregate("sample", term, mask, torch.zeros_like(mask), counts, 1))
    return torch.stack(means).mean()


def compare_stages(case: Case, whole: Case) -> None:
    expected, tolerance = case["expected"], whole["tolerance"]
    ratio = TokenRatio(clip_low=0.2, clip_high=0.2)
    new, reference, masks = tensor(case["new"]).requires_grad_(), tensor(case["reference"]), []
    advantages = [[standard_scores(group, **TRL) for group in stage] for stage in case["rewards"]]
    agree(advantages, expected["advantages"], tolerance, place=f"{case['name']} advantages")
    terms = []
    for stage, mask in enumerate(case["mask"]):
        masks.append(torch.tensor(mask).bool())
        flat = tensor([value for group in advantages[stage] for value in group])
        loss, _ = ratio(new[stage], new[stage].detach(), flat[:, None].expand_as(new[stage]), [masks[-1]])
        penalty = k3(new[stage], reference[stage])
        terms.append(loss + case["kl_weight"] * penalty)
        mean = mean_over_stages([penalty.detach()], [masks[-1]])
        agree(mean.item(), expected["kl"][stage], tolerance, place=f"{case['name']} kl[{stage}]")
    loss = mean_over_stages(terms, masks)
    (gradient,) = torch.autograd.grad(loss, new)
    agree(loss.item(), expected["loss"], tolerance, place=f"{case['name']} loss")
    agree(gradient.tolist(), expected["gradient"], tolerance, place=f"{case['name']} gradient")


def test_losses_of_stages_are_those_of_janus_pro_r1(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-stages"):
        compare_stages(case, whole)


@pytest.mark.parametrize("name", ["advantages", "loss", "gradient", "kl"])
def test_a_wrong_number_of_a_stage_is_noticed(conformance_dir: Path, name: str) -> None:
    for case, whole in cases(conformance_dir, "grpo-stages"):
        wrong_in_place(case["expected"], name)
        with pytest.raises(AssertionError):
            compare_stages(case, whole)


def wrong_in_place(expected: Case, name: str) -> None:
    """Change the first number of a name in place."""
    key: Any = name
    while isinstance(expected[key], list):
        expected, key = expected[key], 0
    expected[key] += 0.01


# GCPO: weights of tokens by guidance contrast.


def compare_weights(case: Case, whole: Case) -> None:
    """Raise AssertionError where divergences, weights or the program's own loss differ."""
    expected, tolerance = case["expected"], whole["tolerance"]
    new, mask = tensor(case["conditional"]).requires_grad_(), torch.tensor(case["mask"]).bool()
    contrast = tensor(case["unconditional"]) - new.detach()
    weights = guidance_weights(contrast, mask)
    for name, values in (("divergence", divergence(contrast)), ("weights", weights)):
        wanted = tensor(expected[name])[mask].tolist()
        agree(values[mask].tolist(), wanted, tolerance, place=f"{case['name']} {name}")
    assert weights[~mask].eq(1).all()
    advantages = tensor(case["advantages"])[:, None] * weights
    terms, _ = TokenRatio(clip_low=None, clip_high=None)(new, new.detach(), advantages, [mask])
    actions = int(mask.sum())
    counts = Counts(samples=len(new), actions=actions, with_chain=0, with_image=len(new))
    loss = aggregate("token", terms, mask, mask, counts, 1)
    loss = loss * actions / (actions + 1e-6)  # the program adds 1e-6 to the sum of the weights
    (gradient,) = torch.autograd.grad(loss, new)
    agree(loss.item(), expected["policy_loss"], tolerance, place=f"{case['name']} loss")
    agree(gradient.tolist(), expected["gradient"], tolerance, place=f"{case['name']} gradient")


def test_token_weights_are_those_of_gcpo(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-token-weights"):
        compare_weights(case, whole)


@pytest.mark.parametrize("name", ["divergence", "weights", "policy_loss", "gradient"])
def test_a_wrong_number_of_token_weights_is_noticed(conformance_dir: Path, name: str) -> None:
    for case, whole in cases(conformance_dir, "grpo-token-weights"):
        wrong_in_place(case["expected"], name)
        with pytest.raises(AssertionError):
            compare_weights(case, whole)


# DAPO: groups drawn until enough of them have spread, and the penalty for long answers.


def live(group: list[float]) -> bool:
    """Both programs keep a group of 1; for them, any spread counts."""
    return len(group) == 1 or max(group) > min(group)


def kept_live(batches: list[list[bool]], wanted: int) -> list[list[int]]:
    """[batch, group] of the live ones among the groups that a step trains on."""
    places = []
    for number, batch in enumerate(batches):
        places += [[number, group] for group in range(len(batch))]
    flat = [is_live for batch in batches for is_live in batch]
    return [places[position] for position in first_live(flat, wanted) if flat[position]]


def verl_draws(batches: list[list[bool]], wanted: int, cap: int) -> dict[str, Any]:
    """Draw until enough groups are live; an error at the cap, which counts the first batch (0: none)."""
    most = min(cap, len(batches)) if cap > 0 else len(batches)
    for used in range(1, most + 1):
        kept = kept_live(batches[:used], wanted)
        if len(kept) == wanted:
            return {"outcome": "filled", "batches_used": used, "kept": kept}
    return {"outcome": "error", "batches_used": most}


def swift_draws(batches: list[list[bool]], wanted: int, cap: int) -> dict[str, Any]:
    """Look at `cap` batches; without enough live groups, the first batch as it is."""
    kept = kept_live(batches[:cap], wanted)
    if len(kept) == wanted:
        return {"outcome": "filled", "kept": kept}
    first = [[0, group] for group in range(len(batches[0]))]
    return {"outcome": "fell back to the first batch", "kept": first}


def compare_draws(case: Case) -> None:
    batches = [[live(group) for group in batch] for batch in case["stream"]]
    wanted = case["target_groups"]
    assert verl_draws(batches, wanted, case["cap"]) == case["verl"], case["name"]
    if "swift" in case:
        assert swift_draws(batches, wanted, case["swift_cap"]) == case["swift"], case["name"]


def test_live_groups_are_those_that_the_programs_keep(conformance_dir: Path) -> None:
    for case, _ in cases(conformance_dir, "grpo-dynamic-sampling"):
        compare_draws(case)


def test_a_wrong_group_or_count_is_noticed(conformance_dir: Path) -> None:
    for case, _ in cases(conformance_dir, "grpo-dynamic-sampling"):
        wrong = deepcopy(case)
        wrong["verl"]["batches_used"] += 1
        with pytest.raises(AssertionError):
            compare_draws(wrong)
        for program in ("verl", "swift"):
            wrong = deepcopy(case)
            if "kept" in wrong.get(program, {}):
                wrong[program]["kept"][-1][1] += 1
                with pytest.raises(AssertionError):
                    compare_draws(wrong)


def compare_penalties(case: Case, whole: Case) -> None:
    """ms-swift's penalty is that of factor 1."""
    limit, buffer = case["limit"], case["buffer"]
    for program, factor in (("verl", case["factor"]), ("swift", 1.0)):
        if program in case:
            found = [
                overlong_penalty(length, limit, buffer=buffer, factor=factor) for length in case["lengths"]
            ]
            agree(found, case[program], whole["tolerance"], place=f"{case['name']} {program}")


def test_penalties_for_length_are_those_of_the_programs(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-overlong"):
        compare_penalties(case, whole)


def test_a_wrong_penalty_is_noticed(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-overlong"):
        for program in {"verl", "swift"} & case.keys():
            wrong = deepcopy(case)
            wrong[program][-1] += 0.01
            with pytest.raises(AssertionError):
                compare_penalties(wrong, whole)


def test_no_file_of_vectors_is_left_out(conformance_dir: Path) -> None:
    of_advantages = {"grpo-advantages", "grpo-rank", "grpo-stage-credit"}
    of_losses = {"grpo-losses", "grpo-kl", "grpo-stages", "grpo-token-weights"}
    assert formats(conformance_dir) <= of_advantages | of_losses | {"grpo-dynamic-sampling", "grpo-overlong"}
