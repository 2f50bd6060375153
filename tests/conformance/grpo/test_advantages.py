"""Advantages compared with those of TRL, verl, ms-swift, NVlabs/GDPO, UniRL and OpenRLHF.

Their deviations and epsilons are reached through parameters of the functions. What only they do, such as
totals of unscored samples and whitening over tokens, is composed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from grpo_vectors import Case, agree, cases, program_of

from harness.trainers.advantage import (
    centered,
    decoupled,
    divided_by_step,
    spread,
    standard_scores,
    win_rates,
)

Groups = list[list[float]]


def weighted_sums(case: Case) -> Groups:
    """The weighted sum of each sample's components; all programs count a null as 0 in it."""
    return [
        [
            sum(weight * (value or 0.0) for weight, value in zip(case["weights"], sample, strict=True))
            for sample in group
        ]
        for group in case["rewards"]
    ]


def named(case: Case, *, null_is_zero: bool = False) -> list[list[dict[str, float]]]:
    """The components under names; a null is left out, or 0 where the program takes it as 0."""
    groups = []
    for group in case["rewards"]:
        samples = []
        for sample in group:
            values = [0.0 if value is None and null_is_zero else value for value in sample]
            samples.append({str(index): value for index, value in enumerate(values) if value is not None})
        groups.append(samples)
    return groups


def weights(case: Case) -> dict[str, float]:
    return {str(index): weight for index, weight in enumerate(case["weights"])}


def among_scored(case: Case, advantages: Callable[[Case], Groups]) -> Groups:
    """The advantages of samples with any component; TRL leaves the others out and gives them 0."""
    rewards = [[sample for sample in group if any_scored(sample)] for group in case["rewards"]]
    found = []
    for group, values in zip(case["rewards"], advantages({**case, "rewards": rewards}), strict=True):
        following = iter(values)
        found.append([next(following) if any_scored(sample) else 0.0 for sample in group])
    return found


def any_scored(sample: list[float | None]) -> bool:
    return any(value is not None for value in sample)


def per_group(function: Callable[[list[float]], list[float]]) -> Callable[[Groups], Groups]:
    return lambda groups: [function(values) for values in groups]


def single_raw(function: Callable[[list[float]], list[float]]) -> Callable[[Groups], Groups]:
    """Leave the value of a group of 1 as it is, as verl does; ours is 0."""
    return lambda groups: [values if len(values) == 1 else function(values) for values in groups]


def leave_one_out(values: list[float]) -> list[float]:
    """RLOO: a constant of the group's size times the centered values; not offered."""
    return [value * len(values) / max(len(values) - 1, 1) for value in centered(values)]


def over_tokens(groups: Groups, lengths: list[list[int]]) -> list[float]:
    """Every sample's value as often as it has actions, for what whitens over tokens; not offered."""
    tokens = []
    for values, counts in zip(groups, lengths, strict=True):
        for value, count in zip(values, counts, strict=True):
            tokens += [value] * count
    return tokens


def whitened(groups: Groups, mean: float, deviation: float) -> Groups:
    return [[(value - mean) / deviation for value in values] for values in groups]


def verl_whitened(groups: Groups, case: Case) -> Groups:
    """Whitened as by verl: over tokens, the sample's variance plus 1e-8."""
    tokens = over_tokens(groups, case["lengths"])
    return whitened(groups, sum(tokens) / len(tokens), math.sqrt(spread(tokens, bessel=True) ** 2 + 1e-8))


def openrlhf_whitened(groups: Groups, case: Case) -> Groups:
    """Whitened as by OpenRLHF: over tokens, the population's variance, at least 1e-8."""
    tokens = over_tokens(groups, case["lengths"])
    return whitened(groups, sum(tokens) / len(tokens), math.sqrt(max(spread(tokens) ** 2, 1e-8)))


def trl_scores(values: list[float]) -> list[float]:
    return standard_scores(values, bessel=True, epsilon=1e-4)


def batch_raw(totals: Groups) -> Groups:
    """Centered totals over the deviation of the totals as they are."""
    return divided_by_step([centered(values) for values in totals], totals, bessel=True, epsilon=1e-4)


def trl(case: Case) -> Groups:
    if case["aggregation"] == "normalize_then_sum":
        return decoupled(named(case), weights(case), bessel=True, epsilon=1e-4)
    assert case["aggregation"] == "sum_then_normalize"
    scales = {"group": per_group(trl_scores), "none": per_group(centered), "batch": batch_raw}
    return scales[case["scale"]](weighted_sums(case))


def verl_scores(groups: Groups) -> Groups:
    """Scores as of verl, which takes 0 as the mean and 1 as the deviation of a group of 1."""
    found = []
    for values in groups:
        single = [value / (1 + 1e-6) for value in values]
        found.append(single if len(values) == 1 else standard_scores(values, bessel=True, epsilon=1e-6))
    return found


def verl_component_scores(case: Case) -> Groups:
    """The sum of standard scores per component, which verl and NVlabs' verl branch then whiten."""
    sums = [[0.0] * len(group) for group in case["rewards"]]
    for index, weight in enumerate(case["weights"]):
        component = verl_scores([[sample[index] for sample in group] for group in case["rewards"]])
        for row, values in zip(sums, component, strict=True):
            row[:] = [total + weight * value for total, value in zip(row, values, strict=True)]
    return sums


def verl(case: Case) -> Groups:
    totals = weighted_sums(case)
    match case["estimator"]:
        case "grpo":
            return verl_scores(totals)
        case "dr_grpo":
            return single_raw(centered)(totals)
        case "rloo":
            return single_raw(leave_one_out)(totals)
        case "rloo_vectorized":
            return per_group(leave_one_out)(totals)
        case "reinforce_plus_plus_baseline":
            return verl_whitened(single_raw(centered)(totals), case)
        case "reinforce_plus_plus":
            return verl_whitened(totals, case)
        case "gdpo":
            return verl_whitened(verl_component_scores(case), case)
    raise AssertionError(case["estimator"])


def swift(case: Case) -> Groups:
    if case["scale"] == "gdpo":
        return decoupled(named(case), weights(case), bessel=True, epsilon=1e-8)
    totals = weighted_sums(case)
    for values, penalties in zip(totals, case.get("kl", []), strict="kl" in case):
        for index, penalty in enumerate(penalties):
            values[index] -= case["kl_weight"] * penalty
    baseline = leave_one_out if case["estimator"] == "rloo" else centered
    values = [baseline(group) for group in totals]
    if case["scale"] == "none":
        return values
    # REINFORCE++ divides by the deviation of the values after the baseline, the others by that of totals.
    scale = values if case["estimator"] == "reinforce_plus_plus" else totals
    if case["scale"] == "batch":
        return divided_by_step(values, scale, bessel=True, epsilon=1e-4)
    assert case["scale"] == "group"
    if case["estimator"] == "grpo":
        return [trl_scores(group) for group in totals]
    return [
        divided_by_step([group], [raw], bessel=True, epsilon=1e-4)[0]
        for group, raw in zip(values, scale, strict=True)
    ]


def nvlabs_trl(case: Case) -> Groups:
    return decoupled(named(case, null_is_zero=True), weights(case), bessel=True, epsilon=1e-4)


def nvlabs_verl(case: Case) -> Groups:
    return verl_whitened(verl_component_scores(case), case)


def unirl(case: Case) -> Groups:
    """UniRL adds 1e-8 to the variance, inside the root."""
    totals = weighted_sums(case)
    values = [centered(group) for group in totals]
    if case["estimator"] == "none":
        return values
    if case["estimator"] == "batch":
        return divided_by_step(values, totals, bessel=True, epsilon=1e-8)
    assert case["estimator"] == "population"
    return [
        [value / math.sqrt(spread(raw) ** 2 + 1e-8) for value in group]
        for raw, group in zip(totals, values, strict=True)
    ]


def openrlhf(case: Case) -> Groups:
    totals = weighted_sums(case)
    match case["estimator"]:
        case "group_norm":
            return [standard_scores(values, bessel=True, epsilon=1e-9) for values in totals]
        case "dr_grpo":
            return per_group(centered)(totals)
        case "rloo":
            return per_group(leave_one_out)(totals)
        case "reinforce_baseline":
            return openrlhf_whitened(per_group(centered)(totals), case)
    raise AssertionError(case["estimator"])


PROGRAMS = {
    "trl": lambda case: among_scored(case, trl),
    "verl": verl,
    "ms-swift": swift,
    "trl-GDPO": nvlabs_trl,
    "verl-GDPO": nvlabs_verl,
    "unirl": unirl,
    "openrlhf": openrlhf,
}


def compare(case: Case, whole: Case) -> None:
    """Raise AssertionError where our functions give other advantages than the program."""
    program = program_of(case, whole)
    kind = "gdpo" if case.get("estimator") == "gdpo" else program
    agree(PROGRAMS[program](case), case["advantages"], whole["tolerance"], kind, case["name"])


def compare_rank(case: Case, whole: Case) -> None:
    rates = [win_rates(group) for group in case["rewards"]]
    agree(rates, case["expected"]["win_rate"], whole["tolerance"], place=case["name"])


def test_advantages_are_those_of_the_programs(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-advantages"):
        compare(case, whole)


def test_win_rates_are_those_of_pref_grpo(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-rank"):
        compare_rank(case, whole)


def test_a_wrong_advantage_is_noticed(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-advantages"):
        for group in case["advantages"]:
            group[-1] += 0.01
            with pytest.raises(AssertionError):
                compare(case, whole)
            group[-1] -= 0.01


def test_a_changed_reward_is_noticed(conformance_dir: Path) -> None:
    noticed: dict[str, bool] = {}  # of each program, in any case: some changes leave the scores as they are
    for case, whole in cases(conformance_dir, "grpo-advantages"):
        group = max(case["rewards"], key=len)
        group[0] = [(value or 0.0) + 0.5 for value in group[0]]
        program = program_of(case, whole)
        try:
            compare(case, whole)
        except AssertionError:
            noticed[program] = True
        noticed.setdefault(program, False)
    assert all(noticed.values()), noticed


def test_a_wrong_win_rate_is_noticed(conformance_dir: Path) -> None:
    for case, whole in cases(conformance_dir, "grpo-rank"):
        case["expected"]["win_rate"][0][0] += 0.01
        with pytest.raises(AssertionError):
            compare_rank(case, whole)
