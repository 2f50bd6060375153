"""The program `plans`: a row for every sample, and the same files whatever interrupted it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
from mini_world import FakeWorkspace, Interrupted
from plan_follower import follow

from benchmarks.shapes.benchmark import Shapes
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.scene import sample_scene
from harness.chain import END, parse
from harness.evaluation import plans, score
from harness.files import read_rows
from harness.plan_rows import PlanRow
from harness.relations import Found
from harness.samples import NO_TOKENS, DrawnFrom, SampleFolder
from harness.types import Metric, Prompt, Region, Sample

SETTINGS = {
    "categories": ["color", "2D-spatial"],
    "prompt_seed": 0,
    "train_per_category": 1,
    "dev_per_category": 1,
    "val_per_category": 50,
    "unseen_share": 0.0,
    "unfaithful_share": 0.0,
    "n_prompts": None,
}
SHAPES = {"_target_": "benchmarks.shapes.benchmark.Shapes", **SETTINGS}


class Watched(Shapes):
    """Notes at whose images it looked."""

    seen: ClassVar[list[str]] = []

    def locate(self, samples: Sequence[Sample]) -> list[Found | str]:
        self.seen.extend(sample.prompt.id for sample in samples)
        return super().locate(samples)


class Blind(Shapes):
    """It finds no planned name, and cannot look at images with an odd number of the prompt."""

    ground = None
    locator = Metric(name="half blind", labels=("threshold=0.1",))
    relation_holds = None

    def locate(self, samples: Sequence[Sample]) -> list[Found | str]:
        found: list[Found | str] = []
        for sample in samples:
            odd = int(sample.prompt.id[-1]) % 2
            found.append("too narrow" if odd else (Region(-0.5, 0, 10, 10), None))
        return found


def drawn(prompts: Sequence[Prompt]) -> list[Sample]:
    """Images that follow right plans."""
    rng = Random(1)
    samples = []
    for prompt in prompts:
        facts = Facts.read(prompt.facts)
        assert facts is not None
        chain = sample_scene(rng, facts).chain() + END
        samples.append(
            Sample(
                prompt=prompt, chain=parse(chain), image=follow(chain), tokens=NO_TOKENS, logprobs=(), seed=7
            )
        )
    return samples


def from_own(**changes: Any) -> DrawnFrom:
    origin = DrawnFrom(
        intervention="own",
        applied=True,
        reason=None,
        own_chain="",
        caption=None,
        sampled_ids=True,
        own_ids=True,
        nll=6.0,
        nll_ids=4,
    )
    return replace(origin, **changes)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """50 color prompts, then 50 with a relation, with their scores."""
    folder = tmp_path_factory.mktemp("inputs")
    samples = drawn(Shapes(**SETTINGS).prompts("val"))
    origins = [from_own() for _ in samples]
    origins[50] = from_own(applied=False, reason="why not", nll=None)
    origins[51] = from_own(nll=0.0, nll_ids=0)
    SampleFolder(folder / "samples").append(0, samples, origins)
    inputs = {"samples": folder / "samples"}
    score.score(FakeWorkspace(folder / "scores"), {"benchmark": SHAPES}, inputs)
    return {**inputs, "scores": folder / "scores"}


def measured(
    folder: Path, inputs: dict[str, Path], *, stop_at: int | None = None, **changes: Any
) -> list[PlanRow]:
    benchmark = {**SHAPES, "_target_": changes.pop("target", SHAPES["_target_"])}
    settings = {"benchmark": benchmark, "roles": "name", **changes}
    plans.measure(FakeWorkspace(folder, stop_at), settings, inputs)
    return [PlanRow.from_json(row) for row in read_rows(folder / "plans.jsonl")]


def test_every_sample_has_a_row_with_what_its_prompt_lets_be_measured(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    rows = measured(tmp_path / "plans", inputs)
    scores = [row["value"] for row in read_rows(inputs["scores"] / "scores.jsonl")]
    assert [(row.index, row.seed, row.score) for row in rows] == [
        (place, 7, value) for place, value in enumerate(scores)
    ]
    for row in rows:
        assert row.ri == 1.0 and row.unscored is None
        assert (row.relation is None) == (row.category == "color")
        measures = (row.plan_right, row.plan_right_center, row.image_right, row.image_right_center, row.iou)
        assert measures == ((None,) * 5 if row.relation is None else (True, True, True, True, 1.0))
    assert [(row.applied, row.nll) for row in rows[49:52]] == [(True, 1.5), (False, None), (True, None)]


def test_metrics_say_by_which_rule_roles_and_detector(inputs: dict[str, Path], tmp_path: Path) -> None:
    measured(tmp_path / "plans", inputs, roles="order")
    found = json.loads((tmp_path / "plans" / "metric.json").read_text(encoding="utf-8"))
    assert found["relation"] == {
        "name": "relation (exact detector)",
        "labels": ["rule=own", "roles=order"],
        "notes": [],
        "mirror": None,
    }
    assert {name: one["labels"] for name, one in found.items()} == {
        "relation": ["rule=own", "roles=order"],
        "plan right": ["rule=own", "roles=order"],
        "followed": ["roles=order"],
        "plan IoU": ["roles=order"],
    }
    blind = plans.describe(Blind(**SETTINGS), roles="name")
    assert blind["relation"]["labels"] == ["rule=center", "roles=name", "threshold=0.1"], "it has no own rule"
    assert blind["followed"]["name"] == "followed (half blind)"


def test_measuring_goes_on_where_it_was_stopped(inputs: dict[str, Path], tmp_path: Path) -> None:
    watched = f"{__name__}.Watched"
    Watched.seen.clear()
    whole = measured(tmp_path / "whole", inputs, target=watched)
    assert len(Watched.seen) == 50 and all(name.startswith("2D-spatial") for name in Watched.seen)
    with pytest.raises(Interrupted):
        measured(tmp_path / "cut", inputs, target=watched, stop_at=64)
    Watched.seen.clear()
    assert measured(tmp_path / "cut", inputs, target=watched) == whole
    assert len(Watched.seen) == 36, "those of the second block alone"
    for name in ("plans.jsonl", "metric.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_of_an_image_that_cannot_be_read_the_plan_alone_is_measured(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    samples = SampleFolder(inputs["samples"])
    copied = [samples.sample(row) for row in samples.rows()[48:53]]
    folder = SampleFolder(tmp_path / "samples")
    folder.append(0, copied)
    (tmp_path / "samples" / "images" / "00002.png").unlink()
    score.score(FakeWorkspace(tmp_path / "scores"), {"benchmark": SHAPES}, {"samples": folder.folder})
    rows = measured(tmp_path / "plans", {"samples": folder.folder, "scores": tmp_path / "scores"})
    assert [row.unscored is None for row in rows] == [True, True, False, True, True]
    lost = rows[2]
    assert "00002.png cannot be read" in str(lost.unscored) and lost.plan_right is True
    assert (lost.image_right, lost.found, lost.iou, lost.followed, lost.ri, lost.score) == (None,) * 6
    assert {(row.applied, row.nll) for row in rows} == {(None, None)}, "there was no intervention"


def test_what_a_benchmark_cannot_look_at_is_unscored_and_what_it_does_not_find_is_wrong(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    rows = measured(tmp_path / "plans", inputs, target=f"{__name__}.Blind")
    spatial = [row for row in rows if row.relation]
    assert {(row.unscored, row.image_right) for row in spatial} == {("too narrow", None), (None, False)}
    assert {row.ri for row in rows} == {None} and {row.plan_right for row in spatial} == {True}


def test_an_answer_of_another_form_names_the_benchmark(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blind, "locate", lambda self, samples: [(None,) for _ in samples])
    with pytest.raises(ValueError, match=r"benchmark Blind: locate gave \(None,\).*a pair of regions"):
        measured(tmp_path / "plans", inputs, target=f"{__name__}.Blind")
