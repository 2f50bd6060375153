"""Measures and their wiring, with models that answer what a test says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import mini_scored
import pytest
from PIL import Image

from benchmarks.t2i_compbench.benchmark import T2ICompBench
from benchmarks.t2i_compbench.measures import IMAGES
from benchmarks.t2i_compbench.scorer import Scoring
from harness.protocols import DepthEstimator, ObjectDetector, Vqa
from harness.types import Box, Chain, Detection, Metric, Prompt, Region, Sample, Score, Tokens


class Answers(Vqa):
    """A `Vqa` that is as sure of an image as it is red, and remembers what it was asked."""

    name = "BLIP-VQA"

    def __init__(self, *, given: bool = True) -> None:
        self.given, self.asked, self.loaded = given, [], 0

    def missing(self) -> list[str]:
        return ["no weights"]

    def load(self) -> None:
        self.loaded += 1

    def yes(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[float]]:
        self.asked += questions
        return [
            [image.getpixel((0, 0))[0] / 255 for _ in own]
            for image, own in zip(images, questions, strict=True)
        ]


class Cosine:
    """A `Similarity` that gives 0.3, and nothing for a text of more than 60 letters."""

    def similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float | None]:
        return [0.3 if len(text) <= 60 else None for text in texts]


class Absent(ObjectDetector, DepthEstimator):
    """A detector without weights."""

    given = False

    def __init__(self, name: str = "UniDet") -> None:
        self.name = name

    def missing(self) -> list[str]:
        return [f"{self.name} needs its weights"]

    def detect(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Any]:
        raise AssertionError("it has no weights")

    depth = detect


class Asked:
    """A detector of what it is asked for: a dog on the left half, a cat on the right half, nothing
    else; and their mirror images.
    """

    name = "hub/owl"

    def __init__(self) -> None:
        self.names: list[str] = []

    def find(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[list[Detection]]:
        self.names += names
        return [self._look(image, name) for image, name in zip(images, names, strict=True)]

    def _look(self, image: Image.Image, name: str) -> list[Detection]:
        dark_left = image.getpixel((0, 0))[0] < image.getpixel((image.width - 1, 0))[0]
        boxes = {"dog": Box(0, 400, 300, 600), "cat": Box(700, 400, 1000, 600)}
        if not dark_left:
            boxes = {"dog": boxes["cat"], "cat": boxes["dog"]}
        return (
            [Detection(label=name, box=boxes[name], score={"dog": 0.5, "cat": 0.75}[name])]
            if name in boxes
            else []
        )


class AskedForTwo:
    """A detector of two phrases that finds the first one."""

    labels = ("threshold=0.1",)

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def find_pairs(
        self, images: Sequence[Image.Image], pairs: Sequence[tuple[str, str]]
    ) -> list[tuple[Region | None, Region | None]]:
        self.pairs += pairs
        return [(Region(-1.5, 0.0, 100.0, 100.0), None) for _ in images]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    mini_scored.write_prompts(tmp_path / "prompts")
    mini_scored.write_found(tmp_path / "found")
    return tmp_path


def bench(
    world: Path, *, vqa: Any = None, categories: Sequence[str] = mini_scored.CATEGORIES, **changes: Any
) -> T2ICompBench:
    found = {"rs200": "rs200.jsonl", "r50": "r50.jsonl", "depth": "depth"}
    settings = {
        "mode": "official",
        "np": "rules",
        "noun_phrases": None,
        "given": {**{name: str(world / "found" / file) for name, file in found.items()}, "labels": None},
        "imported": None,
        "vqa": vqa or Answers(),
        "clip": Cosine(),
        **{name: Absent(name) for name in ("rs200", "r50", "depth")},
        **{name: Asked() for name in ("owlv2", "gdino")},
        "locator": "owlv2",
        "owlv2_pairs": AskedForTwo(),
        **changes,
    }
    return T2ICompBench(
        root=str(world / "prompts"),
        categories=categories,
        color_val=None,
        dev_per_category=0,
        n_prompts=None,
        captions=[],
        annotations=None,
        scoring=Scoring(**settings),
    )


def drawn(prompt: Prompt, *, red: int = 255) -> Sample:
    nothing = Chain(text="", objects=(), bare_text="")
    image = Image.new("RGB", mini_scored.SIZE, (red, 0, 0))
    return Sample(
        prompt=prompt,
        chain=nothing,
        image=image,
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=0,
    )


def prompt(text: str, category: str = "color", number: int = 0) -> Prompt:
    return Prompt(id=f"{category}/0000", text=text, category=category, number=number)


def test_every_phrase_is_asked_and_the_answers_are_multiplied(world: Path) -> None:
    vqa = Answers()
    [score] = bench(world, vqa=vqa).score([drawn(prompt("A red Book and a yellow vase."), red=51)])
    assert vqa.asked == [["a red book?", "a yellow vase?"]], "cleaned"
    assert score.evidence == {"questions": ["A red Book?", "a yellow vase?"], "answers": [0.2, 0.2]}
    assert score.value == 0.04


def test_scores_come_in_the_order_of_the_samples_whatever_their_categories(world: Path) -> None:
    texts = [
        ("a red book", "color"),
        ("a dog on the left of a cat", "2D-spatial"),
        ("a red book", "color"),
        ("two dogs", "numeracy"),
    ]
    scores = bench(world).score([drawn(prompt(text, category)) for text, category in texts])
    assert [score.value is not None for score in scores] == [True, True, True, False]
    assert scores[3].unscored.endswith("has no detections of image 0 of 'two dogs' (numeracy)")


def test_a_category_that_was_not_asked_for_is_unscored(world: Path) -> None:
    [score] = bench(world, categories=["color"]).score([drawn(prompt("two dogs", "numeracy"))])
    assert score.unscored == "numeracy is none of the categories that are scored"


def test_a_text_too_long_for_clip_is_unscored(world: Path) -> None:
    [score] = bench(world).score([drawn(prompt("A woman " * 20, "non-spatial"))])
    assert score.value is None and "the text is too long" in str(score.unscored)


def test_a_prompt_that_stops_the_official_program_is_unscored(world: Path) -> None:
    rows = [mini_scored.found("2D-spatial", "of and to", 0, [])]
    (world / "found" / "rs200.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    [score] = bench(world).score([drawn(prompt("of and to", "2D-spatial"))])
    assert score.value is None and score.unscored


def test_complex_prompts_are_scored_as_far_as_there_are_models(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = bench(world, given={"rs200": None, "r50": None, "depth": None, "labels": None})
    spatial, action, both = (drawn(one) for one in benchmark.prompts("val")[-3:])
    scores = benchmark.score([spatial, action, both])
    assert scores[1].value == pytest.approx((1.0 + 0.3) / 2)
    assert [score.value for score in (scores[0], scores[2])] == [None, None]
    assert (
        scores[0].unscored == "spatial: rs200 needs its weights; or give a file with what it found, "
        "benchmarks.scoring.given.rs200=FILE "
        "(docs/t2i_compbench.md)"
    )
    assert scores[0].evidence["attribute"]["value"] == 1.0, "what was measured is kept"


def test_only_needed_models_are_loaded_and_those_that_are_there(world: Path) -> None:
    vqa = Answers()
    bench(world, vqa=vqa, categories=["numeracy"]).load()
    assert not vqa.loaded
    bench(world, vqa=vqa, categories=["complex"]).load()
    assert vqa.loaded
    absent = Answers(given=False)
    benchmark = bench(world, vqa=absent, categories=["color"])
    benchmark.load()
    assert not absent.loaded
    assert benchmark.score([drawn(prompt("a red book"))]) == [Score(value=None, unscored="no weights")]


def test_mirrored_images_are_scored_where_the_prompt_says_left_or_right(world: Path) -> None:
    benchmark = bench(world)
    left = prompt("a dog on the left of a cat", "2D-spatial")
    near = prompt("a dog near a cat", "2D-spatial")
    book = prompt("the left book", "color")
    scores = benchmark.mirrored(
        [drawn(left), drawn(near), drawn(book), drawn(prompt(left.text, left.category, 1))]
    )
    assert scores[1:3] == [None, None]
    assert [score.value for score in (scores[0], scores[3])] == [0.0, 0.25 * 0.9 + 0.25 * 0.775 + 0.5], (
        "each the other way round"
    )


def test_a_detector_that_is_asked_for_the_two_objects_makes_a_metric_of_its_own(world: Path) -> None:
    asked = Asked()
    benchmark = bench(world, categories=["2D-spatial", "spatial_owlv2", "spatial_gdino"], owlv2=asked)
    assert benchmark.metrics["spatial_owlv2"] == Metric(
        name="spatial_owlv2", labels=("mode=corrected", "detector=owl", "np=rules")
    )
    [sample] = [drawn(one) for one in benchmark.prompts("val") if one.category == "spatial_owlv2"]
    sample.image.paste((0, 0, 0), (0, 0, 10, sample.image.height))
    [score] = benchmark.score([sample])
    assert asked.names == ["dog", "cat"] and score.value == 0.25 * 0.5 + 0.25 * 0.75 + 0.5
    width, height = mini_scored.SIZE
    assert score.evidence["frame"] == [width, height]
    assert score.evidence["boxes"][0] == {
        "label": "dog",
        "score": 0.5,
        "box": pytest.approx([0, 0.4 * height, 0.3 * width, 0.6 * height]),
    }
    assert [one.value for one in benchmark.mirrored([sample])] == [0.25 * 0.5 + 0.25 * 0.75]


def test_subject_and_object_are_asked_for_together_in_the_words_of_the_prompt(world: Path) -> None:
    asked = AskedForTwo()
    benchmark = bench(world, owlv2_pairs=asked)
    assert benchmark.locator == Metric(name="OWLv2", labels=("threshold=0.1",))
    samples = [drawn(prompt(text, "2D-spatial")) for text in ("the Dog near a cat", "a box on side of a key")]
    assert benchmark.locate(samples) == [(Region(-1.5, 0.0, 100.0, 100.0), None)] * 2
    assert asked.pairs == [("the Dog", "a cat"), ("a box", "a key")]


def test_unidet_locates_the_surest_box_of_each_noun(world: Path) -> None:
    benchmark = bench(world, locator="rs200")
    assert benchmark.locator == Metric(name="UniDet", labels=("detector=rs200.jsonl", "classes=aliases"))
    [of_val] = [one for one in benchmark.prompts("val") if one.category == "2D-spatial"]
    found = benchmark.locate([drawn(replace(of_val, number=number)) for number in range(5)])
    width, height = mini_scored.FRAME

    def region(x1: float, y1: float, x2: float, y2: float) -> tuple[float, ...]:
        return x1 / width * 1000, y1 / height * 1000, x2 / width * 1000, y2 / height * 1000

    left, right = region(*mini_scored.LEFT), region(*mini_scored.RIGHT)
    corners = [[one and pytest.approx(one) for one in pair] for pair in ((left, right), (right, left))]
    for pair, wanted in zip(found[:2], corners, strict=True):
        assert [astuple(one) for one in pair] == wanted
    assert astuple(found[2][0]) == pytest.approx(left) and found[2][1] is None
    assert found[3] == (None, None)
    assert "has no detections of image 4" in found[4]


def test_one_person_is_not_both_of_a_prompts_people(world: Path) -> None:
    text = "a man on the left of a woman"
    rows = [
        mini_scored.found("2D-spatial", text, 0, [("person", mini_scored.RIGHT)]),
        mini_scored.found(
            "2D-spatial", text, 1, [("person", mini_scored.RIGHT), ("person", mini_scored.LEFT)]
        ),
    ]
    (world / "found" / "rs200.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = bench(world, locator="rs200")
    alone, both = benchmark.locate([drawn(prompt(text, "2D-spatial", number)) for number in (0, 1)])
    assert alone[0] is not None and alone[1] is None
    assert both[0] is not None and both[1] is not None and both[0] != both[1]


def test_a_locator_without_weights_says_why_nothing_was_looked_at(world: Path) -> None:
    given = {"rs200": None, "r50": None, "depth": None, "labels": None}
    benchmark = bench(world, locator="rs200", given=given)
    [reason] = benchmark.locate([drawn(prompt("a dog near a cat", "2D-spatial"))])
    assert "rs200 needs its weights" in reason and "benchmarks.scoring.given.rs200=FILE" in reason
    with pytest.raises(ValueError, match=r"benchmarks\.scoring\.locator='yolo': allowed are"):
        bench(world, locator="yolo")


def test_what_has_no_official_program_has_no_official_results(world: Path) -> None:
    benchmark = bench(world, categories=["spatial_gdino"])
    [one] = benchmark.prompts("val")
    benchmark.write_results(
        world / "ours",
        [{"prompt_id": one.id, "category": one.category, "number": 0, "value": 1.0, "evidence": {}}],
    )
    assert not (world / "ours").exists()
    with pytest.raises(ValueError, match="spatial_gdino has no official program"):
        benchmark.read_results(world)
    unread = [drawn(prompt("of and to", "spatial_gdino"))]
    assert "does not say exactly one relation" in str(benchmark.score(unread)[0].unscored)


def write_official(world: Path, place: str, values: Sequence[float]) -> Path:
    folder = world / "theirs" / place
    folder.mkdir(parents=True)
    rows = [{"question_id": number, "answer": value} for number, value in enumerate(values)]
    (folder / "vqa_result.json").write_text(json.dumps(rows))
    return world / "theirs"


def test_official_results_stand_in_for_a_measure(world: Path) -> None:
    values = [number / 100 for number in range(3 * IMAGES)]
    theirs = write_official(world, "complex/labels/annotation_obj_detection_2d", values)
    benchmark = bench(world, imported=str(theirs))
    assert "unidet_2d imported" in benchmark.metrics["complex"].labels
    assert benchmark.metrics["2D-spatial"].labels == ("mode=official", "detector=rs200.jsonl", "np=rules"), (
        "it has none of its own"
    )
    third = benchmark.prompts("val")[-1]
    [score] = benchmark.score([drawn(Prompt(id=third.id, text=third.text, category="complex", number=7))])
    assert score.evidence["spatial"]["value"] == values[2 * IMAGES + 7]
    assert score.value == pytest.approx((1.0 + 0.27 + 0.3) / 3)
    assert str(theirs) in benchmark.external


def test_three_in_one_is_merged_from_official_parts(world: Path) -> None:
    parts = {"annotation_blip": 0.5, "annotation_clip": 0.3, "labels/annotation_obj_detection_2d": 0.8}
    for place, value in parts.items():
        theirs = write_official(world, f"complex/{place}", [value] * 3 * IMAGES)
    read = bench(world, categories=["complex"]).read_results(theirs)
    assert len(read) == 3 * IMAGES and [one.number for one, _ in read[:3]] == [0, 1, 2]
    assert [score.value for _, score in read[::IMAGES]] == pytest.approx([0.65, 0.4, 1.6 / 3])


def test_results_are_numbered_as_the_official_programs_number_them(world: Path) -> None:
    benchmark = bench(world, categories=["complex"])
    rows = [
        {
            "prompt_id": one.id,
            "category": "complex",
            "number": number,
            "value": 0.1 * place,
            "evidence": {"attribute": {"value": 0.5}},
        }
        for place, one in enumerate(benchmark.prompts("val"))
        for number in range(2)
    ]
    benchmark.write_results(world / "ours", rows)
    written = json.loads((world / "ours" / "annotation_3_in_1" / "vqa_result.json").read_text())
    assert [row["question_id"] for row in written] == list(range(6))
    assert [row["answer"] for row in written] == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])
    assert (world / "ours" / "annotation_blip" / "vqa_result.json").is_file()
    assert not (world / "ours" / "annotation_clip").exists()


def test_an_incomplete_category_is_not_written(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = bench(world, categories=["color", "shape"])
    rows = [
        {"prompt_id": f"{name}/0000", "category": name, "number": 0, "value": value, "evidence": {}}
        for name, value in (("color", None), ("shape", 0.5))
    ]
    benchmark.write_results(world / "ours", rows)
    assert not (world / "ours" / "color").exists() and (world / "ours" / "shape").is_dir()
    assert (
        "note: color, blip_vqa: vqa_result.json is not written, 1 of 1 images are unscored"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "oficial"}, "benchmarks.scoring.mode='oficial': allowed are official and corrected"),
        ({"np": "nltk"}, "np=nltk: give auto, spacy, rules"),
        (
            {"given": {"rs200": None}},
            "benchmarks.scoring.given has rs200: it takes rs200, r50, depth, labels",
        ),
        (
            {"imported": "/nowhere"},
            "benchmarks.scoring.imported=/nowhere holds no official results of color, shape,",
        ),
        (
            {"given": {"rs200": "/nowhere", "r50": None, "depth": None, "labels": None}},
            "there is no file /nowhere",
        ),
    ],
)
def test_wrong_settings_of_scoring_are_refused(world: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        bench(world, **changes)
    assert message in str(caught.value)


def test_files_without_which_nothing_can_be_scored_are_named(world: Path) -> None:
    (world / "prompts" / "new_objects.txt").unlink()
    (world / "prompts" / "complex_val_action.txt").unlink()
    for category, file in (("numeracy", "new_objects.txt"), ("complex", "complex_val_action.txt")):
        with pytest.raises(ValueError, match=f"lacks {file}: fetch it with"):
            bench(world, categories=[category])
    assert bench(world, categories=["color"])


def test_missing_is_what_the_categories_need(world: Path) -> None:
    nothing = {"rs200": None, "r50": None, "depth": None, "labels": None}
    vqa = Answers(given=False)
    assert bench(world, vqa=vqa, given=nothing, categories=["complex"]).missing() == [
        "no weights",
        "rs200 needs its weights",
    ]
    assert bench(world, given=nothing, categories=["3D-spatial"]).missing() == [
        "r50 needs its weights",
        "depth needs its weights",
    ]
    assert bench(world, vqa=vqa, categories=["2D-spatial", "numeracy", "spatial_gdino"]).missing() == [], (
        "files stand in"
    )


class Vague(Answers, ObjectDetector, DepthEstimator):
    """Every expert in one, which gives an answer too few."""

    def yes(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[float]]:
        return super().yes(images, questions)[1:]

    def similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float | None]:
        return [0.3] * (len(texts) - 1)

    def detect(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Any]:
        return []

    def find(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[list[Detection]]:
        return [[]]

    depth = detect


class Short(Answers):
    """One answer for each image, whatever it is asked."""

    def yes(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[float]]:
        return [[0.5] for _ in images]


@pytest.mark.parametrize(
    ("category", "role", "said"),
    [
        ("color", "vqa", "vqa Vague gave 1 lists of answers for 2 images"),
        ("non-spatial", "clip", "similarity Vague gave 1 values for 2 images"),
        ("2D-spatial", "rs200", "detector Vague gave 0 detections for 2 images"),
        ("3D-spatial", "depth", "depth model Vague gave 0 depth maps for 2 images"),
        ("numeracy", "r50", "detector Vague gave 0 detections for 2 images"),
        ("spatial_owlv2", "owlv2", "detector Vague gave 1 lists of objects for 4 names"),
    ],
)
def test_an_expert_that_answers_a_wrong_number_of_things_is_named(
    world: Path, category: str, role: str, said: str
) -> None:
    given = {name: str(world / "found" / name) + ".jsonl" for name in ("rs200", "r50")}
    given = {"labels": None, "depth": None, **given}
    if role in given:
        given[role] = None
    asked = mini_scored.PROMPTS["spatial" if "spatial_" in category else "color"][0]
    benchmark = bench(world, categories=[category], **{"given": given, "vqa": Answers(), role: Vague()})
    if role == "depth":
        asked = mini_scored.PROMPTS["3d_spatial"][0]
    with pytest.raises(ValueError, match=rf"^{said}"):
        benchmark.score([drawn(prompt(asked, category, number)) for number in (0, 1)])


def test_a_model_that_leaves_out_a_question_is_named(world: Path) -> None:
    with pytest.raises(ValueError, match=r"^vqa Short gave 1 answers to 2 questions"):
        bench(world, vqa=Short()).score([drawn(prompt("a red book and a yellow vase"))])
