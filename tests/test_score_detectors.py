"""A folder of images scored in every category by tiny random models, without given detections."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mini_dpt
import mini_experts
import mini_scored
import mini_scorers
import mini_unidet
import pytest
import torch
from mini_scored import CATEGORIES

from benchmarks.t2i_compbench import labels
from benchmarks.t2i_compbench.benchmark import _say_once
from benchmarks.t2i_compbench.models.unidet_detector import PUBLISHED, UniDet
from harness import score
from harness.files import read_rows

ASKED = ("spatial_owlv2", "spatial_gdino")
WORDS = ("dog", "cat", "apple", "vase", "person")
Score = Callable[..., tuple[int, Path]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of every prompt, and a folder of every model under its published name."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    mini_scored.write_prompts(folder / "prompts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini_scored, "EACH", 1)
        mini_scored.write_pictures(folder / "pictures")
    for category in ASKED:
        (folder / "pictures" / category).symlink_to(folder / "pictures" / "2D-spatial")
    for variant, own in PUBLISHED.items():
        mini_unidet.write_unidet(folder / own.file, variant)
    mini_dpt.write_dpt(folder / "dpt-hybrid-midas")
    mini_scorers.write_blip(folder / "model_base_vqa_capfilt_large.pth")
    mini_scorers.write_tokenizer(folder / "bert")
    mini_scorers.write_clip(folder / "clip")
    mini_experts.write_owlv2(folder / "owl")
    mini_experts.write_grounding_dino(folder / "dino")
    (folder / "prompts" / "unidet_labels.csv").write_text(json.dumps(_names()), encoding="utf-8")
    return folder


def _names() -> list[str]:
    """Of 722 classes, most of them things that the prompts ask for, so that random detectors find some."""
    return [WORDS[number % len(WORDS)] for number in range(labels.COUNT)]


@pytest.fixture
def scored(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Runs the command in a folder of its own; returns its exit code and where the outcome is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T2I_COMPBENCH_DIR", str(world / "prompts"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UNIDET_RS200_CHECKPOINT", str(world / PUBLISHED["rs200"].file))
    monkeypatch.setenv("UNIDET_R50_CHECKPOINT", str(world / PUBLISHED["r50"].file))
    monkeypatch.setenv("BLIP_VQA_CHECKPOINT", str(world / "model_base_vqa_capfilt_large.pth"))
    monkeypatch.setattr(labels, "DIGEST", hashlib.sha256("\n".join(_names()).encode()).hexdigest())
    folders = {"vqa.tokenizer": "bert", "clip.model": "clip", "depth.model": "dpt-hybrid-midas"}
    folders |= {"owlv2.model": "owl", "owlv2_pairs.model": "owl", "gdino.model": "dino"}

    def run(*words: str, categories: list[str]) -> tuple[int, Path]:
        fixed = [
            "benchmarks=t2i_compbench",
            "out=out",
            f"samples={world / 'pictures'}",
            "evaluation.images_per_prompt=1",
        ]
        models = [f"benchmarks.scoring.{name}={world / folder}" for name, folder in folders.items()]
        return score.main(
            [*fixed, *models, f"benchmarks.categories=[{','.join(categories)}]", *words]
        ), tmp_path / "out"

    return run


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8") as stream:
        return {row["category"]: row for row in csv.DictReader(stream)}


def test_every_category_is_scored_by_the_models_alone(scored: Score) -> None:
    code, out = scored("check=mirror", categories=[*CATEGORIES, *ASKED])
    assert code == 0
    found = read_rows(out / "scores.jsonl")
    assert len(found) == 12 and {row["category"] for row in found} == {*CATEGORIES, *ASKED}
    assert not [row["unscored"] for row in found if row["unscored"]]
    assert all(0 <= row["value"] <= 1 for row in found if row["category"] != "non-spatial")
    _check_labels(summary(out))
    _check_evidence({row["category"]: row["evidence"] for row in found})
    mirrored = {row["category"] for row in found if row["mirrored"] is not None}
    assert mirrored == {"2D-spatial", "complex", *ASKED}
    official = {
        path.parent.relative_to(out / "official").parts[0]
        for path in (out / "official").rglob("vqa_result.json")
    }
    assert official == set(CATEGORIES), "of ours there is no official program"


def _check_labels(table: dict[str, dict[str, str]]) -> None:
    rs200, r50 = "detector=UniDet RS200", "detector=UniDet R50"
    wanted = {
        "2D-spatial": ("UniDet 2D", "mode=official", rs200),
        "3D-spatial": ("UniDet 3D", "mode=official", r50, "depth=DPT hybrid"),
        "numeracy": ("UniDet count", "mode=official", r50),
        "complex": ("3-in-1", "mode=official", rs200),
        "spatial_owlv2": ("spatial_owlv2", "mode=corrected", "detector=owl"),
        "spatial_gdino": ("spatial_gdino", "mode=corrected", "detector=dino"),
    }
    for category, (metric, *told) in wanted.items():
        assert table[category]["metric"] == metric
        for label in told:
            assert label in table[category]["labels"], (category, label)


def _check_evidence(evidence: dict[str, Any]) -> None:
    assert (
        evidence["2D-spatial"]["frame"]
        == evidence["3D-spatial"]["frame"]
        == evidence["numeracy"]["frame"]
        == [480, 360]
    )
    assert evidence["spatial_owlv2"]["frame"] == list(mini_scored.SIZE)
    boxes = [
        box for category in ("2D-spatial", "3D-spatial", "numeracy") for box in evidence[category]["boxes"]
    ]
    asked = [box for category in ASKED for box in evidence[category]["boxes"]]
    assert boxes and asked, "random detectors find something"
    assert all(box["label"] in WORDS and 0.1 < box["score"] <= 1 for box in [*boxes, *asked])


def test_a_given_file_wins_over_the_model(scored: Score, world: Path, tmp_path: Path) -> None:
    mini_scored.write_found(tmp_path / "found")
    given = f"benchmarks.scoring.given.rs200={tmp_path / 'found' / 'rs200.jsonl'}"
    code, out = scored(given, categories=["2D-spatial"])
    assert code == 0
    assert "detector=rs200.jsonl" in summary(out)["2D-spatial"]["labels"]
    assert [row["value"] for row in read_rows(out / "scores.jsonl")] == [0.25 * 0.9 + 0.25 * 0.775 + 0.5]


def test_corrected_shows_the_detector_red_first(scored: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []

    def look(self: UniDet, frame: tuple[int, int], pixels: Sequence[torch.Tensor]) -> list[Any]:
        shown.append(pixels[0])
        return looked(self, frame, pixels)

    looked = UniDet._look
    monkeypatch.setattr(UniDet, "_look", look)
    for mode in ("official", "corrected"):
        code, out = scored(f"mode={mode}", categories=["2D-spatial", "numeracy"])
        assert code == 0 and all(f"mode={mode}" in row["labels"] for row in summary(out).values())
    (rs200, r50), (corrected_rs200, corrected_r50) = shown[:2], shown[2:]
    assert torch.equal(corrected_rs200, rs200.flip(0)) and not torch.equal(corrected_rs200, rs200)
    assert torch.equal(corrected_r50, r50), "it was trained on blue first"


def test_missing_weights_and_labels_are_reported_before_anything_is_scored(
    scored: Score, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _say_once.cache_clear()
    monkeypatch.delenv("UNIDET_R50_CHECKPOINT")
    code, out = scored(categories=["2D-spatial", "numeracy"])
    assert code == 0
    told = capsys.readouterr().err
    assert (
        "images of numeracy will be unscored: UniDet R50 needs its weights Unified_learned_OCIM_R50_6x+2x.pth"
        in told
    )
    assert "or give a file with what it found, benchmarks.scoring.given.r50=FILE" in told
    assert summary(out)["numeracy"]["score"] == "" and summary(out)["2D-spatial"]["score"] != ""

    code, _ = scored("benchmarks.scoring.rs200.labels.file=/nowhere.csv", categories=["2D-spatial"])
    assert (
        code != 0
        and "there is no label file /nowhere.csv: take unidet_labels.csv as" in capsys.readouterr().err
    )
