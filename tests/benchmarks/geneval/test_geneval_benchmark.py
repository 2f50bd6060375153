"""GenEval behind the protocol: prompts and splits, what is asked of models, what a file gives
instead, results in and out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mini_geneval_scored
import numpy as np
import pytest
from mini_geneval_scored import CORRECT, LEFT, PROMPTS, RIGHT, SIZE, TAGS
from mini_world import CHOSEN, GRPO, READ, REWARDS, ROLLOUT
from PIL import Image

from benchmarks.geneval.benchmark import GenEval
from benchmarks.geneval.models.colors import Seen
from benchmarks.geneval.models.mask2former import Instances
from benchmarks.geneval.scoring import Scoring
from harness.stages.keys import key
from harness.study.cell import plan_stages
from harness.trainers.recipes import Grpo
from harness.types import Chain, Prompt, Sample, Score, Stage, Tokens


class Detector:
    """Finds what a test says, mirrored pictures likewise; remembers what it was asked."""

    name = "Mask2Former (HF)"

    def __init__(self, *things: tuple[str, list[float]]) -> None:
        self.things, self.sizes, self.loaded = things, [], 0

    def load(self) -> None:
        self.loaded += 1

    def detect(self, images: Sequence[Image.Image], names: Sequence[str], *, above: float) -> list[Instances]:
        assert names[16] == "dog" and len(names) == 80
        self.sizes += [image.size for image in images]
        self.above = above
        return [self._found(image) for image in images]

    def _found(self, image: Image.Image) -> Instances:
        masks = tuple(np.ones((int(y2 - y1), int(x2 - x1)), bool) for _, (x1, y1, x2, y2) in self.things)
        return Instances(
            frame=image.size,
            labels=tuple(label for label, _ in self.things),
            boxes=tuple(tuple(box) for _, box in self.things),
            scores=tuple(0.98 - 0.01 * place for place in range(len(self.things))),
            masks=masks,
        )


class Classifier:
    """Sees red left of the middle and blue right of it; remembers what it was asked."""

    name = "openai/clip-vit-large-patch14"

    def __init__(self) -> None:
        self.asked: list[Seen] = []
        self.loaded = 0

    def load(self) -> None:
        self.loaded += 1

    def classify_all(self, objects: Sequence[Seen]) -> list[str]:
        self.asked += objects
        return ["red" if one.box[2] < SIZE[0] / 2 else "blue" for one in objects]


@pytest.fixture
def root(tmp_path: Path, data_dir: Path) -> Path:
    mini_geneval_scored.write_prompts(tmp_path / "prompts", data_dir / "geneval")
    return tmp_path / "prompts"


def scoring(**changes: Any) -> Scoring:
    settings = {"mode": "official", "given": None, "detector": Detector(), "colors": Classifier()}
    return Scoring(**{**settings, **changes})


def bench(root: Path, *, scoring: Scoring | None = None, **changes: Any) -> GenEval:
    return GenEval(
        **{"root": str(root), "categories": TAGS, "n_prompts": None, "scoring": scoring, **changes}
    )


def drawn(prompt: Prompt, *, number: int = 0, image: Image.Image | None = None) -> Sample:
    return Sample(
        prompt=Prompt(
            id=prompt.id, text=prompt.text, category=prompt.category, facts=prompt.facts, number=number
        ),
        chain=Chain(text="", objects=(), bare_text=""),
        image=image or Image.new("RGB", SIZE),
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=0,
    )


def every(benchmark: GenEval) -> list[Sample]:
    return [drawn(prompt, number=number) for prompt in benchmark.prompts("val") for number in range(4)]


def given(tmp_path: Path, **options: Any) -> str:
    mini_geneval_scored.write_found(tmp_path / "mmdet.jsonl", **options)
    return str(tmp_path / "mmdet.jsonl")


# Prompts.


def test_the_published_prompts_are_all_there_in_order(data_dir: Path) -> None:
    benchmark = bench(data_dir / "geneval", scoring=scoring())
    prompts = benchmark.prompts("val")
    lines = (data_dir / "geneval" / "evaluation_metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert [prompt.facts for prompt in prompts] == [json.loads(line) for line in lines]
    assert [prompt.id for prompt in prompts] == [
        f"{prompt.category}/{place:05d}" for place, prompt in enumerate(prompts)
    ]
    texts = (data_dir / "geneval" / "generation_prompts.txt").read_text(encoding="utf-8").splitlines()
    assert [prompt.text for prompt in prompts] == texts and len(texts) == 553
    assert [len(benchmark.texts(tag)) for tag in TAGS] == [80, 99, 80, 94, 100, 100]
    assert benchmark.all_categories == benchmark.categories == tuple(TAGS)
    assert benchmark.metrics["position"].labels == ("mode=official", "detector=Mask2Former (HF)"), (
        "of the published prompts"
    )


def test_few_prompts_of_few_tags_keep_their_ids_and_their_order(root: Path) -> None:
    some = bench(root, categories=["position", "single_object"], n_prompts=1)
    assert [prompt.id for prompt in some.prompts("val")] == ["single_object/00000", "position/00004"]
    assert some.texts("position") == {PROMPTS[4]["prompt"], PROMPTS[5]["prompt"]}
    assert (some.images_per_prompt, some.first_seed) == (4, 42)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_there_is_nothing_to_train_on(root: Path, split: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"no split '{split}', only val: .*benchmarks=t2i_compbench.*trainers=frozen "
        rf"policies\.checkpoint=",
    ):
        bench(root).prompts(split)
    with pytest.raises(ValueError, match=r"no chains and images to imitate: .*data=got"):
        bench(root).records(0, 1)


def cell(root: Path, **settings: Any) -> dict[str, Any]:
    return {
        "policies": {"_target_": "mini_compbench.Nothing"},
        "trainers": {"_target_": "harness.trainers.recipes.Frozen"},
        "benchmarks": {
            "_target_": "benchmarks.geneval.benchmark.GenEval",
            "root": str(root),
            "categories": TAGS,
            "n_prompts": None,
            **settings,
        },
        "rewards": REWARDS,
        "evaluation": {**CHOSEN, **READ, "images_per_prompt": None, "batch_size": 1, "rollout": ROLLOUT},
        "rollout": ROLLOUT,
        "seed": 0,
        "sft_seed": 0,
    }


def test_grpo_on_it_is_refused_when_planning(root: Path) -> None:
    with pytest.raises(ValueError, match=r"GenEval has no split 'train'"):
        Grpo(grpo=GRPO).stages(cell(root), Stage(name="start", program="x.y", settings={}))


def test_how_it_scores_is_nothing_to_draw_anew_for(root: Path, tmp_path: Path) -> None:
    serving = {"device": "cpu", "batch_size": 1}
    node = {
        "_target_": "benchmarks.geneval.scoring.Scoring",
        **{"mode": "official", "given": None},
        "detector": {
            "_target_": "benchmarks.geneval.models.mask2former.Mask2Former",
            **{"model": "owner/name", "where": "here", "serving": serving},
        },
        "colors": {
            "_target_": "benchmarks.geneval.models.colors.ColorClassifier",
            **{"model": "owner/name", "dtype": "float32", "where": "there", "serving": serving},
        },
    }
    changes = ({}, {"mode": "corrected"}, {"given": given(tmp_path)})
    plain, *others = [plan_stages(cell(root, scoring={**node, **change})) for change in changes]
    samples, scores = plain[-2:]
    assert samples.settings["evaluation"]["images_per_prompt"] == 4
    for other in others:
        assert key(other[-2]) == key(samples) and key(other[-1]) != key(scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"categories": ["colours"]},
            r"benchmarks\.categories=\['colours'\]: give one or more of single_object, two_object,",
        ),
        ({"categories": ["colors", "colors"]}, "each once"),
        ({"categories": []}, r"benchmarks\.categories=\[\]"),
        ({"n_prompts": 0}, r"benchmarks\.n_prompts=0: give a whole number from 1, or null"),
        ({"root": "/nowhere"}, r"/nowhere lacks .*harness\.fetch geneval.*GENEVAL_DIR"),
    ],
)
def test_wrong_settings_are_refused(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench(**{"root": root, **changes})


# Models.


def test_an_image_is_judged_by_what_the_models_see(root: Path) -> None:
    detector, classifier = Detector(("dog", LEFT), ("bench", RIGHT)), Classifier()
    benchmark = bench(root, scoring=scoring(detector=detector, colors=classifier))
    scores = {
        sample.prompt.text: score
        for sample, score in zip(every(benchmark)[::4], benchmark.score(every(benchmark)[::4]), strict=True)
    }
    right = [text for text, score in scores.items() if score.value == 1.0]
    assert right == [
        f"a photo of a {rest}" for rest in ("bench", "bench and a dog", "red dog", "dog left of a bench")
    ]
    assert {score.value for score in scores.values()} == {0.0, 1.0}
    assert detector.above == 0.3
    assert [(one.name, one.box, one.mask.shape) for one in classifier.asked] == [
        ("dog", tuple(LEFT), (12, 12)),
        ("bench", tuple(RIGHT), (12, 14)),
        ("dog", tuple(LEFT), (12, 12)),
    ], "only those whose color matters, together"
    assert scores["a photo of a red dog"].evidence == {
        "reason": "",
        "frame": [64, 48],
        "boxes": [{"label": "dog", "score": 0.98, "box": LEFT, "color": "red"}],
        "kept": {"dog": [[*LEFT, np.float32(0.98).item()]], "bench": [[*RIGHT, np.float32(0.97).item()]]},
    }
    two = scores["a photo of two dogs"]
    assert two.value == 0.0 and two.evidence["reason"] == "expected dog>=2, found 1"


def test_a_picture_lying_on_its_side_is_turned_upright_and_then_mirrored(root: Path) -> None:
    lying = Image.new("RGB", (48, 64))
    lying.putpixel((0, 63), (255, 0, 0))  # top left once upright
    lying.getexif()[0x0112] = 6
    detector, classifier = Detector(("bench", LEFT), ("dog", RIGHT)), Classifier()
    benchmark = bench(root, scoring=scoring(detector=detector, colors=classifier))
    sample = drawn(benchmark.prompts("val")[6], image=lying)
    benchmark.score([sample])
    assert detector.sizes == [(64, 48)] and classifier.asked[0].image.getpixel((0, 0)) == (255, 0, 0)
    assert benchmark.mirrored([sample]) == [None], "no left or right in it"
    left_of = drawn(benchmark.prompts("val")[4], image=lying)
    assert benchmark.mirrored([sample, left_of])[1] == benchmark.score([left_of])[0]


def test_what_no_category_needs_is_not_loaded(root: Path) -> None:
    for categories, loaded in ((["position", "counting"], (1, 0)), (["position", "colors"], (1, 1))):
        detector, classifier = Detector(), Classifier()
        bench(root, scoring=scoring(detector=detector, colors=classifier), categories=categories).load()
        assert (detector.loaded, classifier.loaded) == loaded


def test_another_color_model_is_named_and_so_are_other_prompts(root: Path) -> None:
    classifier = Classifier()
    classifier.name = "/models/clip-vit-base"
    metric = bench(root, scoring=scoring(colors=classifier, mode="corrected")).metrics["colors"]
    assert metric.name == "GenEval (HF detector)"
    *known, prompts = metric.labels
    assert known == ["mode=corrected", "detector=Mask2Former (HF)", "colors=clip-vit-base"]
    assert prompts.startswith("prompts of unknown, sha256 ")


# What others have seen.


def test_given_detections_and_colors_are_judged_without_a_model(root: Path, tmp_path: Path) -> None:
    benchmark = bench(root, scoring=scoring(given=given(tmp_path), detector=None, colors=None))
    benchmark.load()
    samples = every(benchmark)
    found: dict[str, list[float | None]] = {}
    for sample, score in zip(samples, benchmark.score(samples), strict=True):
        found.setdefault(sample.prompt.category, []).append(score.value)
    assert found == CORRECT
    metric = benchmark.metrics["counting"]
    assert (metric.name, metric.labels[:2]) == ("GenEval", ("mode=official", "detector=mmdet.jsonl"))
    assert benchmark.external == (str(root), str(tmp_path / "mmdet.jsonl"))


def test_mirrored_boxes_reverse_left_and_right_alone(root: Path, tmp_path: Path) -> None:
    benchmark = bench(root, scoring=scoring(given=given(tmp_path)))
    samples = every(benchmark)
    mirrored = benchmark.mirrored(samples)
    asked = [score.value for sample, score in zip(samples, mirrored, strict=True) if score is not None]
    assert asked == [0.0, 1.0, 0.0, 0.0] and [score is None for score in mirrored] == [
        sample.prompt.text != PROMPTS[4]["prompt"] for sample in samples
    ]


def test_without_colors_only_the_tags_that_ask_for_them_are_unscored(root: Path, tmp_path: Path) -> None:
    benchmark = bench(root, scoring=scoring(given=given(tmp_path, colors=False)))
    samples = every(benchmark)
    scores = benchmark.score(samples)
    unscored = {
        sample.prompt.category for sample, score in zip(samples, scores, strict=True) if score.unscored
    }
    assert unscored == {"colors", "color_attr"}
    reasons = {score.unscored for score in scores if score.unscored}
    assert f"{tmp_path / 'mmdet.jsonl'} has no color of a dog in image 0 of 'a photo of a red dog'" in reasons
    assert None not in [
        score.value for sample, score in zip(samples, scores, strict=True) if sample.prompt.number == 3
    ], "nothing to ask of"


def test_colors_of_null_are_no_colors(root: Path, tmp_path: Path) -> None:
    file = given(tmp_path, colors=False)
    without = bench(root, scoring=scoring(given=file))
    expected = without.score(every(without))
    lines = Path(file).read_text().splitlines()
    Path(file).write_text("\n".join(json.dumps({**json.loads(line), "colors": None}) for line in lines))
    benchmark = bench(root, scoring=scoring(given=file))
    assert benchmark.score(every(benchmark)) == expected


def test_rows_that_lack_or_are_of_another_size_are_reasons(root: Path, tmp_path: Path) -> None:
    benchmark = bench(root, scoring=scoring(given=given(tmp_path)))
    prompt = benchmark.prompts("val")[0]
    lacking, other = benchmark.score(
        [drawn(prompt, number=9), drawn(prompt, image=Image.new("RGB", (512, 512)))]
    )
    assert (
        lacking.unscored == f"{tmp_path / 'mmdet.jsonl'} has no detections of image 9 of 'a photo of a bench'"
    )
    assert (
        other.unscored
        and "has 512 x 512 pixels, and its detections are in a frame of 64 x 48: give the detections of these"
        in other.unscored
    )


ROW = {
    "prompt": "p",
    "number": 0,
    "frame": [64, 48],
    "labels": ["dog", 13],
    "boxes": [LEFT, RIGHT],
    "scores": [0.4, 0.9],
    "colors": ["red", None],
}


def test_class_numbers_are_names_and_scores_need_no_order(root: Path, tmp_path: Path) -> None:
    row = {**ROW, "prompt": PROMPTS[4]["prompt"]}
    (tmp_path / "rows").write_text(json.dumps(row))
    benchmark = bench(root, scoring=scoring(given=str(tmp_path / "rows")))
    [score] = benchmark.score([drawn(benchmark.prompts("val")[4])])
    assert score.value == 1.0 and [box["label"] for box in score.evidence["boxes"]] == ["bench", "dog"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"labels": ["dog", "mouse"]},
            "the label 'mouse' is none of GenEval's 80 classes, and no class number from 0",
        ),
        ({"labels": ["dog", 80]}, "the label 80 is none"),
        ({"labels": ["dog", True]}, "the label True is none"),
        (
            {"scores": [0.4, 0]},
            "the score 0 is not above 0 and at most 1; a mask without a pixel has the score 0: leave it out",
        ),
        ({"scores": [0.4, float("nan")]}, "the score nan is not above 0"),
        ({"scores": [0.4]}, "2 labels, 2 boxes and 1 scores"),
        ({"boxes": [LEFT, [50, 0, 90, 9]]}, "within its frame of 64 x 48"),
        ({"frame": None}, "frame None must be"),
        ({"colors": ["red"]}, "must be one of red, orange, .* or null for each of 2 labels"),
        ({"colors": ["red", "grey"]}, "must be one of red"),
        ({"colors": [["red"], None]}, "unhashable"),
        ({"number": -1}, "number -1 a whole number from 0"),
        ({"prompt": None}, "prompt None must be a text"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_line(
    root: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    (tmp_path / "rows").write_text(f"{json.dumps({**ROW, 'number': 1})}\n\n{json.dumps({**ROW, **change})}\n")
    with pytest.raises(ValueError, match=rf"line 3 of .*rows is no row of detections: .*{said}"):
        bench(root, scoring=scoring(given=str(tmp_path / "rows"))).load()


def test_wrong_settings_of_scoring_are_refused() -> None:
    with pytest.raises(ValueError, match=r"benchmarks\.scoring\.given=/nowhere: there is no such file"):
        scoring(given="/nowhere")
    with pytest.raises(
        ValueError, match=r"benchmarks\.scoring\.mode='right': allowed are official and corrected"
    ):
        scoring(mode="right")


# Official result files.


def scored_rows(benchmark: GenEval) -> list[dict[str, Any]]:
    samples = every(benchmark)
    return [
        {
            "prompt_id": sample.prompt.id,
            "category": sample.prompt.category,
            "number": sample.prompt.number,
            **{"value": score.value, "unscored": score.unscored, "evidence": dict(score.evidence)},
        }
        for sample, score in zip(samples, benchmark.score(samples), strict=True)
    ]


def test_results_are_written_and_read_again(root: Path, tmp_path: Path) -> None:
    benchmark = bench(root, scoring=scoring(given=given(tmp_path)))
    rows = scored_rows(benchmark)
    benchmark.write_results(tmp_path / "official", rows)
    lines = [json.loads(line) for line in (tmp_path / "official" / "results.jsonl").read_text().splitlines()]
    assert [line["correct"] for line in lines] == [bool(row["value"]) for row in rows]
    assert (
        lines[5]["filename"] == "00001/samples/00001.png" and json.loads(lines[5]["metadata"]) == PROMPTS[1]
    )
    summary = (tmp_path / "official" / "summary.txt").read_text()
    shares = [sum(own) / len(own) for own in CORRECT.values()]
    assert (
        "Total images: 28\nTotal prompts: 7\n" in summary and "position         = 25.00% (2 / 8)\n" in summary
    )
    assert f"Overall score (avg. over tasks): {sum(shares) / len(shares):.5f}\n" in summary

    other = bench(root, scoring=scoring())
    read = other.read_results(tmp_path / "official")
    assert [(prompt.id, prompt.number, score.value) for prompt, score in read] == [
        (row["prompt_id"], row["number"], row["value"]) for row in rows
    ]
    assert other.metrics["colors"].name == "GenEval", "not of the detector that would look here"
    again = [
        {"prompt_id": prompt.id, "number": prompt.number, "value": score.value, "evidence": score.evidence}
        for prompt, score in read
    ]
    other.write_results(tmp_path / "again", again)
    for name in ("results.jsonl", "summary.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "official" / name).read_bytes()


def test_results_of_some_tags_are_read_where_they_alone_are_asked_for(root: Path, tmp_path: Path) -> None:
    some = bench(root, scoring=scoring(given=given(tmp_path)), categories=["counting"])
    some.write_results(tmp_path / "official", scored_rows(some))
    assert [score.value for _, score in some.read_results(tmp_path / "official")] == CORRECT["counting"]
    with pytest.raises(ValueError, match=r"benchmarks\.categories="):
        bench(root, scoring=scoring()).read_results(tmp_path / "official")


def test_results_with_unscored_images_are_not_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = bench(root, scoring=scoring(given=given(tmp_path, colors=False)))
    benchmark.write_results(tmp_path / "official", scored_rows(benchmark))
    assert "note: results.jsonl is not written, 6 of 28 images are unscored" in capsys.readouterr().err
    assert not (tmp_path / "official").exists()


def test_a_score_is_plain_json(root: Path, tmp_path: Path) -> None:
    benchmark = bench(root, scoring=scoring(given=given(tmp_path)))
    scores: list[Score] = benchmark.score(every(benchmark))
    assert all(json.loads(json.dumps(dict(score.evidence))) == dict(score.evidence) for score in scores)


class Hasty(Detector, Classifier):
    """Leaves out the last answer."""

    def detect(self, images: Sequence[Image.Image], names: Sequence[str], *, above: float) -> list[Instances]:
        return super().detect(images, names, above=above)[:-1]

    def classify_all(self, objects: Sequence[Seen]) -> list[str]:
        return [*super().classify_all(objects), "red"]


def test_an_expert_that_answers_a_wrong_number_of_things_is_named(root: Path) -> None:
    hasty = Hasty(("dog", LEFT))
    hasty.asked = []
    [colored] = [one for one in bench(root, scoring=scoring()).prompts("val") if one.category == "colors"][:1]
    samples = [drawn(colored, number=number) for number in (0, 1)]
    with pytest.raises(ValueError, match=r"^detector Hasty gave 1 detections for 2 images"):
        bench(root, scoring=scoring(detector=hasty)).score(samples)
    seeing = Detector((colored.facts["include"][0]["class"], LEFT))
    with pytest.raises(ValueError, match=r"^color classifier Hasty gave 3 colors for 2 objects"):
        bench(root, scoring=scoring(detector=seeing, colors=hasty)).score(samples)
