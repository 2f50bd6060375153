"""The variants of GRPO against plain Python, action by action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from mini_grpo import (
    CODES,
    DRAWN,
    PROMPTS,
    TOTALS,
    WORDS,
    FakePolicy,
    Given,
    World,
    flat,
    frozen_of,
    plain_logprob,
    world,
)
from mini_world import GRPO

from harness.reward.function import RewardFunction
from harness.trainers.advantage import standard_scores
from harness.types import Sampling

SEMANTICS = [0.5, 0.25, 1.0, 0.0, 0.75, 0.5]  # of scope chain
FIDELITY = [0.25, 1.0, 0.5, 0.75, 0.0, 1.0]  # of scope image
PRODUCT = [first * second for first, second in zip(SEMANTICS, FIDELITY, strict=True)]
HORIZON = 600 + 2  # rollout's largest chain, and an image
Values = Sequence[float | None]


def two_rewards() -> RewardFunction:
    components = {"sem": Given(SEMANTICS, "sem", "chain"), "pi": Given(FIDELITY, "pi", "image")}
    return RewardFunction(total="sem * pi", components=components)


def by_group(values: Values) -> list[float | None]:
    """Standard scores of the two groups of three."""
    advantages: list[float | None] = []
    for group in (values[:3], values[3:]):
        scores = iter(standard_scores([value for value in group if value is not None]))
        advantages += [None if value is None else next(scores) for value in group]
    return advantages


def plain_loss(
    weights: list[float],
    old: list[float],
    frozen: list[float],
    chain: Values,
    image: Values,
    settings: dict[str, Any],
    weigh: Any = lambda index, position: 1.0,
) -> float:
    """The objective from the advantages of chain and image (None: the sample is unscored)."""
    policy: dict[tuple[int, str], list[float]] = {}
    kl: dict[tuple[int, str], list[float]] = {}
    for index, (words, codes, forced) in enumerate(DRAWN):
        if chain[index] is None:
            continue
        acting = words[:-1] if forced else words
        if forced and settings["truncated"] == "mask":
            acting = ()
        actions = [("chain", 0, WORDS, word, chain[index], 1.0) for word in acting]
        for position, code in enumerate(codes):
            weight = weigh(index, position)
            actions.append(("image", WORDS, WORDS + CODES, code, image[index], weight))
        for stage, first, last, token, advantage, weight in actions:
            new, before, start = (plain_logprob(one[first:last], token) for one in (weights, old, frozen))
            gap = start - new
            policy.setdefault((index, stage), []).append(-math.exp(new - before) * advantage * weight)
            kl.setdefault((index, stage), []).append(
                gap**2 / 2 if settings["kl"] == "k2" else math.exp(gap) - gap - 1
            )
    dead = {
        index
        for start in (0, 3)
        for index in range(start, start + 3)
        if settings["zero_spread"] == "drop"
        and not any(values[row] for row in range(start, start + 3) for values in (chain, image))
    }
    kept = {key: terms for key, terms in policy.items() if key[0] not in dead}
    penalty = mean(kl, settings["aggregate"])
    return (mean(kept, settings["aggregate"]) if kept else 0.0) + settings["kl_weight"] * penalty


def mean(terms: dict[tuple[int, str], list[float]], kind: str) -> float:
    rows = sorted({index for index, _ in terms})
    by_row = {index: [*terms.get((index, "chain"), []), *terms.get((index, "image"), [])] for index in rows}
    if kind == "token":
        return sum(map(sum, by_row.values())) / sum(map(len, by_row.values()))
    if kind == "fixed":
        return sum(map(sum, by_row.values())) / HORIZON / len(rows)
    if kind == "sample":
        return sum(sum(row) / len(row) for row in by_row.values()) / len(rows)
    halves = []
    for stage in ("chain", "image"):
        means = [sum(row) / len(row) for (_, own), row in terms.items() if own == stage]
        halves.append(sum(means) / len(means))
    return sum(halves) / 2


def check(one: World, chain: Values, image: Values, weigh: Any = lambda index, position: 1.0) -> None:
    """One step has the loss and the gradient of plain Python."""
    settings = GRPO | one.run._settings
    metrics = one.run.step(PROMPTS, 0)
    given = (frozen_of(one), chain, image, settings, weigh)
    assert metrics["loss"] == pytest.approx(plain_loss(one.start, one.start, *given), abs=1e-9)
    expected = []
    for place in range(len(one.start)):
        up, down = list(one.start), list(one.start)
        up[place] += 1e-5
        down[place] -= 1e-5
        difference = plain_loss(up, one.start, *given) - plain_loss(down, one.start, *given)
        expected.append(difference / 2e-5)
    assert one.learner.gradients[0] == pytest.approx(expected, abs=1e-7)
    assert max(map(abs, expected)) > 1e-6


@pytest.mark.parametrize("aggregate", ["sample", "token", "fixed", "stage"])
@pytest.mark.parametrize("kl", ["k3", "k2"])
@pytest.mark.parametrize("truncated", ["keep", "mask"])
@pytest.mark.parametrize("micro_batch", [2, 100])
def test_means_penalties_and_masks(aggregate: str, kl: str, truncated: str, micro_batch: int) -> None:
    one = world(aggregate=aggregate, kl=kl, truncated=truncated, micro_batch=micro_batch)
    check(one, by_group(TOTALS), by_group(TOTALS))


@pytest.mark.parametrize(
    ("credit", "chain", "image"),
    [
        ("total", PRODUCT, PRODUCT),
        ("causal", PRODUCT, FIDELITY),
        ("split", SEMANTICS, FIDELITY),
        ("chain", PRODUCT, None),
        ("image", None, PRODUCT),
    ],
)
@pytest.mark.parametrize("aggregate", ["sample", "stage"])
def test_each_stage_has_the_advantage_of_its_part(
    credit: str, chain: Values | None, image: Values | None, aggregate: str
) -> None:
    one = world(rewards=two_rewards(), credit=credit, aggregate=aggregate)
    nothing = [0.0] * 6
    check(one, by_group(chain) if chain else nothing, by_group(image) if image else nothing)


def test_gdpo_adds_normalized_components_and_divides_by_the_step() -> None:
    advantage = {"_target_": "harness.trainers.advantage.Gdpo", "weights": {"pi": 2.0}}
    sums = [
        first + 2 * second
        for first, second in zip(by_group(SEMANTICS), by_group(FIDELITY), strict=True)
        if first is not None and second is not None
    ]
    deviation = math.sqrt(sum(value**2 for value in sums) / len(sums))
    values = [value / deviation for value in sums]
    check(world(rewards=two_rewards(), advantage=advantage), values, values)


def test_an_advantage_is_clipped_to_its_largest_size() -> None:
    clipped = [None if value is None else min(max(value, -0.5), 0.5) for value in by_group(TOTALS)]
    check(world(advantage_clip=0.5), clipped, clipped)


EQUAL_FIRST: list[float | None] = [0.4, 0.4, 0.4, None, 0.7, 0.2]


@pytest.mark.parametrize("zero_spread", ["keep", "drop"])
@pytest.mark.parametrize("aggregate", ["sample", "token", "stage"])
def test_dropped_groups_leave_the_mean_of_the_policy_term_and_not_that_of_the_kl(
    zero_spread: str, aggregate: str
) -> None:
    one = world(EQUAL_FIRST, zero_spread=zero_spread, aggregate=aggregate)
    check(one, by_group(EQUAL_FIRST), by_group(EQUAL_FIRST))


def test_no_kl_weight_needs_no_frozen_start() -> None:
    one = world(kl_weight=0.0)

    def missing() -> Any:
        raise AssertionError("the frozen start was asked for")

    one.run._update._reference = missing
    metrics = one.run.step(PROMPTS, 0)
    assert not [name for name in metrics if name.startswith("kl")]


def test_kl_in_the_reward_lowers_the_totals() -> None:
    """By the weight times the sum of new - reference over the actions of both stages."""
    one = world(kl="reward", kl_weight=0.3)
    frozen = frozen_of(one)
    lowered: list[float | None] = []
    gaps = []
    for (words, codes, forced), total in zip(DRAWN, TOTALS, strict=True):
        acting = words[:-1] if forced else words
        gap = sum(
            plain_logprob(one.start[:WORDS], word) - plain_logprob(frozen[:WORDS], word) for word in acting
        )
        gap += sum(
            plain_logprob(one.start[WORDS:], code) - plain_logprob(frozen[WORDS:], code) for code in codes
        )
        gaps.append(gap)
        lowered.append(None if total is None else total - 0.3 * gap)
    expected = plain_loss(
        one.start,
        one.start,
        frozen,
        by_group(lowered),
        by_group(lowered),
        GRPO | {"kl_weight": 0.0, "kl": "k3"},
    )
    metrics = one.run.step(PROMPTS, 0)
    assert metrics["loss"] == pytest.approx(expected, abs=1e-9)
    taken_off = metrics["penalty/chain"] + metrics["penalty/image"]
    assert taken_off == pytest.approx(0.3 * sum(gaps) / 6)


def test_truncated_chains_are_penalised_by_their_length() -> None:
    """The limit is 4: its last fifth, from 3.2 on, costs up to a half."""
    one = world(truncated="penalise", sampling=Sampling(max_chain_tokens=4))
    lengths = [len(words) - forced for words, _, forced in DRAWN]
    lowered = [
        None if total is None else total - 0.5 * min(max((length - 3.2) / 0.8, 0), 1)
        for total, length in zip(TOTALS, lengths, strict=True)
    ]
    assert lowered != TOTALS
    check(one, by_group(lowered), by_group(lowered))


def test_image_tokens_weigh_by_the_rank_of_their_contrast() -> None:
    """The fake's contrast is the log-prob: k3 of it grows with its size."""
    one = world(token_weights="guidance", sampling=Sampling(guidance=3.0), policy=FakePolicy())
    exponent = math.log(0.2) / math.log(0.6) - 1

    def weigh(index: int, position: int) -> float:
        sizes = [-plain_logprob(one.start[WORDS:], code) for code in DRAWN[index][1]]
        ranks = [sum(b < a for b in sizes) + (sum(b == a for b in sizes) + 1) / 2 for a in sizes]
        powers = [(rank / len(sizes)) ** exponent for rank in ranks]
        return powers[position] * len(sizes) / sum(powers)

    check(one, by_group(TOTALS), by_group(TOTALS), weigh)


DRY: list[float | None] = [0.4] * 6


def test_resampling_draws_until_enough_groups_have_spread() -> None:
    """The first batch has one live group, the second none, the third two: the step takes one of them."""
    values = [0.1, 0.9, 0.4, 0.5, 0.5, 0.5, *DRY, 0.3, 0.2, 0.1, 0.6, 0.7, 0.8]
    one = world(values, zero_spread="resample")
    metrics = one.run.step(PROMPTS, 0)
    assert (metrics["resample_batches"], metrics["discarded_samples"]) == (3, 12)
    assert metrics["zero_spread_groups"] == 0
    assert metrics["reward"] == pytest.approx((0.1 + 0.9 + 0.4 + 0.3 + 0.2 + 0.1) / 6)
    seeds = [seed for _, asked in one.policy.asked for seed in asked]
    assert len(set(seeds)) == 18
    again = world(values, zero_spread="resample")
    again.run.step(PROMPTS, 0)
    assert again.policy.asked == one.policy.asked and flat(again.policy.module) == flat(one.policy.module)


def test_a_dry_spell_ends_at_the_cap_with_groups_of_the_first_batch() -> None:
    one = world(DRY, zero_spread="resample", resample_batches=3)
    metrics = one.run.step(PROMPTS, 0)
    assert (metrics["resample_batches"], metrics["discarded_samples"]) == (3, 12)
    assert metrics["zero_spread_groups"] == 2 and metrics["zero_spread_share"] == 1


def test_a_full_first_batch_is_the_step_of_keep() -> None:
    one, kept = world(zero_spread="resample"), world()
    metrics = one.run.step(PROMPTS, 0)
    expected = kept.run.step(PROMPTS, 0)
    assert {name: metrics[name] for name in expected if name != "seconds"} == pytest.approx(
        {name: value for name, value in expected.items() if name != "seconds"}
    )


def test_the_curves_of_a_step() -> None:
    metrics = world(rewards=two_rewards()).run.step(PROMPTS, 0)
    lengths = [len(words) - forced for words, _, forced in DRAWN]
    assert metrics["length/chain"] == pytest.approx(sum(lengths) / 6)
    assert metrics["chain_share"] == pytest.approx(sum(n / (n + 2) for n in lengths) / 6)
    assert (metrics["entropy/chain"], metrics["entropy/image"]) == pytest.approx((1, 2))
    for name, values in (("sem", SEMANTICS), ("pi", FIDELITY), ("total", PRODUCT)):
        spreads = []
        for group in (values[:3], values[3:]):
            middle = sum(group) / 3
            spreads.append(math.sqrt(sum((value - middle) ** 2 for value in group) / 3))
        assert metrics[f"spread/{name}"] == pytest.approx(sum(spreads) / 2)
    assert metrics["kl/chain"] > 0 and metrics["kl/image"] > 0
