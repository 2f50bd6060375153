"""Maps each category to its measure, or to official results in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.mode import check_mode
from benchmarks.t2i_compbench import official
from benchmarks.t2i_compbench.combined_measures import Imported, ThreeInOne
from benchmarks.t2i_compbench.detections import GivenDepth, GivenDetections
from benchmarks.t2i_compbench.files import objects_file, read_routing
from benchmarks.t2i_compbench.language.choose import Language, choose_language
from benchmarks.t2i_compbench.locators import LOCATORS, ClassLocator, Locator, PhraseLocator
from benchmarks.t2i_compbench.measures import (
    IMAGES,
    BlipVqa,
    ClipScore,
    Measure,
    Numeracy,
    PhraseDetector,
    PhraseSpatial,
    Spatial,
    Spatial3D,
    score_with,
)
from benchmarks.t2i_compbench.prompts import Prompts
from benchmarks.t2i_compbench.rules.merge import key
from benchmarks.t2i_compbench.rules.numeracy import Nouns
from harness.protocols import Needing
from harness.settings import choice
from harness.types import Metric, Prompt, Sample, Score

if TYPE_CHECKING:
    from benchmarks.t2i_compbench.locators import PairDetector
    from harness.protocols import DepthEstimator, Expert, ObjectDetector, Similarity, Vqa

GIVEN = ("rs200", "r50", "depth", "labels")
WHERE = "benchmarks.scoring"
RESULTS = (
    f"give a folder with CATEGORY/{official.FORMS['blip_vqa'].folder}/{official.RESULT} and the like "
    "(docs/t2i_compbench.md)"
)


class Scoring:
    """The settings of scoring. `scorer` combines them with prompts.

    Args:
        mode: official or corrected (docs/t2i_compbench.md).
        np: who finds noun phrases: auto, spacy, rules, or the file of an export.
        noun_phrases: where an export is looked for with `auto`.
        given: files in which others have put what they found, each None where there is none: `rs200` the
            detections for 2D-spatial and complex, `r50` those for 3D-spatial and numeracy, `depth` a
            folder of depth maps, `labels` the list that class ids refer to.
        imported: a folder of official result files, which are taken instead of measuring; None for none.
        vqa: answers the questions of BLIP-VQA.
        clip: the cosine of CLIPScore.
        rs200: the detector of 2D-spatial and complex, where `given` names no file.
        r50: that of 3D-spatial and numeracy.
        depth: tells near from far for 3D-spatial, where `given` names no folder.
        owlv2: the detector of spatial_owlv2.
        gdino: that of spatial_gdino.
        locator: who finds subject and object of a relation for the measures of plans: `owlv2` asks
            `owlv2_pairs`, `rs200` takes the boxes of that detector.
        owlv2_pairs: asked for both phrases together.

    Raises:
        ValueError: files are missing, or a setting is none of those allowed.
    """

    def __init__(
        self,
        *,
        mode: str,
        np: str,
        noun_phrases: str | None,
        given: Mapping[str, str | None],
        imported: str | None,
        vqa: Vqa,
        clip: Similarity,
        rs200: ObjectDetector,
        r50: ObjectDetector,
        depth: DepthEstimator,
        owlv2: PhraseDetector,
        gdino: PhraseDetector,
        locator: str,
        owlv2_pairs: PairDetector,
    ) -> None:
        if set(given) != set(GIVEN):
            raise ValueError(
                f"{WHERE}.given has {', '.join(given) or 'nothing'}: it takes {', '.join(GIVEN)}"
            )
        self.mode, self.language = check_mode(mode), choose_language(np, noun_phrases)
        self.vqa, self.clip = vqa, clip
        self.rs200 = _given_detections(given["rs200"], given["labels"]) or rs200
        self.r50 = _given_detections(given["r50"], given["labels"]) or r50
        self.depth = (
            GivenDepth(folder=folder, name=Path(folder).name) if (folder := given["depth"]) else depth
        )
        self.asked = {"spatial_owlv2": owlv2, "spatial_gdino": gdino}
        self.locator: Locator = (
            PhraseLocator(owlv2_pairs)
            if choice(f"{WHERE}.locator", locator, LOCATORS) == "owlv2"
            else ClassLocator(self.rs200, absent=_lacking("rs200", self.rs200))
        )
        self.imported = Path(imported) if imported is not None else None
        sources: tuple[Expert | Language, ...] = (self.rs200, self.r50, self.depth, self.language, vqa)
        read = chain.from_iterable(source.external for source in sources)
        self.external = (*dict.fromkeys(read), *([imported] if imported else []))

    def scorer(self, root: Path, categories: Sequence[str], prompts: Prompts) -> Scorer:
        """The scores of these categories of these prompts; `root` is the folder of the official files,
        for routes and nouns.

        Raises:
            ValueError: files are missing.
        """
        return Scorer(self, root, categories, prompts)


class Scorer:
    """The scores of the categories of a study."""

    def __init__(self, scoring: Scoring, root: Path, categories: Sequence[str], prompts: Prompts) -> None:
        self._scoring, self._root, self._categories, self._prompts = scoring, root, categories, prompts
        self._measures = {category: self._measure(category) for category in categories}
        if scoring.imported is not None:
            found = {
                category: self._imported(measure, category, scoring.imported)
                for category, measure in self._measures.items()
            }
            self._measures |= {
                category: measure for category, measure in found.items() if measure is not None
            }
            if not any(isinstance(part, Imported) for part in self._all_parts()):
                raise ValueError(
                    f"{WHERE}.imported={scoring.imported} holds no official results of "
                    f"{', '.join(categories)}: {RESULTS}"
                )

    def metric(self, category: str, *labels: str) -> Metric:
        """What the scores of a category are; `labels` are more to say of them."""
        measure = self._measures[category]
        mode = measure.mode if isinstance(measure, PhraseSpatial) else self._scoring.mode
        return Metric(name=measure.metric, labels=(f"mode={mode}", *measure.labels, *labels))

    def absent(self) -> dict[str, list[str]]:
        """Why images cannot be scored -> in which categories all or some of them."""
        found: dict[str, list[str]] = {}
        for category, measure in self._measures.items():
            for reason in dict.fromkeys(part.absent for part in _parts(measure).values() if part.absent):
                found.setdefault(reason, []).append(category)
        return found

    def sees_relations(self, prompt: Prompt) -> bool:
        """Whether the prompt's score depends on where things lie beside each other."""
        measure = self._measures.get(prompt.category)
        return isinstance(measure, Spatial | PhraseSpatial) or (
            isinstance(measure, ThreeInOne) and measure.route(prompt.text) != "action"
        )

    def load(self) -> None:
        """Loads the models and reads the files that the categories need.

        Raises:
            ValueError: something is not there; says where it comes from.
        """
        for part in self._all_parts():
            for model in () if part.absent else part.models:
                if hasattr(model, "load"):
                    model.load()

    def missing(self) -> list[str]:
        """What the models of these categories say that they lack, those that cannot be scored for it too."""
        lines: dict[str, None] = {}
        for model in chain.from_iterable(part.models for part in self._all_parts()):
            if isinstance(model, Needing):
                lines.update(dict.fromkeys(model.missing()))
        return list(lines)

    def _all_parts(self) -> list[Measure]:
        return list(chain.from_iterable(_parts(measure).values() for measure in self._measures.values()))

    def score(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        """One score per sample, by its category."""
        scores: list[Score] = []
        for category, block in groupby(samples, key=lambda sample: sample.prompt.category):
            scores += self._score(category, list(block), mirrored)
        return scores

    def _score(self, category: str, samples: list[Sample], mirrored: bool) -> list[Score]:
        if category not in self._measures:
            return [
                Score(value=None, unscored=f"{category} is none of the categories that are scored")
                for _ in samples
            ]
        return score_with(self._measures[category], samples, mirrored=mirrored)

    def write(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Writes official result files from rows of `scores.jsonl`; returns what was not written, and why."""
        return official.write(folder, self._results(rows))

    def _results(self, rows: Sequence[Mapping[str, Any]]) -> list[official.Result]:
        """Of complex images their parts too, where all have them."""
        each = 1 + max((row["number"] for row in rows), default=0)
        found = []
        for category, measure in self._measures.items():
            if measure.name not in official.FORMS:
                continue
            places = self._prompts.places(category)
            own = {
                each * places[row["prompt_id"]] + row["number"]: row
                for row in rows
                if row["category"] == category and row["prompt_id"] in places
            }
            values = {measure.name: {one: row["value"] for one, row in own.items()}}
            parts: Mapping[str, Measure] = measure.parts if isinstance(measure, ThreeInOne) else {}
            for name, part in parts.items():
                if all(name in row["evidence"] for row in own.values()):
                    values[part.name] = {one: row["evidence"][name]["value"] for one, row in own.items()}
            count = each * (1 + max(own, default=-1) // each)
            found += [
                official.Result(category=category, measure=name, count=count, values=one)
                for name, one in values.items()
                if own
            ]
        return found

    def read(self, folder: Path) -> list[tuple[Prompt, Score]]:
        """Every val prompt and image with its official score.

        Raises:
            ValueError: a category has no result file, or one that is none.
        """
        found: list[tuple[Prompt, Score]] = []
        for category, measure in self._measures.items():
            if measure.name not in official.FORMS:
                raise ValueError(
                    f"{category} has no official program, and so no results of one: leave it out of "
                    "benchmarks.categories"
                )
            imported = self._imported(measure, category, folder)
            if imported is None or any(not isinstance(part, Imported) for part in _parts(imported).values()):
                raise ValueError(
                    f"{folder} holds no official results of {category}, "
                    f"{category}/{official.FORMS[measure.name].folder}/{official.RESULT}: "
                    "name the categories that it holds with benchmarks.categories=[...]"
                )
            assert isinstance(imported, Imported | ThreeInOne)
            for prompt, number in product(self._prompts.val(category), range(IMAGES)):
                numbered = replace(prompt, number=number)
                found.append((numbered, imported.of(numbered)))
        return found

    def _measure(self, category: str) -> Measure:
        scoring = self._scoring
        shared: dict[str, Any] = {"language": scoring.language, "mode": scoring.mode}
        if category in ("color", "shape", "texture"):
            return self._blip_vqa()
        if category == "2D-spatial":
            return self._spatial(complex_prompts=False)
        if category == "3D-spatial":
            return Spatial3D(
                detector=scoring.r50, depth=scoring.depth, absent=_lacking("r50", scoring.r50), **shared
            )
        if category == "numeracy":
            return Numeracy(
                detector=scoring.r50,
                absent=_lacking("r50", scoring.r50),
                nouns=Nouns.read(objects_file(self._root)),
                mode=scoring.mode,
            )
        if category in scoring.asked:
            return PhraseSpatial(name=category, detector=scoring.asked[category], language=scoring.language)
        if category == "non-spatial":
            return ClipScore(clip=scoring.clip, language=None, mode=scoring.mode)
        spatial, action = (frozenset(map(key, texts)) for texts in read_routing(self._root))
        parts: dict[str, Measure] = {
            "attribute": self._blip_vqa(),
            "spatial": self._spatial(complex_prompts=True),
            "clip": ClipScore(clip=scoring.clip, **shared),
        }
        return ThreeInOne(parts, spatial=spatial, action=action, mode=scoring.mode)

    def _blip_vqa(self) -> BlipVqa:
        vqa = self._scoring.vqa
        absent = None if vqa.given else vqa.missing()[0]
        return BlipVqa(vqa=vqa, absent=absent, language=self._scoring.language, mode=self._scoring.mode)

    def _spatial(self, *, complex_prompts: bool) -> Spatial:
        scoring = self._scoring
        absent = _lacking("rs200", scoring.rs200)
        return Spatial(
            detector=scoring.rs200,
            absent=absent,
            language=scoring.language,
            mode=scoring.mode,
            complex_prompts=complex_prompts,
        )

    def _imported(self, measure: Measure, category: str, folder: Path) -> Measure | None:
        """What stands in for a measure: its official results, or for 3-in-1 those of its parts; None
        where there are none.
        """
        if measure.name not in official.FORMS:
            return None
        places = self._prompts.places(category)
        alone = len(self._categories) == 1
        if values := official.read(folder, category, measure.name, count=IMAGES * len(places), alone=alone):
            return Imported(measure, values, folder, places)
        if not isinstance(measure, ThreeInOne):
            return None
        parts = {name: self._imported(part, category, folder) or part for name, part in measure.parts.items()}
        return measure.of_parts(parts)


def _parts(measure: Measure) -> Mapping[str, Measure]:
    """The measures that a measure is made of, by what 3-in-1 calls them."""
    return measure.parts if isinstance(measure, ThreeInOne) else {measure.name: measure}


def _given_detections(file: str | None, labels: str | None) -> ObjectDetector | None:
    return GivenDetections(file=file, name=Path(file).name, labels=labels) if file else None


def _lacking(name: str, detector: ObjectDetector) -> str | None:
    if detector.given:
        return None
    return (
        f"{detector.missing()[0]}; or give a file with what it found, {WHERE}.given.{name}=FILE "
        "(docs/t2i_compbench.md)"
    )
