"""Measures: each computes what one official program computes, and returns one `Score` per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.language.choose import Language
from benchmarks.t2i_compbench.language.tokens import tokenize
from benchmarks.t2i_compbench.rules import captions, numeracy, objects, questions, spatial
from benchmarks.t2i_compbench.rules.depth import score_3d
from benchmarks.t2i_compbench.rules.frame import frame_size
from harness.plugin_values import one_each
from harness.types import CANVAS, Detection, Detections, Sample, Score

if TYPE_CHECKING:
    from harness.protocols import DepthEstimator, ObjectDetector, Similarity, Vqa

IMAGES = 10  # of each prompt, in official results
OFFICIAL_CLIP = "openai/clip-vit-base-patch32"
OFFICIAL_NAMES = {"blip_vqa": "BLIP-VQA"}  # whatever the model here is

Evidence = dict[str, Any]


class Measure(Protocol):
    """One official program.

    `name` tells it from the others, `metric` and `labels` are what tables call it and say of it
    (`types.Metric`), `absent` is why it can measure nothing: then it is not called. `models` are what it
    asks, and files that stand in for them.
    """

    @property
    def name(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def absent(self) -> str | None: ...
    @property
    def models(self) -> tuple[Any, ...]: ...

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        """A score for each sample; `mirrored` for its image mirrored left to right."""
        ...


class PhraseDetector(Protocol):
    """Finds objects by name (OWLv2, Grounding DINO). `name` says which model."""

    name: str

    def find(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[list[Detection]]:
        """Of each image what bears its name, by falling score."""
        ...


class BlipVqa:
    """Section 2: the product of P(yes) over the noun phrases of the prompt."""

    name = "blip_vqa"

    def __init__(self, *, vqa: Vqa, absent: str | None, language: Language, mode: Mode) -> None:
        self._vqa, self._language, self._mode = vqa, language, mode
        self.metric, self.labels, self.absent = vqa.name, (f"np={language.name}",), absent
        self.models = (vqa,)

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        asked = [
            questions.questions(self._language.chunks(sample.prompt.text), mode=self._mode)
            for sample in samples
        ]
        cleaned = [list(map(questions.clean, of_image)) for of_image in asked]
        answers = self._vqa.yes(_images(samples, mirrored), cleaned)
        answers = one_each(answers, len(samples), _who("vqa", self._vqa), "lists of answers", "image")
        return [self._score(of_image, given) for of_image, given in zip(asked, answers, strict=True)]

    def _score(self, asked: Sequence[str], given: Sequence[float]) -> Score:
        given = one_each(given, len(asked), _who("vqa", self._vqa), "answers", "question")
        value = questions.product(given, mode=self._mode)
        evidence = {"questions": list(asked), "answers": [round(one, 4) for one in given]}
        if value is None:
            return Score(
                value=None, evidence=evidence, unscored="the prompt has no phrase that can be asked for"
            )
        return Score(value=value, evidence=evidence)


class ClipScore:
    """Section 3: the cosine of image and prompt; of a complex prompt without its adjectives."""

    name, metric = "clip", "CLIPScore"

    def __init__(self, *, clip: Similarity, language: Language | None, mode: Mode) -> None:
        self._clip, self._language, self._mode = clip, language, mode
        model = getattr(clip, "name", OFFICIAL_CLIP)
        other = () if model == OFFICIAL_CLIP else (f"clip={Path(model).name}",)
        self.labels, self.absent = (*other, *((f"np={language.name}",) if language else ())), None
        self.models = (clip,)

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        texts = [self._text(sample.prompt.text) for sample in samples]
        cosines = self._clip.similarity(_images(samples, mirrored), texts)
        cosines = one_each(cosines, len(samples), _who("similarity", self._clip), "values", "image")
        return [
            Score(
                value=None,
                unscored="CLIP gives no cosine: the text is too long for it, or its features are not finite",
            )
            if cosine is None
            else Score(value=cosine, evidence={"text": text})
            for text, cosine in zip(texts, cosines, strict=True)
        ]

    def _text(self, prompt: str) -> str:
        return (
            captions.caption(prompt, self._language.tokens(prompt), mode=self._mode)
            if self._language
            else prompt
        )


class Spatial:
    """Sections 5 and 6: two objects and the relation of their boxes."""

    name, metric = "unidet_2d", "UniDet 2D"

    def __init__(
        self,
        *,
        detector: ObjectDetector,
        absent: str | None,
        language: Language,
        mode: Mode,
        complex_prompts: bool,
    ) -> None:
        self._detector, self._language, self._mode, self._complex = detector, language, mode, complex_prompts
        self.labels, self.absent = (f"detector={detector.name}", f"np={language.name}"), absent
        self.models = (detector,)

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        found = _detections(self._detector, samples, mirrored)
        return [
            one if isinstance(one, Score) else self._score(sample.prompt.text, one)
            for sample, one in zip(samples, found, strict=True)
        ]

    def _score(self, prompt: str, found: Detections) -> Score:
        def judged() -> tuple[float, Evidence]:
            tokens = self._language.tokens(prompt)
            one = spatial.score_2d(prompt, tokens, found, complex_prompt=self._complex, mode=self._mode)
            return one.value, {**_judged(one, found), "before_cut": one.before_cut}

        return _by_rule(judged)


class PhraseSpatial:
    """The corrected rule of 2D-spatial with a detector that is given the two names. It has no official
    program.

    Its numbers compare with no UniDet 2D: vocabulary, thresholds and confidences are others.
    """

    absent = None
    mode: Mode = "corrected"

    def __init__(self, *, name: str, detector: PhraseDetector, language: Language) -> None:
        self.name = self.metric = name
        self._detector, self._language = detector, language
        self.labels = (f"detector={Path(detector.name).name}", f"np={language.name}")
        self.models = (detector,)

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        images = _images(samples, mirrored)
        asked: list[tuple[int, str]] = []
        for place, sample in enumerate(samples):
            asked += [(place, noun) for noun in self._nouns(sample.prompt.text)]
        found = self._detector.find([images[place] for place, _ in asked], [noun for _, noun in asked])
        found = one_each(found, len(asked), _who("detector", self._detector), "lists of objects", "name")
        things: list[list[Detection]] = [[] for _ in samples]
        for (place, _), own in zip(asked, found, strict=True):
            things[place] += own
        return [
            self._score(sample.prompt.text, _in_pixels(own, sample.image.size))
            for sample, own in zip(samples, things, strict=True)
        ]

    def _nouns(self, prompt: str) -> list[str]:
        try:
            said = objects.corrected(prompt, self._language.tokens(prompt), complex_prompt=False)
        except ValueError:
            return []  # the rule says why
        return list(dict.fromkeys(noun for noun in said.objects if noun))

    def _score(self, prompt: str, found: Detections) -> Score:
        def judged() -> tuple[float, Evidence]:
            one = spatial.score_2d(
                prompt, self._language.tokens(prompt), found, complex_prompt=False, mode=self.mode
            )
            return one.value, _judged(one, found)

        return _by_rule(judged)


class Spatial3D:
    """Section 7: two objects, and which of them is nearer."""

    name, metric = "unidet_3d", "UniDet 3D"

    def __init__(
        self,
        *,
        detector: ObjectDetector,
        depth: DepthEstimator,
        absent: str | None,
        language: Language,
        mode: Mode,
    ) -> None:
        self._detector, self._depth, self._language, self._mode = detector, depth, language, mode
        self.labels = (f"detector={detector.name}", f"depth={depth.name}", f"np={language.name}")
        self.absent = absent
        self.models = (detector, depth)

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        detections = _detections(self._detector, samples, mirrored)
        depths = self._depth.depth(samples, mirrored=mirrored)
        depths = one_each(depths, len(samples), _who("depth model", self._depth), "depth maps", "image")
        return [self._score(*one) for one in zip(samples, detections, depths, strict=True)]

    def _score(self, sample: Sample, found: Detections | Score, depth: Image.Image | str) -> Score:
        if isinstance(found, Score):
            return found
        if isinstance(depth, str):
            return Score(value=None, unscored=depth)

        def judged() -> tuple[float, Evidence]:
            prompt = sample.prompt.text
            one = score_3d(prompt, self._language.tokens(prompt), found, _in_frame(depth), mode=self._mode)
            return one.value, _judged(one, found)

        return _by_rule(judged)


class Numeracy:
    """Section 8: whether every object is there in the number that the prompt states."""

    name, metric = "numeracy", "UniDet count"

    def __init__(
        self, *, detector: ObjectDetector, absent: str | None, nouns: numeracy.Nouns, mode: Mode
    ) -> None:
        self._detector, self._nouns, self._mode = detector, nouns, mode
        self.labels, self.absent = (f"detector={detector.name}",), absent
        self.models = (detector,)

    def __call__(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
        found = _detections(self._detector, samples, mirrored)
        return [
            one if isinstance(one, Score) else self._score(sample.prompt.text, one)
            for sample, one in zip(samples, found, strict=True)
        ]

    def _score(self, prompt: str, found: Detections) -> Score:
        def judged() -> tuple[float, Evidence]:
            one = numeracy.score_numeracy(tokenize(prompt), found, self._nouns, mode=self._mode)
            return one.value, {
                "asked": [list(pair) for pair in one.asked],
                "counted": list(one.counted),
                **_boxes(found, one.kept),
            }

        return _by_rule(judged)


def score_with(measure: Measure, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Score]:
    """One score per sample; all are unscored where the measure has no model."""
    if measure.absent:
        return [Score(value=None, unscored=measure.absent) for _ in samples]
    return measure(samples, mirrored=mirrored) if samples else []


def _who(role: str, expert: Any) -> str:
    return f"{role} {type(expert).__name__}"


def _images(samples: Sequence[Sample], mirrored: bool) -> list[Image.Image]:
    return [ImageOps.mirror(sample.image) if mirrored else sample.image for sample in samples]


def _detections(
    detector: ObjectDetector, samples: Sequence[Sample], mirrored: bool
) -> list[Detections | Score]:
    found = detector.detect(samples, mirrored=mirrored)
    found = one_each(found, len(samples), _who("detector", detector), "detections", "image")
    return [Score(value=None, unscored=one) if isinstance(one, str) else one for one in found]


def _by_rule(judged: Callable[[], tuple[float, Evidence]]) -> Score:
    """What a rule says; unscored, with its reason, where the official program would stop."""
    try:
        value, evidence = judged()
    except ValueError as error:
        return Score(value=None, unscored=str(error))
    return Score(value=value, evidence=evidence)


def _judged(one: spatial.SpatialScore, found: Detections) -> Evidence:
    return {
        "objects": list(one.objects),
        "locality": one.locality,
        **_boxes(found, [place for place in one.found if place is not None]),
    }


def _boxes(found: Detections, places: Sequence[int]) -> Evidence:
    """The boxes that were judged, in the form that `harness.score draw=boxes` draws."""
    boxes = [
        {"label": found.labels[one], "score": found.scores[one], "box": list(found.boxes[one])}
        for one in dict.fromkeys(places)
    ]
    return {"frame": list(found.frame), "boxes": boxes}


def _in_pixels(things: Sequence[Detection], size: tuple[int, int]) -> Detections:
    """By falling score, in the frame of the whole image."""
    width, height = size
    ranked = sorted(things, key=lambda one: -one.score)
    boxes = [
        (one.box.x1 * width, one.box.y1 * height, one.box.x2 * width, one.box.y2 * height) for one in ranked
    ]
    return Detections(
        frame=size,
        labels=tuple(one.label for one in ranked),
        boxes=tuple((x1 / CANVAS, y1 / CANVAS, x2 / CANVAS, y2 / CANVAS) for x1, y1, x2, y2 in boxes),
        scores=tuple(one.score for one in ranked),
    )


def _in_frame(depth: Image.Image) -> np.ndarray:
    """[H, W] floats in 0..1: the grey image in the detector's frame, resized on its bytes (section 7.2)."""
    resized = depth.resize(frame_size(*depth.size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32) / 255
