"""Scores images by the rules of GenEval, with detections from models or from a file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.geneval import results
from benchmarks.geneval.detections import GivenDetections, Seeing, Source, View
from benchmarks.geneval.files import metadata_version, read_names
from benchmarks.geneval.rules import LIMITS, colored, evaluate, keep
from benchmarks.geneval.summary import summarise
from benchmarks.mode import Mode, check_mode
from harness.types import Detections, Metric, Prompt, Sample, Score

if TYPE_CHECKING:
    from benchmarks.geneval.models.colors import ColorClassifier
    from benchmarks.geneval.models.mask2former import Mask2Former

SUMMARY = "summary.txt"
WITH_COLORS = {"colors", "color_attr"}


class Scoring:
    """Settings, until there are prompts (`scorer`).

    Args:
        mode: official or corrected (docs/geneval.md).
        given: a file with what others have seen (`detections`), None to look with the models.
        detector: finds objects.
        colors: tells their colors.

    Raises:
        ValueError: the file is missing, or a setting is none of those allowed.
    """

    def __init__(
        self, *, mode: str, given: str | None, detector: Mask2Former, colors: ColorClassifier
    ) -> None:
        self.mode, self._detector, self._colors = check_mode(mode), detector, colors
        self._given = Path(given) if given is not None else None
        if self._given is not None and not self._given.is_file():
            raise ValueError(
                f"benchmarks.scoring.given={given}: there is no such file. Give one with a row for "
                "each image, or null"
            )
        self.external = (given,) if given is not None else ()

    def scorer(self, root: Path, categories: Collection[str], prompts: Sequence[Prompt]) -> Scorer:
        """What judges images of these categories; `root` is the folder of the published files, `prompts`
        are all of them in order.

        Raises:
            ValueError: a file is missing there.
        """
        names, version = read_names(root), metadata_version(root)
        source: Source
        if self._given is not None:
            source = GivenDetections(self._given, names)
        else:
            source = Seeing(self._detector, self._colors, names, above=LIMITS[self.mode].score)
        labels = () if version == "published" else (f"prompts of {version}",)
        metric = Metric(name=source.metric, labels=(f"mode={self.mode}", *source.labels, *labels))
        return Scorer(source, metric, prompts, mode=self.mode, colors=not WITH_COLORS.isdisjoint(categories))


class Scorer:
    """Judges images. `metric` is what their scores are, `official` what those of the official program are."""

    official = Metric(name=GivenDetections.metric)

    def __init__(
        self, source: Source, metric: Metric, prompts: Sequence[Prompt], *, mode: Mode, colors: bool
    ) -> None:
        self._source, self.metric, self._prompts = source, metric, prompts
        self._mode, self._colors = mode, colors

    def load(self) -> None:
        """Loads what the categories need.

        Raises:
            ValueError: it is not there; says where it comes from.
        """
        self._source.load(colors=self._colors)

    def score(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        """1 for an image that is right, 0 for one that is wrong."""
        views = self._source.look(samples, self._colored, mirrored=mirrored)
        return [
            Score(value=None, unscored=view)
            if isinstance(view, str)
            else self._score(sample.prompt.facts, view)
            for sample, view in zip(samples, views, strict=True)
        ]

    def write(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Writes the official result file and what the official summary prints; or returns why nothing
        was written.
        """
        if unscored := sum(row["value"] is None for row in rows):
            return f"{results.RESULTS} is not written, {unscored} of {len(rows)} images are unscored"
        found = [self._result(row) for row in rows]
        results.write(folder / results.RESULTS, found)
        shown = summarise((one.metadata["tag"], json.dumps(one.metadata), one.correct) for one in found)
        (folder / SUMMARY).write_text(shown.text(), encoding="utf-8")
        return None

    def _result(self, row: Mapping[str, Any]) -> results.Result:
        place, evidence = int(row["prompt_id"].rpartition("/")[2]), row["evidence"]
        facts = self._prompts[place].facts
        return results.Result(
            filename=results.filename(place, row["number"]),
            metadata={**facts, "prompt": row.get("prompt", facts["prompt"])},  # it may have been rewritten
            correct=bool(row["value"]),
            reason=evidence["reason"],
            details=evidence["kept"],
        )

    def read(self, folder: Path, categories: Collection[str]) -> list[tuple[Prompt, Score]]:
        """Prompt and score of every image of the categories in the official result file.

        A prompt that was rewritten has the text that the file gives.

        Raises:
            ValueError: it is missing, no such file, or does not hold them.
        """
        wanted = [place for place, prompt in enumerate(self._prompts) if prompt.category in categories]
        found = results.read(folder / results.RESULTS, [prompt.facts for prompt in self._prompts], wanted)
        return [
            (
                replace(self._prompts[place], number=number, text=one.metadata["prompt"]),
                Score(value=float(one.correct), evidence={"reason": one.reason, "kept": one.details}),
            )
            for (place, number), one in found.items()
        ]

    def _colored(self, sample: Sample, found: Detections) -> Sequence[tuple[str, int]]:
        metadata = sample.prompt.facts
        return colored(metadata, keep(found, metadata["tag"], mode=self._mode), mode=self._mode)

    def _score(self, metadata: Mapping[str, Any], view: View) -> Score:
        found, kept = view.found, keep(view.found, metadata["tag"], mode=self._mode)
        verdict = evaluate(
            metadata, found, kept, lambda name, place: view.colors[name, place], mode=self._mode
        )
        colors = {place: color for (_, place), color in view.colors.items()}
        boxes = [
            {
                **{
                    "label": found.labels[place],
                    "score": found.scores[place],
                    "box": list(found.boxes[place]),
                },
                **({"color": colors[place]} if place in colors else {}),
            }
            for place in verdict.used
        ]
        evidence = {
            "reason": verdict.reason,
            "frame": list(found.frame),
            "boxes": boxes,
            "kept": results.details(found, kept),
        }
        return Score(value=float(verdict.correct), evidence=evidence)
