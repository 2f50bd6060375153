"""Whether an intervention can change anything under the settings of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.interventions.case import Intervention

if TYPE_CHECKING:
    from harness.protocols import Benchmark


_OFFERS = {
    "relation": "benchmarks=shapes, benchmarks=t2i_compbench with 2D-spatial",
    "colors": "benchmarks=t2i_compbench with color",
}


def check_benchmark(intervention: Intervention, benchmark: Benchmark, option: str) -> None:
    """Check that a benchmark offers what an intervention reads of prompts.

    Args:
        intervention: the component.
        benchmark: the component.
        option: the name of the benchmark in `benchmarks=`.

    Raises:
        ValueError: it offers nothing of it.
    """
    reads = intervention.reads
    if reads and not any(getattr(benchmark, name) for name in reads):
        wanted = " and no ".join(name.removesuffix("s") for name in reads)
        offers = ", ".join(_OFFERS[name] for name in reads)
        raise ValueError(
            f"benchmark {option} names no {wanted}: {intervention.name} would change nothing. Take {offers},"
            " or intervention=null"
        )


def check_temperature(intervention: Intervention, text_temperature: float) -> None:
    """Check that the candidates of an intervention can differ.

    Raises:
        ValueError: it has several, and chains are drawn greedily.
    """
    if intervention.candidates > 1 and text_temperature == 0:
        raise ValueError(
            f"intervention {intervention.name} has {intervention.candidates} candidates, and with temperature"
            " 0 all candidates are equal: set evaluation.rollout.text_temperature above 0"
        )
