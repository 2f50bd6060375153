"""A folder in GenEval's layout, scored with tiny random models, with given detections, and from results."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import mini_geneval
import mini_geneval_scored
import pytest
import torch
from mini_geneval_scored import CORRECT, EACH, PROMPTS, TAGS

from harness import score
from harness.files import read_rows

Score = Callable[..., tuple[int, Path]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    mini_geneval_scored.write_prompts(folder / "prompts", data_dir / "geneval")
    mini_geneval_scored.write_pictures(folder / "pictures")
    mini_geneval_scored.write_found(folder / "mmdet.jsonl")
    mini_geneval.write_mask2former(folder / "mask2former")
    mini_geneval.write_clip_l(folder / "clip")
    return folder


@pytest.fixture
def scored(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Runs the command in a folder of its own; returns its exit code and where the outcome is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENEVAL_DIR", str(world / "prompts"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str, samples: Path | None = world / "pictures") -> tuple[int, Path]:
        models = {"detector": "mask2former", "colors": "clip"}
        given = [f"benchmarks.scoring.{name}.model={world / folder}" for name, folder in models.items()]
        return score.main(
            ["benchmarks=geneval", "out=out", *([f"samples={samples}"] if samples else []), *given, *words]
        ), tmp_path / "out"

    return run


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8") as stream:
        return {row["category"]: row for row in csv.DictReader(stream)}


def values(out: Path) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for row in read_rows(out / "scores.jsonl"):
        found.setdefault(row["category"], []).append(row["value"])
    return found


def test_the_models_judge_every_picture(
    scored: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini_geneval_scored.write_pictures(
        tmp_path / "strips", each=1, size=(64, 16)
    )  # the detector makes all others larger
    code, out = scored(
        "check=mirror", "draw=boxes", "evaluation.images_per_prompt=1", samples=tmp_path / "strips"
    )
    assert code == 0
    found = read_rows(out / "scores.jsonl")
    assert len(found) == len(PROMPTS) and not [row["unscored"] for row in found if row["unscored"]]
    assert {value for own in values(out).values() for value in own} <= {0.0, 1.0}
    assert any(row["evidence"]["kept"] for row in found), "sure of something"
    assert [row["mirrored"] is not None for row in found] == [
        row["prompt"] == PROMPTS[4]["prompt"] for row in found
    ]
    told, printed = summary(out), capsys.readouterr().out
    assert list(told) == TAGS
    assert {row["metric"] for row in told.values()} == {"GenEval (HF detector)"}
    for label in (
        "mode=official",
        "detector=Mask2Former (mask2former)",
        "colors=clip",
        "prompts of unknown, sha256",
    ):
        assert all(label in row["labels"] for row in told.values()) and label in printed
    assert (
        (out / "official" / "summary.txt")
        .read_text()
        .startswith("Summary\n=======\nTotal images: 7\nTotal prompts: 7\n")
    )


def test_given_detections_judge_without_a_model(scored: Score, world: Path) -> None:
    code, out = scored(f"benchmarks.scoring.given={world / 'mmdet.jsonl'}", "check=mirror", "draw=boxes")
    assert code == 0 and values(out) == CORRECT
    told = summary(out)
    assert {row["metric"] for row in told.values()} == {"GenEval"} and "detector=mmdet.jsonl" in told[
        "counting"
    ]["labels"]
    assert {name: float(row["score"]) for name, row in told.items()} == {
        name: sum(own) / len(own) for name, own in CORRECT.items()
    }
    mirror = json.loads((out / "summary.json").read_text(encoding="utf-8"))["categories"]["position"][
        "mirror"
    ]
    assert (mirror["images"], mirror["prompts"], mirror["verdict"]) == (4, 1, "cannot tell")
    red = next(row for row in read_rows(out / "scores.jsonl") if row["category"] == "colors")
    assert [(box["label"], box["color"]) for box in red["evidence"]["boxes"]] == [("dog", "red")]
    assert len(list((out / "boxes").iterdir())) == 20, "of every picture in which something was judged"
    results = [json.loads(line) for line in (out / "official" / "results.jsonl").read_text().splitlines()]
    assert [line["correct"] for line in results] == [value == 1 for own in CORRECT.values() for value in own]
    assert results[0]["filename"] == "00000/samples/00000.png"


def test_corrected_is_another_metric(scored: Score, world: Path) -> None:
    code, out = scored(f"benchmarks.scoring.given={world / 'mmdet.jsonl'}", "mode=corrected")
    assert code == 0 and all("mode=corrected" in row["labels"] for row in summary(out).values())
    assert values(out)["colors"] == [1.0, 0.0, 1.0, 0.0], "the red dog is there, if not the surest"


def test_official_results_are_read_and_written_again(scored: Score, world: Path, tmp_path: Path) -> None:
    _, out = scored(f"benchmarks.scoring.given={world / 'mmdet.jsonl'}")
    theirs = tmp_path / "theirs"
    (out / "official").rename(theirs)
    (theirs / "summary.txt").unlink()
    code, out = scored(f"results={theirs}", samples=None)
    assert code == 0 and values(out) == CORRECT
    told = summary(out)
    assert {(row["metric"], row["labels"]) for row in told.values()} == {("GenEval", score.IMPORTED)}
    assert (out / "official" / "results.jsonl").read_bytes() == (theirs / "results.jsonl").read_bytes()
    assert "(2 / 8)" in (out / "official" / "summary.txt").read_text()


def test_official_results_of_rewritten_prompts_are_read_and_labeled(
    scored: Score, world: Path, tmp_path: Path
) -> None:
    _, out = scored(f"benchmarks.scoring.given={world / 'mmdet.jsonl'}")
    theirs = tmp_path / "theirs"
    (out / "official").rename(theirs)
    (theirs / "summary.txt").unlink()
    text = (theirs / "results.jsonl").read_text()
    long = "a sharp photo of a dog above a bench"
    (theirs / "results.jsonl").write_text(text.replace("a photo of a dog above a bench", long))
    code, out = scored(f"results={theirs}", samples=None)
    assert code == 0 and values(out) == CORRECT
    metrics = {name: row["metric"] for name, row in summary(out).items()}
    assert metrics.pop("position") == "GenEval (rewritten prompts: 1 of 2)"
    assert set(metrics.values()) == {"GenEval"}
    assert [row["prompt"] for row in read_rows(out / "scores.jsonl")].count(long) == 4
    assert (out / "official" / "results.jsonl").read_bytes() == (theirs / "results.jsonl").read_bytes()


def test_results_that_are_not_there_are_named(
    scored: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs").mkdir()
    code, _ = scored(f"results={tmp_path / 'theirs'}", samples=None)
    assert code != 0 and "theirs/results.jsonl" in capsys.readouterr().err


def test_a_folder_that_lacks_pictures_is_refused_or_scored_in_part(
    scored: Score, world: Path, tmp_path: Path, capsys
) -> None:
    mini_geneval_scored.write_pictures(tmp_path / "few", PROMPTS[:5])
    given = f"benchmarks.scoring.given={world / 'mmdet.jsonl'}"
    code, _ = scored(given, samples=tmp_path / "few")
    assert code != 0 and "prompts that lack pictures: 2\n  position/00005" in capsys.readouterr().err
    code, out = scored(
        given, "benchmarks.categories=[position,colors]", "allow_partial=true", samples=tmp_path / "few"
    )
    assert code == 0 and "partial: 1 of 2 prompts" in summary(out)["position"]["labels"]
    assert values(out) == {"colors": CORRECT["colors"], "position": CORRECT["position"][:EACH]}


def test_a_stopped_run_resumes(scored: Score, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was judged before is not looked at again."""
    from benchmarks.geneval.scoring import Scorer

    judged, usual = [], Scorer.score

    def interrupted(self, samples, **how):
        judged.extend(samples)
        if len(judged) == 2 * EACH:
            raise KeyboardInterrupt
        return usual(self, samples, **how)

    monkeypatch.setattr("harness.evaluation.row_shards.BLOCK", EACH)
    monkeypatch.setattr(Scorer, "score", interrupted)
    given = f"benchmarks.scoring.given={world / 'mmdet.jsonl'}"
    scored(given)
    code, out = scored(given)
    assert code == 0 and values(out) == CORRECT
    assert len(judged) == EACH * (len(PROMPTS) + 1)
