"""A folder of pictures scored as a user does it, in all eight categories, with tiny random models
and given detections.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mini_scored
import mini_scorers
import pytest
import torch
from mini_scored import CATEGORIES, EACH

from benchmarks.t2i_compbench.benchmark import _say_once
from harness import score
from harness.files import read_rows

Score = Callable[..., tuple[int, Path]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    mini_scored.write_prompts(folder / "prompts")
    mini_scored.write_pictures(folder / "pictures")
    mini_scored.write_found(folder / "found")
    mini_scorers.write_blip(folder / "model_base_vqa_capfilt_large.pth")
    mini_scorers.write_tokenizer(folder / "bert")
    mini_scorers.write_clip(folder / "clip")
    return folder


@pytest.fixture
def scored(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Runs the command in a folder of its own; returns its exit code and where the outcome is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T2I_COMPBENCH_DIR", str(world / "prompts"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str, samples: Path | None = world / "pictures", models: bool = True) -> tuple[int, Path]:
        found = {"rs200": "rs200.jsonl", "r50": "r50.jsonl", "depth": "depth"} if models else {}
        given = [f"benchmarks.scoring.given.{name}={world / 'found' / file}" for name, file in found.items()]
        blip = world / "model_base_vqa_capfilt_large.pth"
        weights = [
            f"benchmarks.scoring.vqa.checkpoint={blip}",
            f"benchmarks.scoring.vqa.tokenizer={world / 'bert'}",
        ]
        weights += [f"benchmarks.scoring.clip.model={world / 'clip'}"]
        fixed = ["benchmarks=t2i_compbench", "out=out", *([f"samples={samples}"] if samples else [])]
        chosen = (
            []
            if any(word.startswith("benchmarks.categories=") for word in words)
            else [f"benchmarks.categories=[{','.join(CATEGORIES)}]"]
        )
        per_prompt = [f"evaluation.images_per_prompt={EACH}"] if samples else []
        return score.main(
            [*fixed, *chosen, *per_prompt, *(given + weights if models else weights[1:]), *words]
        ), tmp_path / "out"

    return run


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8") as stream:
        return {row["category"]: row for row in csv.DictReader(stream)}


def values(out: Path, category: str) -> list[float | None]:
    return [row["value"] for row in read_rows(out / "scores.jsonl") if row["category"] == category]


def test_forty_pictures_in_all_categories(scored: Score, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = scored("check=mirror", "draw=boxes")
    assert code == 0
    found = read_rows(out / "scores.jsonl")
    assert len(found) == 40 and {row["category"] for row in found} == set(CATEGORIES)
    assert not [row["unscored"] for row in found if row["unscored"]]
    assert all(Path(row["image"]).is_file() for row in found)

    assert values(out, "2D-spatial") == [0.25 * 0.9 + 0.25 * 0.775 + 0.5, 0.0, 0.0, 0.0], (
        "as asked; reversed; one; none"
    )
    assert values(out, "numeracy") == [1.0, 0.75, 0.5, 0.0]
    *_, front = (values(out, "3D-spatial"),)
    assert (
        front[1:] == [0.25 * 0.9, 0.25 * 0.9, 0.0]
        and front[0] is not None
        and front[0] > 0.25 * (0.9 + 0.775)
    )
    for category in ("color", "shape", "texture"):
        assert len(set(values(out, category))) > 1 and all(
            0 <= (value or 0) <= 1 for value in values(out, category)
        )
    _check_evidence(found)
    _check_complex([row for row in found if row["category"] == "complex"])

    assert {name: row["metric"] for name, row in summary(out).items()} == {
        "color": "BLIP-VQA",
        "shape": "BLIP-VQA",
        "texture": "BLIP-VQA",
        "2D-spatial": "UniDet 2D",
        "3D-spatial": "UniDet 3D",
        "numeracy": "UniDet count",
        "non-spatial": "CLIPScore",
        "complex": "3-in-1",
    }
    told, printed = (out / "summary.md").read_text(encoding="utf-8"), capsys.readouterr().out
    for label in (
        "mode=official",
        "np=rules",
        "prompts of unknown, sha256",
        "detector=rs200.jsonl",
        "depth=depth",
        "clip=clip",
    ):
        assert label in told and label in printed, label
    mirror = json.loads((out / "summary.json").read_text(encoding="utf-8"))["categories"]["2D-spatial"][
        "mirror"
    ]
    assert (mirror["images"], mirror["verdict"]) == (4, "cannot tell"), "one prompt decides nothing"
    assert len(list((out / "boxes").rglob("*.png"))) >= 8
    _check_official(out / "official")


def _check_evidence(found: list[dict[str, Any]]) -> None:
    color = next(row for row in found if row["category"] == "color")["evidence"]
    assert color["questions"] == ["a red book?", "a yellow vase?"] and len(color["answers"]) == 2
    spatial = next(row for row in found if row["category"] == "2D-spatial")["evidence"]
    assert spatial["objects"] == ["dog", "cat"] and spatial["locality"] == "on the left of"
    assert [box["label"] for box in spatial["boxes"]] == ["dog", "cat"] and spatial["frame"] == [480, 360]
    numeracy = next(row for row in found if row["category"] == "numeracy")["evidence"]
    assert numeracy["asked"] == [["dog", 2], ["cat", 1]]


def _check_complex(found: list[dict[str, Any]]) -> None:
    """Each prompt goes its way, and its value is the mean of what stands in its evidence."""
    ways = {
        "spatial": ("attribute", "spatial"),
        "action": ("attribute", "clip"),
        "both": ("attribute", "spatial", "clip"),
    }
    assert [row["evidence"]["route"] for row in found[::EACH]] == ["spatial", "action", "both"]
    for row in found:
        parts = [row["evidence"][name]["value"] for name in ways[row["evidence"]["route"]]]
        assert row["value"] == pytest.approx(sum(parts) / len(parts), abs=1e-12)
    caption = found[EACH]["evidence"]["clip"]["text"]
    assert caption == "The man walked the dog .", "without adjectives, marks apart"


def _check_official(folder: Path) -> None:
    def answers(category: str, place: str) -> list[Any]:
        found = json.loads((folder / category / place / "vqa_result.json").read_text(encoding="utf-8"))
        assert [row["question_id"] for row in found] == list(range(len(found)))
        return [row["answer"] for row in found]

    assert answers("2D-spatial", "labels/annotation_obj_detection_2d") == [
        0.25 * 0.9 + 0.25 * 0.775 + 0.5,
        0.0,
        0.0,
        0.0,
    ]
    assert all(len(answer.split(".")[1]) == 4 for answer in answers("texture", "annotation_blip"))
    assert len(answers("complex", "annotation_3_in_1")) == 3 * EACH
    assert len(answers("complex", "annotation_blip")) == 3 * EACH, "every complex prompt is asked"
    assert not (folder / "complex" / "annotation_clip").exists(), (
        "prompts of the spatial route are not compared"
    )


def test_corrected_is_another_metric_with_other_numbers(scored: Score) -> None:
    code, out = scored("mode=corrected", "benchmarks.categories=[2D-spatial,numeracy]")
    assert code == 0
    assert values(out, "2D-spatial") == [
        0.25 * 0.9 + 0.25 * 0.775 + 0.5,
        0.25 * 0.9 + 0.25 * 0.775,
        0.25 * 0.9,
        0.0,
    ], "without the cut"
    assert all("mode=corrected" in row["labels"] for row in summary(out).values())


def test_what_has_no_model_is_unscored_with_its_reason(
    scored: Score, capsys: pytest.CaptureFixture[str]
) -> None:
    _say_once.cache_clear()
    code, out = scored(models=False)
    assert code == 0
    told = capsys.readouterr()
    assert "images of 2D-spatial, complex will be unscored: UniDet RS200 needs its weights" in told.err, (
        "before the work"
    )
    assert values(out, "color") == [None] * EACH and None not in values(out, "non-spatial")
    assert [row["score"] for name, row in summary(out).items() if name == "3D-spatial"] == [""]
    assert (
        "color: 4 unscored: BLIP-VQA needs its original checkpoint model_base_vqa_capfilt_large.pth"
        in told.out
    )
    assert not (out / "official" / "color").exists()


def test_nothing_scored_is_an_error(scored: Score, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = scored("benchmarks.categories=[shape]", models=False)
    assert code == 1 and "nothing could be scored" in capsys.readouterr().err


def test_official_results_are_read_and_written_again(scored: Score, tmp_path: Path) -> None:
    folder = tmp_path / "theirs" / "annotation_blip"
    folder.mkdir(parents=True)
    answers = [f"{number / 10:.4f}" for number in range(10)]
    text = json.dumps([{"question_id": number, "answer": answer} for number, answer in enumerate(answers)])
    (folder / "vqa_result.json").write_text(text, encoding="utf-8")
    code, out = scored("benchmarks.categories=[color]", f"results={tmp_path / 'theirs'}", samples=None)
    assert code == 0
    assert values(out, "color") == [float(answer) for answer in answers]
    assert (summary(out)["color"]["score"], summary(out)["color"]["images"]) == ("0.45", "10")
    assert json.loads(
        (out / "official" / "annotation_blip" / "vqa_result.json").read_text(encoding="utf-8")
    ) == json.loads(text)


def test_official_results_that_are_not_there_are_named(
    scored: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs").mkdir()
    code, _ = scored("benchmarks.categories=[complex]", f"results={tmp_path / 'theirs'}", samples=None)
    assert code != 0
    assert (
        "holds no official results of complex, complex/annotation_3_in_1/vqa_result.json"
        in capsys.readouterr().err
    )
