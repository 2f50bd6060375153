"""Stage program `plans`: whether chain and image of every sample have the relation that its prompt says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import plugin_values, team
from harness.composition.components import make
from harness.evaluation.plan_measures import measure_plan
from harness.evaluation.sample_rows import PARTS, Batch, write_sample_rows
from harness.files import read_rows, write_text
from harness.interventions.reading import Reading
from harness.plan_rows import PlanRow
from harness.planned import mean_iou, planned_boxes
from harness.samples import DrawnFrom, SampleFolder
from harness.types import Metric, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.protocols import Benchmark, Workspace
    from harness.relations import Found

RESUME_FILES = (PARTS,)


def measure(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Compare plan, image and prompt of all samples.

    Writes `plans.jsonl` and `metric.json`. Several processes share the samples. Samples that an interrupted
    attempt has measured are not measured again. `settings["roles"]` is that of `evaluation.reading`; every
    row has the measures of both of its rules.
    """
    benchmark: Benchmark = make(settings["benchmark"])
    scores = {row["index"]: row["value"] for row in read_rows(inputs["scores"] / "scores.jsonl")}

    def rows_of(batch: Batch) -> list[dict[str, Any]]:
        rows = _measure_batch(benchmark, batch, roles=settings["roles"], scores=scores)
        return [row.to_json() for row in rows]

    write_sample_rows(work, "plans.jsonl", SampleFolder(inputs["samples"]), rows_of)
    if team.rank_and_size()[0] == 0:
        described = describe(benchmark, roles=settings["roles"])
        write_text(work.folder / "metric.json", json.dumps(described, indent=1, ensure_ascii=False))


def describe(benchmark: Benchmark, *, roles: str) -> dict[str, dict[str, Any]]:
    """Return measure -> its name, labels, notes and mirror check, as `metric.json` of scores has them."""
    locator = benchmark.locator or Metric(name="")
    by = f" ({locator.name})" if locator.name else ""
    read = (f"roles={roles}",)
    judged = (f"rule={'own' if benchmark.relation_holds else 'center'}", *read)
    metrics = {
        "relation": Metric(name=f"relation{by}", labels=(*judged, *locator.labels)),
        "plan right": Metric(name="plan right", labels=judged),
        "followed": Metric(name=f"followed{by}", labels=(*read, *locator.labels)),
        "plan IoU": Metric(name=f"plan IoU{by}", labels=(*read, *locator.labels)),
    }
    return {
        measure: {"name": metric.name, "labels": list(metric.labels), "notes": [], "mirror": None}
        for measure, metric in metrics.items()
    }


def _measure_batch(
    benchmark: Benchmark, batch: Batch, *, roles: str, scores: Mapping[int, float | None]
) -> list[PlanRow]:
    """Return the rows of a batch; of an image that cannot be read the plan alone is measured."""
    samples = [sample for _, sample in batch if isinstance(sample, Sample)]
    located = iter(_locate(benchmark, samples))
    shares = iter(_planned_iou(benchmark, samples))
    rows = []
    for row, sample in batch:
        found, ri = (next(located), next(shares)) if isinstance(sample, Sample) else (sample, None)
        unscored = found if isinstance(found, str) else None
        prompt = row.to_prompt()
        own, center = (Reading(benchmark, prompt, roles=roles, rule=rule) for rule in ("own", "center"))
        measures = measure_plan(own, center, row.to_chain(), None if isinstance(found, str) else found)
        rows.append(
            PlanRow(
                index=row.index,
                prompt_id=row.prompt_id,
                category=row.category,
                number=row.number,
                seed=row.seed,
                **measures,
                ri=ri,
                applied=None if row.drawn_from is None else row.drawn_from.applied,
                nll=_nll(row.drawn_from),
                score=scores[row.index],
                unscored=unscored,
            )
        )
    return rows


def _locate(benchmark: Benchmark, samples: Sequence[Sample]) -> list[Found | str | None]:
    """Return where the images show subject and object, why not, or None where the prompt says no relation."""
    assert benchmark.locate is not None, "planning leaves the stage out for other benchmarks"
    asked = [sample for sample in samples if Reading(benchmark, sample.prompt).relation]
    who = f"benchmark {type(benchmark).__name__}: locate"
    located = plugin_values.located(benchmark.locate(asked), len(asked), who) if asked else []
    by_sample = {id(sample): found for sample, found in zip(asked, located, strict=True)}
    return [by_sample.get(id(sample)) for sample in samples]


def _planned_iou(benchmark: Benchmark, samples: Sequence[Sample]) -> list[float | None]:
    """Return the mean IoU over all planned objects; None where nothing is planned or cannot be found."""
    if benchmark.ground is None:
        return [None for _ in samples]
    images: list[Image] = []
    names: list[str] = []
    for sample in samples:
        own = planned_boxes(sample.chain)
        images += [sample.image] * len(own)
        names += own
    who = f"benchmark {type(benchmark).__name__}: ground"
    given = benchmark.ground(images, names) if names else []
    answers = iter(plugin_values.one_each(given, len(names), who, "answers", "name"))
    shares: list[float | None] = []
    for sample in samples:
        found = {name: next(answers) for name in planned_boxes(sample.chain)}
        measured = sample.chain.objects and None not in found.values()
        shares.append(mean_iou(sample.chain, found) if measured else None)
    return shares


def _nll(drawn_from: DrawnFrom | None) -> float | None:
    if drawn_from is None or drawn_from.nll is None or not drawn_from.nll_ids:
        return None
    return drawn_from.nll / drawn_from.nll_ids
