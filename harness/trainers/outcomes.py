"""What came of the samples of a step of GRPO, and the metrics of that."""

from __future__ import annotations

from dataclasses import dataclass

from harness.types import Group

Metrics = dict[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result for one sample that the metrics of a step report; processes exchange outcomes."""

    reward: float | None
    unscored: str | None
    components: dict[str, float | None]
    truncated: bool  # begin-of-image was forced at the length limit
    faulty: bool  # the chain breaks the grammar


def outcomes_of(groups: list[Group]) -> list[Outcome]:
    """The outcomes of all samples, group after group."""
    outcomes = []
    for group in groups:
        for sample, reward in zip(group.samples, group.rewards, strict=True):
            outcomes.append(
                Outcome(
                    reward=reward.total.value,
                    unscored=reward.total.unscored,
                    components={name: score.value for name, score in reward.components.items()},
                    truncated=sample.tokens.forced_end,
                    faulty=bool(sample.chain.faults),
                )
            )
    return outcomes


def reward_metrics(outcomes: list[Outcome]) -> Metrics:
    """The metrics of a step that follow from the outcomes of all its samples."""
    values_by_component: dict[str, list[float | None]] = {}
    for outcome in outcomes:
        for name, value in outcome.components.items():
            values_by_component.setdefault(name, []).append(value)

    metrics: Metrics = {"reward": _mean([outcome.reward for outcome in outcomes])}
    for name, values in values_by_component.items():
        metrics[f"component/{name}"] = _mean(values)
    for edge in (0, 1):
        for name, values in values_by_component.items():
            metrics[f"at_{edge}/{name}"] = _share_at(edge, values)
    metrics["unscored"] = sum(outcome.reward is None for outcome in outcomes)
    metrics["truncated_chains"] = sum(outcome.truncated for outcome in outcomes)
    metrics["faulty_chains"] = sum(outcome.faulty for outcome in outcomes)
    return metrics


def _mean(values: list[float | None]) -> float | None:
    """The mean of the scored values; None if there are none."""
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None


def _share_at(edge: float, values: list[float | None]) -> float | None:
    """The share of scored values that equal `edge`: a component stuck at 0 or 1 teaches nothing."""
    return _mean([None if value is None else float(value == edge) for value in values])
