"""The tables about the runs: training, counts, cells, and cost, the only table that holds times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from harness.analysis.results import CellResult, PairResult, StudyResult
from harness.analysis.stage_results import StageResult
from harness.analysis.study import Analysis
from harness.chain import parse
from harness.report.table import Shown, Table

REWARD = "reward"
COMPONENT = "component/"
_COUNTED = ("zero_spread_groups", "unscored", "truncated_chains", "faulty_chains")
_FINAL_SHARE = 10  # final values are means over the last tenth of the steps

Metrics = Sequence[Mapping[str, float | None]]  # the rows of a metrics.jsonl


def run_tables(analysis: Analysis) -> list[Table]:
    """Return every table about the runs."""
    return [
        training_table(analysis.study),
        counts_table(analysis.study),
        cells_table(analysis.study),
        cost_table(analysis.study),
    ]


def reward_metrics(cell: CellResult) -> Metrics:
    """Return the metrics of the cell's last stage that logged a reward, complete or not."""
    for stage in reversed(cell.stages):
        if any(REWARD in row for row in stage.metrics):
            return stage.metrics
    return ()


def component_names(study: StudyResult) -> list[str]:
    """Return the reward components that any cell logged, without their prefix, in order of appearance."""
    names: dict[str, None] = {}
    for cell in study.cells:
        for row in reward_metrics(cell):
            names |= dict.fromkeys(name.removeprefix(COMPONENT) for name in row if name.startswith(COMPONENT))
    return list(names)


def final_value(metrics: Metrics, name: str) -> float | None:
    """Return the mean of `name` over the last tenth of the steps. A step without it is skipped."""
    last = metrics[-max(1, len(metrics) // _FINAL_SHARE) :]
    values = []
    for row in last:
        value = row.get(name)
        if value is not None:
            values.append(value)
    return math.fsum(values) / len(values) if values else None


def training_table(study: StudyResult) -> Table:
    """Return the rewards at the end of training, one row per cell."""
    components = component_names(study)
    names = (REWARD, *[COMPONENT + name for name in components], "kl")
    rows, records = [], []
    for cell in study.cells:
        metrics = reward_metrics(cell)
        values = [final_value(metrics, name) for name in names]
        if metrics:
            steps = Shown(str(len(metrics)))
        else:
            steps = Shown("no reward training" if cell.measured else cell.state, tone="missing")
        rows.append((*_cell_names(cell), steps, *[Shown(_or_dash(value, ".3f")) for value in values]))
        records.append((cell.arm, cell.seed, cell.state, len(metrics), *values))
    return Table(
        name="training",
        title="Reward at the end of training",
        note=(
            "Mean over the last tenth of the steps, on training prompts. Totals of different arms are"
            " different quantities."
        ),
        header=("arm", "seed", "steps", "total", *components, "KL"),
        rows=tuple(rows),
        fields=("arm", "seed", "state", "steps", "total", *components, "kl"),
        records=tuple(records),
    )


def counts_table(study: StudyResult) -> Table:
    """Return how many samples and chains were unscored, truncated or faulty, one row per cell."""
    fields = (
        "samples",
        "unscored_samples",
        "truncated_chains",
        "faulty_chains",
        *[f"training_{name}" for name in _COUNTED],
    )
    rows, records = [], []
    for cell in study.cells:
        counts = _counts(cell)
        shown = [Shown("–" if count is None else str(count)) for count in counts]
        rows.append((*_cell_names(cell), *shown))
        records.append((cell.arm, cell.seed, cell.state, *counts))
    return Table(
        name="counts",
        title="What was left out or went wrong",
        note=(
            "Evaluation samples, then sums over the training steps. What is unscored is left out of means and"
            " pairs, never counted as 0."
        ),
        header=("arm", "seed", *[name.replace("_", " ") for name in fields]),
        rows=tuple(rows),
        fields=("arm", "seed", "state", *fields),
        records=tuple(records),
    )


def _counts(cell: CellResult) -> list[int | None]:
    samples, scores, metrics = cell.samples, cell.scores, reward_metrics(cell)
    written = [(row.truncated, row.faults) for row in samples] if samples is not None else _written(cell)
    counts = [
        None if samples is None else len(samples),
        None if scores is None else sum(row.value is None for row in scores),
        None if written is None else sum(truncated for truncated, _ in written),
        None if written is None else sum(bool(faults) for _, faults in written),
    ]
    for name in _COUNTED:
        counts.append(int(sum(row.get(name) or 0 for row in metrics)) if metrics else None)
    return counts


def _written(cell: CellResult) -> list[tuple[bool, tuple[str, ...]]] | None:
    """Return whether each chain of a cell was truncated, and its faults; None without chains."""
    if cell.chains is None:
        return None
    return [(row.forced_end, parse(row.chain).faults) for row in cell.chains]


def cells_table(study: StudyResult) -> Table:
    """Return every planned cell with its state."""
    rows, records = [], []
    for cell in study.planned:
        overrides = " ".join(cell.overrides)
        stages = " ".join(map(_stage_text, cell.stages))
        state = Shown(cell.state, tone="" if cell.measured else "missing")
        rows.append((*_cell_names(cell), state, Shown(overrides or "–"), Shown(stages)))
        records.append((cell.arm, cell.seed, cell.id, cell.state, overrides, stages))
    return Table(
        name="cells",
        title="Cells of the study",
        note="Every planned cell, whatever became of it.",
        header=("arm", "seed", "state", "overrides", "stages"),
        rows=tuple(rows),
        fields=("arm", "seed", "cell", "state", "overrides", "stages"),
        records=tuple(records),
    )


def _cell_names(cell: CellResult | PairResult) -> tuple[Shown, Shown]:
    return Shown(cell.arm, tone="name"), Shown(str(cell.seed))


def _stage_text(stage: StageResult) -> str:
    return f"{stage.name}-{stage.key}" + ("" if stage.complete else " (incomplete)")


def cost_table(study: StudyResult) -> Table:
    """Return seconds and memory, one row per cell."""
    names = _stage_names(study)
    users = _cells_by_stage_key(study)
    rows, records = [], []
    for cell in study.planned:
        stages = {stage.name: stage for stage in _own_stages(cell) if stage.complete}
        seconds, shown = [], []
        for name in names:
            stage = stages.get(name)
            seconds.append(stage.record.get("seconds") if stage else None)
            shared = " †" if stage and users.get(stage.key, 1) > 1 else ""
            shown.append(Shown("–" if seconds[-1] is None else f"{seconds[-1]:,.1f}{shared}"))
        rate, peak = _samples_per_second(cell, stages), _peak_mb(stages)
        outside = _outside_seconds(stages.values())
        numbers = [_or_dash(outside, ",.1f"), _or_dash(rate, ".1f"), _or_dash(peak, ",.0f")]
        rows.append((*_cell_names(cell), *shown, *map(Shown, numbers)))
        records.append((cell.arm, cell.seed, *seconds, outside, rate, peak))
    return Table(
        name="cost",
        title="Cost",
        note=(
            "Seconds per stage; † made once and shared by several cells. Peak memory is the highest of the"
            f" cell's stages. The harness itself is what jobs did around stages: {_harness_share(study)}"
        ),
        header=("arm", "seed", *[f"{name} s" for name in names], "harness s", "samples/s", "peak MB"),
        rows=tuple(rows),
        fields=("arm", "seed", *[f"{name}_s" for name in names], "harness_s", "samples_per_s", "peak_mb"),
        records=tuple(records),
    )


def total_seconds(study: StudyResult) -> float:
    """Return the seconds of all stages, each counted once."""
    return math.fsum(stage.record.get("seconds", 0) for stage in _complete_stages(study))


def _complete_stages(study: StudyResult) -> Sequence[StageResult]:
    """Return every stage of the study that is complete, once."""
    stages: dict[str, StageResult] = {}
    for cell in study.planned:
        stages |= {stage.key: stage for stage in cell.stages if stage.complete}
    return list(stages.values())


def _outside_seconds(stages: Iterable[StageResult]) -> float | None:
    """Return the seconds that jobs spent around stages; None where none of these is recorded."""
    seconds = [stage.record["outside_s"] for stage in stages if "outside_s" in stage.record]
    return math.fsum(seconds) if seconds else None


def _harness_share(study: StudyResult) -> str:
    stages = _complete_stages(study)
    outside, inside = _outside_seconds(stages), total_seconds(study)
    if outside is None or not outside + inside:
        return "not recorded."
    return f"{outside:,.0f} s, {outside / (outside + inside):.1%} of all seconds."


def _stage_names(study: StudyResult) -> list[str]:
    names: dict[str, None] = {}
    for cell in study.planned:
        names |= dict.fromkeys(stage.name for stage in cell.stages)
    return list(names)


def _cells_by_stage_key(study: StudyResult) -> dict[str, int]:
    """Return stage key -> the number of cells that have the stage."""
    users: dict[str, int] = {}
    for cell in study.planned:
        for key in {stage.key for stage in _own_stages(cell)}:
            users[key] = users.get(key, 0) + 1
    return users


def _own_stages(cell: CellResult | PairResult) -> Sequence[StageResult]:
    """Return the stages of a cell; of a pair the votes alone, as the others are those of its arms."""
    return cell.stages[-1:] if isinstance(cell, PairResult) else cell.stages


def _samples_per_second(cell: CellResult | PairResult, stages: Mapping[str, StageResult]) -> float | None:
    if isinstance(cell, PairResult):
        return None
    seconds = stages["samples"].record.get("seconds") if "samples" in stages else None
    return len(cell.samples) / seconds if cell.samples and seconds else None


def _peak_mb(stages: Mapping[str, StageResult]) -> float | None:
    peaks = [stage.record.get("peak_mb") for stage in stages.values()]
    return max((peak for peak in peaks if peak is not None), default=None)


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
