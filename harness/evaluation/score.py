"""Stage program `scores`: what the benchmark says of every sample, and what its scores are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis import mirror
from harness.composition.components import make
from harness.evaluation import row_shards
from harness.files import read_rows, write_rows
from harness.samples import SampleFolder
from harness.types import Sample, Score

if TYPE_CHECKING:
    from harness.protocols import Benchmark, Workspace

PIXELS = 64 * 2**20  # of the images that are scored at once: 192 MB


def score(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Scores all samples by the benchmark's rules: `scores.jsonl`, `metric.json`, and `official/` in the benchmark's own forms.

    Several processes share the samples out; what an interrupted attempt has scored is not scored again.
    """
    benchmark, folder, file = (
        make(settings["benchmark"]),
        SampleFolder(inputs["samples"]),
        work.folder / "scores.jsonl",
    )
    drawn, pieces = folder.rows(), row_shards.Parts(work.folder / "parts")
    if not file.is_file():
        pieces.open()
        _score(work, pieces, benchmark, folder, drawn, mirrored=settings.get("check") == "mirror")
        row_shards.meet()
    if row_shards.place()[0] == 0:
        if not file.is_file():
            _merge(pieces.rows(), len(drawn), file)
        shutil.rmtree(work.folder / "parts", ignore_errors=True)
        _describe(work.folder, benchmark, read_rows(file), inputs["samples"] / "protocol.json")


def _score(
    work: Workspace,
    pieces: row_shards.Parts,
    benchmark: Benchmark,
    folder: SampleFolder,
    drawn: Sequence[Mapping[str, Any]],
    *,
    mirrored: bool,
) -> None:
    """This process's share."""
    to_do = list(pieces.to_do(len(drawn)))
    if to_do:
        benchmark.load()
    for block in to_do:
        for batch in _batches(folder, {index: drawn[index] for index in block}):
            judged = _judge(benchmark, batch, mirrored=mirrored)
            pieces.append(
                [_row(index, drawn[index], *pair, mirrored=mirrored) for index, pair in judged.items()]
            )
        work.progress(pieces.count(), len(drawn))


def _batches(
    folder: SampleFolder, block: Mapping[int, Mapping[str, Any]]
) -> Iterator[dict[int, Sample | str]]:
    """The samples of rows by index, or why there is none, so many at a time as memory is meant for."""
    batch: dict[int, Sample | str] = {}
    pixels = 0
    for index, row in block.items():
        one: Sample | str
        try:
            one = folder.sample(row)
            size = one.image.width * one.image.height
        except ValueError as error:
            one, size = str(error), 0
        if batch and pixels + size > PIXELS:
            yield batch
            batch, pixels = {}, 0
        batch[index] = one
        pixels += size
    yield batch


def _judge(
    benchmark: Benchmark, batch: Mapping[int, Sample | str], *, mirrored: bool
) -> dict[int, tuple[Score, Score | None]]:
    """The score of every sample, and with `mirrored` that of its mirror image where it has one."""
    samples = {index: one for index, one in batch.items() if isinstance(one, Sample)}
    scores = benchmark.score(list(samples.values())) if samples else []
    others: list[Score | None] = [None] * len(samples)
    if samples and mirrored:
        assert benchmark.mirrored is not None, "the plan refuses the check"
        others = benchmark.mirrored(list(samples.values()))
    judged = dict(zip(samples, zip(scores, others, strict=True), strict=True))
    unread = {
        index: (Score(value=None, unscored=one), None) for index, one in batch.items() if isinstance(one, str)
    }
    return {index: {**judged, **unread}[index] for index in batch}


def _row(
    index: int, drawn: Mapping[str, Any], judged: Score, flipped: Score | None, *, mirrored: bool
) -> dict[str, Any]:
    return {
        "index": index,
        **{name: drawn[name] for name in ("prompt_id", "category", "number", "seed")},
        "value": judged.value,
        "unscored": judged.unscored,
        "evidence": dict(judged.evidence),
        **({"mirrored": flipped.value if flipped else None} if mirrored else {}),
    }


def _merge(found: Sequence[Mapping[str, Any]], count: int, file: Path) -> None:
    """Writes the rows of all processes as one file, whole."""
    merged = {row["index"]: row for row in found}
    if sorted(merged) != list(range(count)):
        raise ValueError(
            f"the rows in {file.parent / 'parts'} are not those of {count} images: delete it and run the same command again"
        )
    new = file.with_suffix(".new")
    write_rows(new, (merged[index] for index in range(count)))
    new.replace(file)


def _describe(
    folder: Path, benchmark: Benchmark, scored: Sequence[Mapping[str, Any]], protocol: Path
) -> None:
    """Writes what the scores are, and the forms of the benchmark's own programs."""
    said = json.loads(protocol.read_text(encoding="utf-8")) if protocol.is_file() else {}
    described = describe(benchmark, scored, labels=said.get("labels", {}), notes=said.get("notes", []))
    (folder / "metric.json").write_text(json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8")
    benchmark.write_results(folder / "official", scored)


def describe(
    benchmark: Benchmark,
    scored: Sequence[Mapping[str, Any]],
    *,
    labels: Mapping[str, Sequence[str]],
    notes: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Category -> what its scores are: the metric's name and labels, notes, and the mirror check; left out where nothing is to be said.

    Args:
        benchmark: whose scores they are.
        scored: rows of `scores.jsonl`.
        labels: more labels by category.
        notes: what holds for all categories.
    """
    described = {}
    for category in dict.fromkeys(row["category"] for row in scored):
        own = [
            row
            for row in scored
            if row["category"] == category and row["value"] is not None and row.get("mirrored") is not None
        ]
        found = mirror.verdict([(row["prompt_id"], row["value"], row["mirrored"]) for row in own])
        metric = benchmark.metrics.get(category)
        own_labels = [*(metric.labels if metric else ()), *labels.get(category, ())]
        own_notes = [*notes, *filter(None, [mirror.note(found)])]
        if metric or own_labels or own_notes or found:
            described[category] = {
                "name": metric.name if metric else "",
                "labels": own_labels,
                "notes": own_notes,
                "mirror": found,
            }
    return described
