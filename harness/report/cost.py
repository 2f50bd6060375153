"""The tables about the runs themselves: training, counts, cells; and cost, the one that holds times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.analysis.analysis import Analysis
from harness.analysis.results import CellResult, StageResult, StudyResult
from harness.report.table import Shown, Table, Value

REWARD = "reward"
COMPONENT = "component/"
_COUNTED = ("zero_spread_groups", "unscored", "truncated_chains", "faulty_chains")
_FINAL_SHARE = 10  # final values are means over the last tenth of the steps


def run_tables(analysis: Analysis) -> list[Table]:
    return [
        training_table(analysis.study),
        counts_table(analysis.study),
        cells_table(analysis.study),
        cost_table(analysis.study),
    ]


def reward_metrics(cell: CellResult) -> Sequence[Mapping[str, float | None]]:
    """The metrics lines of the cell's last stage that logged a reward, complete or not."""
    logged = [stage.metrics for stage in cell.stages if any(REWARD in line for line in stage.metrics)]
    return logged[-1] if logged else ()


def component_names(study: StudyResult) -> list[str]:
    """The reward components that any cell logged, without their prefix, in the order first met."""
    names = (
        name
        for cell in study.cells
        for line in reward_metrics(cell)
        for name in line
        if name.startswith(COMPONENT)
    )
    return [name.removeprefix(COMPONENT) for name in dict.fromkeys(names)]


def final_value(lines: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    """Mean over the last tenth of the steps that logged it."""
    tail = lines[-max(1, len(lines) // _FINAL_SHARE) :]
    values = [value for line in tail if (value := line.get(name)) is not None]
    return math.fsum(values) / len(values) if values else None


def training_table(study: StudyResult) -> Table:
    components = component_names(study)
    names = (REWARD, *[COMPONENT + name for name in components], "kl")
    finals = [
        (cell, lines, [final_value(lines, name) for name in names])
        for cell in study.cells
        for lines in [reward_metrics(cell)]
    ]
    return Table(
        name="training",
        title="Reward at the end of training",
        note="Mean over the last tenth of the steps, on training prompts. Totals of different arms are different quantities.",
        header=("arm", "seed", "steps", "total", *components, "KL"),
        rows=tuple(
            (
                Shown(cell.arm, tone="name"),
                Shown(str(cell.seed)),
                Shown(
                    str(len(lines)) if lines else "no reward training" if cell.measured else cell.state,
                    tone="" if lines else "missing",
                ),
                *[Shown("–" if value is None else f"{value:.3f}") for value in values],
            )
            for cell, lines, values in finals
        ),
        fields=("arm", "seed", "state", "steps", "total", *components, "kl"),
        records=tuple(
            (cell.arm, cell.seed, cell.state, len(lines), *values) for cell, lines, values in finals
        ),
    )


def counts_table(study: StudyResult) -> Table:
    fields = (
        "samples",
        "unscored_samples",
        "truncated_chains",
        "faulty_chains",
        *[f"training_{name}" for name in _COUNTED],
    )
    counts = [(cell, _counts(cell)) for cell in study.cells]
    return Table(
        name="counts",
        title="What was left out or went wrong",
        note="Evaluation samples, then sums over the training steps. What is unscored is left out of means and pairs, never counted as 0.",
        header=("arm", "seed", *[name.replace("_", " ") for name in fields]),
        rows=tuple(
            (
                Shown(cell.arm, tone="name"),
                Shown(str(cell.seed)),
                *[Shown("–" if value is None else str(value)) for value in values],
            )
            for cell, values in counts
        ),
        fields=("arm", "seed", "state", *fields),
        records=tuple((cell.arm, cell.seed, cell.state, *values) for cell, values in counts),
    )


def _counts(cell: CellResult) -> list[Value]:
    samples, scores, lines = cell.samples, cell.scores, reward_metrics(cell)
    return [
        None if samples is None else len(samples),
        None if scores is None else sum(row.value is None for row in scores),
        None if samples is None else sum(row.truncated for row in samples),
        None if samples is None else sum(bool(row.faults) for row in samples),
        *[int(sum(line.get(name) or 0 for line in lines)) if lines else None for name in _COUNTED],
    ]


def cells_table(study: StudyResult) -> Table:
    return Table(
        name="cells",
        title="Cells of the study",
        note="Every planned cell, whatever became of it.",
        header=("arm", "seed", "state", "overrides", "stages"),
        rows=tuple(
            (
                Shown(cell.arm, tone="name"),
                Shown(str(cell.seed)),
                Shown(cell.state, tone="" if cell.measured else "missing"),
                Shown(" ".join(cell.overrides) or "–"),
                Shown(" ".join(_stage_text(stage) for stage in cell.stages)),
            )
            for cell in study.cells
        ),
        fields=("arm", "seed", "cell", "state", "overrides", "stages"),
        records=tuple(
            (
                cell.arm,
                cell.seed,
                cell.id,
                cell.state,
                " ".join(cell.overrides),
                " ".join(_stage_text(stage) for stage in cell.stages),
            )
            for cell in study.cells
        ),
    )


def _stage_text(stage: StageResult) -> str:
    return f"{stage.name}-{stage.key}" + ("" if stage.complete else " (incomplete)")


def cost_table(study: StudyResult) -> Table:
    names = list(dict.fromkeys(stage.name for cell in study.cells for stage in cell.stages))
    shared = _shared(study)
    costs = [(cell, {stage.name: stage for stage in cell.stages if stage.complete}) for cell in study.cells]

    def seconds(stages: Mapping[str, StageResult], name: str) -> Shown:
        if name not in stages or "seconds" not in stages[name].record:
            return Shown("–")
        many = shared.get(stages[name].key, 1) > 1
        return Shown(f"{stages[name].record['seconds']:,.1f}{' †' if many else ''}")

    return Table(
        name="cost",
        title="Cost",
        note="Seconds per stage; † made once and shared by several cells. Peak memory is the highest of the cell's stages.",
        header=("arm", "seed", *[f"{name} s" for name in names], "samples/s", "peak MB"),
        rows=tuple(
            (
                Shown(cell.arm, tone="name"),
                Shown(str(cell.seed)),
                *[seconds(stages, name) for name in names],
                Shown(_or_dash(_samples_per_second(cell, stages), ".1f")),
                Shown(_or_dash(_peak_mb(stages), ",.0f")),
            )
            for cell, stages in costs
        ),
        fields=("arm", "seed", *[f"{name}_s" for name in names], "samples_per_s", "peak_mb"),
        records=tuple(
            (
                cell.arm,
                cell.seed,
                *[stages[name].record.get("seconds") if name in stages else None for name in names],
                _samples_per_second(cell, stages),
                _peak_mb(stages),
            )
            for cell, stages in costs
        ),
    )


def total_seconds(study: StudyResult) -> float:
    """Seconds of all stages, each counted once."""
    stages = {stage.key: stage for cell in study.cells for stage in cell.stages if stage.complete}
    return math.fsum(stage.record.get("seconds", 0) for stage in stages.values())


def _shared(study: StudyResult) -> dict[str, int]:
    users: dict[str, int] = {}
    for cell in study.cells:
        for key in {stage.key for stage in cell.stages}:
            users[key] = users.get(key, 0) + 1
    return users


def _samples_per_second(cell: CellResult, stages: Mapping[str, StageResult]) -> float | None:
    seconds = stages["samples"].record.get("seconds") if "samples" in stages else None
    return len(cell.samples) / seconds if cell.samples and seconds else None


def _peak_mb(stages: Mapping[str, StageResult]) -> float | None:
    return max(
        (stage.record["peak_mb"] for stage in stages.values() if stage.record.get("peak_mb") is not None),
        default=None,
    )


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
