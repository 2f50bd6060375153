"""Measures made of others: 3-in-1 for complex prompts, and imported results of official programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.measures import IMAGES, OFFICIAL_NAMES, Evidence, Measure, score_with
from benchmarks.t2i_compbench.rules import merge
from harness.types import Prompt, Sample, Score


class ThreeInOne:
    """Section 9: attributes, relation and scene of a complex prompt. Only the parts that its route
    needs are measured.
    """

    name, metric = "three_in_one", "3-in-1"
    absent = None  # if a part is absent, prompts of other routes can still be scored
    models = ()  # its parts have them

    def __init__(
        self, parts: Mapping[str, Measure], *, spatial: Collection[str], action: Collection[str], mode: Mode
    ) -> None:
        self.parts, self._spatial, self._action, self._mode = parts, spatial, action, mode
        labels = [(*_odd(part), *part.labels) for part in parts.values()]
        self.labels = tuple(dict.fromkeys(chain.from_iterable(labels)))

    def of_parts(self, parts: Mapping[str, Measure]) -> ThreeInOne:
        """The same of other parts."""
        return ThreeInOne(parts, spatial=self._spatial, action=self._action, mode=self._mode)

    def route(self, prompt: str) -> merge.Route:
        return merge.route(prompt, self._spatial, self._action)

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        routes = [self.route(sample.prompt.text) for sample in samples]
        measured: list[dict[str, Score]] = [{} for _ in samples]
        for name, part in self.parts.items():
            concerned = [place for place, which in enumerate(routes) if name in merge.NEEDED[which]]
            scores = score_with(part, [samples[place] for place in concerned], mirrored=mirrored)
            for place, score in zip(concerned, scores, strict=True):
                measured[place][name] = score
        return [self._merge(which, scores) for which, scores in zip(routes, measured, strict=True)]

    def of(self, prompt: Prompt) -> Score:
        """Of imported parts, which need no image."""
        which = self.route(prompt.text)
        scores = {}
        for name in merge.NEEDED[which]:
            part = self.parts[name]
            assert isinstance(part, Imported)
            scores[name] = part.of(prompt)
        return self._merge(which, scores)

    def _merge(self, which: merge.Route, scores: Mapping[str, Score]) -> Score:
        evidence: Evidence = {"route": which}
        for name, score in scores.items():
            boxes = {key: score.evidence[key] for key in ("boxes", "frame") if key in score.evidence}
            rest = {key: value for key, value in score.evidence.items() if key not in boxes}
            evidence |= {**boxes, name: {"value": score.value, **rest}}
        if missing := [f"{name}: {score.unscored}" for name, score in scores.items() if score.unscored]:
            return Score(value=None, evidence=evidence, unscored="; ".join(missing))
        values = {name: score.value for name, score in scores.items() if score.value is not None}
        return Score(value=merge.merge(which, **values, mode=self._mode), evidence=evidence)


class Imported:
    """The results of an official program that ran elsewhere, in place of a measure.

    Args:
        by: the measure that it replaces.
        values: question_id -> value; image k of prompt i is `IMAGES * i + k`.
        folder: where they are from.
        places: id of a val prompt -> its i.
    """

    absent, models = None, ()

    def __init__(
        self, by: Measure, values: Mapping[int, float], folder: Path, places: Mapping[str, int]
    ) -> None:
        self.name, self.metric = by.name, OFFICIAL_NAMES.get(by.name, by.metric)
        self.labels = (f"{by.name} imported",)
        self._values, self._folder, self._places = values, folder, places

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        if mirrored:
            return [
                Score(value=None, unscored=f"{self._folder} says nothing of mirrored images") for _ in samples
            ]
        return [self.of(sample.prompt) for sample in samples]

    def of(self, prompt: Prompt) -> Score:
        if prompt.id not in self._places or prompt.number >= IMAGES:
            return Score(
                value=None,
                unscored=f"{self._folder} holds {IMAGES} images of each val prompt, and this is none of them",
            )
        return Score(
            value=self._values[IMAGES * self._places[prompt.id] + prompt.number],
            evidence={"imported": str(self._folder)},
        )


def _odd(part: Measure) -> tuple[str, ...]:
    """The name of a part's metric where its model is not the official one."""
    return (part.metric,) if "(" in part.metric else ()
