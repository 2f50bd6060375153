"""What the doctor says of a study's sample size: from the last study of the benchmark, or from a prior."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.table import Table

from harness.analysis.design import PRIOR, Deviations, expected_spread, measured_deviations
from harness.analysis.results import read_plan, read_study
from harness.analysis.sample_size import detectable, least_margin
from harness.composition.components import make
from harness.types import Cell

if TYPE_CHECKING:
    from harness.protocols import Benchmark

SEEDS = (1, 2, 3, 5)


def detectable_table(cell: Cell, studies: Path) -> Table:
    """The difference of two arms' means over all categories that a study of such cells can detect.

    Args:
        cell: any cell of the study; all have the same prompts and images.
        studies: `outputs/studies`, of which the last finished study of the same benchmark gives the spread.
    """
    benchmark: Benchmark = make(cell.config["benchmarks"])
    evaluation = cell.config["evaluation"]
    prompts = Counter(prompt.category for prompt in benchmark.prompts(evaluation["split"]))
    images = evaluation["images_per_prompt"] or benchmark.images_per_prompt
    deviations = _last_deviations(cell.config["benchmarks"], studies) or PRIOR
    count = " to ".join(map(str, dict.fromkeys((min(prompts.values()), max(prompts.values())))))
    shown = Table(
        title=(
            f"Detectable difference of two arms, mean over {len(prompts)} categories of {count} prompts,"
            f" images per prompt: {images} (power 0.8 at the two-sided level 0.05)"
        ),
        caption=f"Standard deviation of a difference: {deviations.source}.",
        title_justify="left",
        caption_justify="left",
    )
    for head in ("seeds", "about", "difference", "shows equality within"):
        shown.add_column(head)
    for seeds in SEEDS:
        spread = expected_spread(deviations, prompts, images=images, seeds=seeds)
        about = "this run only" if seeds == 1 else "training"
        shown.add_row(str(seeds), about, _number(detectable(spread)), f"±{_number(least_margin(spread))}")
    return shown


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _last_deviations(benchmark: Mapping[str, Any], studies: Path) -> Deviations | None:
    """The deviations of the last planned study of a benchmark that has them."""
    plans = []
    for file in studies.glob("*/plan.json"):
        try:
            plans.append((read_plan(file.parent)["created"], file.parent))
        except ValueError:
            continue
    for _, folder in sorted(plans, reverse=True):
        if not _is_of(benchmark, folder):
            continue
        try:
            found = measured_deviations(read_study(folder))
        except ValueError:
            continue
        if found:
            return found
    return None


def _is_of(benchmark: Mapping[str, Any], folder: Path) -> bool:
    """Whether the cells of a study have this benchmark, with whatever settings."""
    configs = sorted(folder.glob("cells/*/config.yaml"))
    return bool(configs) and OmegaConf.load(configs[0]).benchmarks["_target_"] == benchmark["_target_"]
