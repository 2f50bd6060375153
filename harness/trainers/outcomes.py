"""What came of the samples of a step of GRPO, and the metrics of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.trainers.advantage import spread
from harness.trainers.aggregate import Counts
from harness.types import Group

Metrics = dict[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result for one sample, without its ids and image; processes exchange outcomes."""

    reward: float | None
    unscored: str | None
    components: dict[str, float | None]
    truncated: bool  # begin-of-image was forced at the length limit
    faulty: bool  # the chain breaks the grammar
    chain_actions: int
    image_actions: int


def outcomes_of(group: Group) -> list[Outcome]:
    """The outcomes of the samples of a group."""
    outcomes = []
    for sample, reward in zip(group.samples, group.rewards, strict=True):
        tokens = sample.tokens
        outcomes.append(
            Outcome(
                reward=reward.total.value,
                unscored=reward.total.unscored,
                components={name: score.value for name, score in reward.components.items()},
                truncated=tokens.forced_end,
                faulty=bool(sample.chain.faults),
                chain_actions=len(tokens.chain) - tokens.forced_end,
                image_actions=len(tokens.image),
            )
        )
    return outcomes


def counts_of(outcomes: Iterable[Outcome], *, without_truncated_chains: bool = False) -> Counts:
    """The denominators of a mean over the actions of these samples.

    Args:
        outcomes: of scored samples.
        without_truncated_chains: the chain actions of truncated samples do not count.
    """
    samples = actions = with_chain = with_image = 0
    for outcome in outcomes:
        chain = 0 if without_truncated_chains and outcome.truncated else outcome.chain_actions
        samples += 1
        actions += chain + outcome.image_actions
        with_chain += chain > 0
        with_image += outcome.image_actions > 0
    return Counts(samples=samples, actions=actions, with_chain=with_chain, with_image=with_image)


def reward_metrics(groups: Sequence[Sequence[Outcome]]) -> Metrics:
    """The metrics of a step that follow from the outcomes of all its groups."""
    outcomes: list[Outcome] = []
    for group in groups:
        outcomes += group
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.components)
    values_by_component = {name: [outcome.components.get(name) for outcome in outcomes] for name in names}

    metrics: Metrics = {"reward": _mean([outcome.reward for outcome in outcomes])}
    for name, values in values_by_component.items():
        metrics[f"component/{name}"] = _mean(values)
    for edge in (0, 1):
        for name, values in values_by_component.items():
            metrics[f"at_{edge}/{name}"] = _share_at(edge, values)
    metrics["spread/total"] = _mean_spread([[outcome.reward for outcome in group] for group in groups])
    for name in names:
        values_by_group = [[outcome.components.get(name) for outcome in group] for group in groups]
        metrics[f"spread/{name}"] = _mean_spread(values_by_group)
    metrics["unscored"] = sum(outcome.reward is None for outcome in outcomes)
    metrics["truncated_chains"] = sum(outcome.truncated for outcome in outcomes)
    metrics["faulty_chains"] = sum(outcome.faulty for outcome in outcomes)
    metrics["length/chain"] = _mean([outcome.chain_actions for outcome in outcomes])
    metrics["chain_share"] = _mean([_chain_share(outcome) for outcome in outcomes])
    return metrics


def penalty_metrics(groups: Iterable[Sequence[Mapping[str, float]]]) -> Metrics:
    """The mean of what is taken off the total for the KL, by stage; empty without penalties."""
    by_stage: dict[str, list[float]] = {}
    for group in groups:
        for penalties in group:
            for stage, value in penalties.items():
                by_stage.setdefault(stage, []).append(value)
    return {f"penalty/{stage}": _mean(values) for stage, values in by_stage.items()}


def _chain_share(outcome: Outcome) -> float:
    """The share of a sample's actions that belong to its chain: its weight in a mean over its actions."""
    return outcome.chain_actions / (outcome.chain_actions + outcome.image_actions)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the scored values; None if there are none."""
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None


def _mean_spread(groups: Sequence[Sequence[float | None]]) -> float | None:
    """The mean over groups of the deviation within the group; groups without a scored value do not count."""
    spreads = []
    for group in groups:
        scored = [value for value in group if value is not None]
        spreads.append(spread(scored) if scored else None)
    return _mean(spreads)


def _share_at(edge: float, values: Sequence[float | None]) -> float | None:
    """The share of scored values that equal `edge`: a component stuck at 0 or 1 teaches nothing."""
    return _mean([None if value is None else float(value == edge) for value in values])
