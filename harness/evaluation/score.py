"""Stage program `scores`: the benchmark's score of every sample, and a description of the scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import plugin_values, team
from harness.analysis import mirror
from harness.composition.components import make
from harness.evaluation.sample_rows import PARTS, Batch, write_sample_rows
from harness.files import read_rows, write_text
from harness.samples import SampleFolder, ScoreRow, score_row
from harness.types import Sample, Score

if TYPE_CHECKING:
    from harness.protocols import Scorer, Workspace

LEAST = -1.0  # CLIPScore is a cosine
RESUME_FILES = (PARTS,)


def score(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Score all samples by the benchmark's rules.

    Writes `scores.jsonl`, `metric.json`, and `official/` in the forms of the benchmark's official programs.
    Several processes share the samples. Samples that an interrupted attempt has scored are not scored
    again.
    """
    benchmark = make(settings["benchmark"])
    mirror_checked = settings.get("check") == "mirror"

    def rows_of(batch: Batch) -> list[dict[str, Any]]:
        return [row.to_json() for row in _score_batch(benchmark, batch, mirror_checked=mirror_checked)]

    samples = SampleFolder(inputs["samples"])
    file = write_sample_rows(work, "scores.jsonl", samples, rows_of, load=benchmark.load)
    if team.rank_and_size()[0] == 0:
        _describe(work.folder, benchmark, read_rows(file), inputs["samples"] / "protocol.json")


def _score_batch(benchmark: Scorer, batch: Batch, *, mirror_checked: bool) -> list[ScoreRow]:
    """Return the scores of a batch, with `mirror_checked` also those of the mirrored images."""
    samples = [sample for _, sample in batch if isinstance(sample, Sample)]
    scores = iter(_scores(benchmark, samples))
    mirrored = iter(_mirrored(benchmark, samples) if mirror_checked else [None] * len(samples))
    rows = []
    for row, sample in batch:
        if isinstance(sample, Sample):
            rows.append(score_row(row, next(scores), next(mirrored), mirror_checked=mirror_checked))
        else:
            unscored = Score(value=None, unscored=sample)
            rows.append(score_row(row, unscored, mirror_checked=mirror_checked))
    return rows


def _scores(benchmark: Scorer, samples: Sequence[Sample]) -> list[Score]:
    if not samples:
        return []
    return plugin_values.scores(benchmark.score(samples), samples, _who(benchmark), least=LEAST)


def _mirrored(benchmark: Scorer, samples: Sequence[Sample]) -> list[Score | None]:
    """Return the scores of the mirrored images."""
    assert benchmark.mirrored is not None, "planning refuses the check for other benchmarks"
    if not samples:
        return []
    who = f"{_who(benchmark)}: mirrored"
    given = plugin_values.one_each(benchmark.mirrored(samples), len(samples), who, "scores", "sample")
    checked = plugin_values.scores(given, samples, who, least=LEAST)
    return [None if one is None else score for one, score in zip(given, checked, strict=True)]


def _who(benchmark: Scorer) -> str:
    return f"benchmark {type(benchmark).__name__}"


def _describe(folder: Path, benchmark: Scorer, scored: Sequence[Mapping[str, Any]], protocol: Path) -> None:
    """Write `metric.json`, and the files of the benchmark's official programs."""
    said = json.loads(protocol.read_text(encoding="utf-8")) if protocol.is_file() else {}
    rows = [ScoreRow.from_json(row) for row in scored]
    described = describe(benchmark, rows, labels=said.get("labels", {}), notes=said.get("notes", []))
    write_text(folder / "metric.json", json.dumps(described, indent=1, ensure_ascii=False))
    benchmark.write_results(folder / "official", scored)


def describe(
    benchmark: Scorer,
    scored: Sequence[ScoreRow],
    *,
    labels: Mapping[str, Sequence[str]],
    notes: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Return category -> the metric's name and labels, notes, and the mirror check of its scores.

    A category without any of these is left out.

    Args:
        benchmark: the benchmark that scored.
        scored: all its scores.
        labels: more labels by category.
        notes: notes that hold for all categories.
    """
    described = {}
    for category in dict.fromkeys(row.category for row in scored):
        check = mirror.verdict(_mirror_pairs(scored, category))
        metric = benchmark.metrics.get(category)
        category_labels = [*(metric.labels if metric else ()), *labels.get(category, ())]
        category_notes = [*notes, *filter(None, [mirror.note(check)])]
        if metric or category_labels or category_notes or check:
            described[category] = {
                "name": metric.name if metric else "",
                "labels": category_labels,
                "notes": category_notes,
                "mirror": check,
            }
    return described


def _mirror_pairs(scored: Sequence[ScoreRow], category: str) -> list[tuple[str, float, float]]:
    """Return prompt id, score and score of the mirrored image where both are known."""
    pairs = []
    for row in scored:
        if row.category == category and row.value is not None and row.mirrored is not None:
            pairs.append((row.prompt_id, row.value, row.mirrored))
    return pairs
