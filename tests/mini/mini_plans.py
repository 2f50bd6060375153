"""A study of plans as a sweep leaves it. Its images follow the chains, so that every number is known.

The plan of the prompt n is right where n % 10 < `right` of its checkpoint. A right plan is drawn right unless
n % 10 == 0; a wrong plan is drawn wrong. The scores of 2D-spatial see the relation, those of complex do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from harness.analysis.measures import MEASURES, described_as
from harness.plan_rows import PlanRow
from harness.samples import DrawnFrom, SampleRow, ScoreRow

WORDS = ("on the left of", "on the right of", "on the top of", "next to")
LEFT, RIGHT = (50.0, 250.0, 400.0, 750.0), (600.0, 250.0, 950.0, 750.0)
OWN_CHAIN = (
    "A <|obj_start|>cup<|obj_end|> <|box_start|>(50,250),(400,750)<|box_end|> and a"
    " <|obj_start|>dog<|obj_end|> <|box_start|>(600,250),(950,750)<|box_end|>.<begin_of_image>"
)
BASELINES = {"own": "reencoded", "fresh": "own", "verify": "own", "other": "own", "uncaptioned": "own"}
BASELINES |= dict.fromkeys(("reencoded", "minimal", "margin", "oracle_terse", "swap"), "reencoded")


@dataclass(frozen=True)
class Arm:
    """An arm: its checkpoint and its intervention, and how many chains that chooses from."""

    intervention: str
    checkpoint: str = "full"
    candidates: int = 1


ARMS = {
    "own": Arm("own"),
    "reencoded": Arm("reencoded"),
    "verify_3": Arm("verify", candidates=3),
    "minimal": Arm("minimal"),
    "margin": Arm("margin"),
    "oracle": Arm("oracle_terse"),
    "swap": Arm("swap"),
    "sft_own": Arm("own", "sft"),
    "sft_reencoded": Arm("reencoded", "sft"),
}


@dataclass
class PlanStudy:
    """Writes `outputs/studies/plans` under `root`."""

    root: Path
    arms: Mapping[str, Arm] = field(default_factory=lambda: ARMS)
    right: Mapping[str, int] = field(default_factory=lambda: {"full": 7, "sft": 4})  # of 10 plans
    prompts: int = 40  # per category
    seeds: Sequence[int] = (0,)
    states: Mapping[str, str] = field(default_factory=dict)  # arm -> state, if not done
    facts: Mapping[str, Any] = field(default_factory=dict)  # further entries of the plan's study
    labels: Mapping[str, list[str]] = field(default_factory=dict)  # arm -> labels of its relation

    @property
    def folder(self) -> Path:
        return self.root / "outputs" / "studies" / "plans"

    def write(self) -> Path:
        study = {
            "name": "plans",
            "question": "Plan or drawing?",
            "baseline": "reencoded",
            "full": None,
            "categories": ["2D-spatial", "complex"],
            "measures": list(MEASURES),
            "baselines": BASELINES,
            **self.facts,
        }
        cells = []
        for name in self.arms:
            cells += [self._cell(name, seed) for seed in self.seeds]
        plan = {"study": study, "command": "sweep", "created": "2026-01-01", "cells": cells}
        _write(self.folder / "plan.json", plan)
        return self.folder

    def _cell(self, name: str, seed: int) -> dict[str, Any]:
        arm, state, cell = self.arms[name], self.states.get(name, "done"), f"{name}-s{seed}"
        _write(self.folder / "cells" / cell / "status.json", {"state": state, "error": None})
        trained = ["sft", "grpo"] if arm.checkpoint == "full" else ["sft"]
        shared = [*trained, "chains", *[f"chains-{k}" for k in range(1, arm.candidates)]]
        stages = []
        for stage in (*shared, "samples", "scores", "plans"):
            key = f"{stage}-{f'{arm.checkpoint}-s{seed}' if stage in shared else cell}"
            stages.append({"name": stage, "key": key, "folder": f"stages/{key}"})
            if state == "done" or stage in shared:
                _write(self.root / "outputs" / "stages" / key / "stage.json", {"seconds": 1.0})
        if state == "done":
            self._results(name, cell)
        folder = f"cells/{cell}"
        return {"id": cell, "arm": name, "seed": seed, "overrides": [], "folder": folder, "stages": stages}

    def _results(self, name: str, cell: str) -> None:
        samples, scores, plans = [], [], []
        for index in range(2 * self.prompts):
            sample, plan = self._row(self.arms[name], index)
            samples.append(sample.to_json())
            plans.append(plan.to_json())
            fields = {key: samples[-1][key] for key in ("index", "prompt_id", "category", "number", "seed")}
            scores.append(ScoreRow(**fields, value=plan.score, unscored=None).to_json())
        stages = self.root / "outputs" / "stages"
        images = stages / f"samples-{cell}" / "images"
        images.mkdir(parents=True)
        Image.new("RGB", (24, 24), (200, 90, 120)).save(images / "00000.png")
        _write_rows(stages / f"samples-{cell}" / "samples.jsonl", samples)
        _write_rows(stages / f"scores-{cell}" / "scores.jsonl", scores)
        _write_rows(stages / f"plans-{cell}" / "plans.jsonl", plans)
        entry = {"name": "detector", "labels": self.labels.get(name, ["roles=name"]), "notes": []}
        metric = {measure: {**entry, "mirror": None} for measure in map(described_as, MEASURES)}
        _write(stages / f"plans-{cell}" / "metric.json", metric)

    def _row(self, arm: Arm, index: int) -> tuple[SampleRow, PlanRow]:
        number, spatial = index % self.prompts, index < self.prompts
        word = WORDS[index % 4]
        own_right = number % 10 < self.right[arm.checkpoint]
        drawn_from, plan_right = self._drawn(arm, number, word, own_right=own_right)
        image_right = plan_right and number % 10 != 0
        shared = {
            "index": index,
            "prompt_id": f"p{index:03d}",
            "category": "2D-spatial" if spatial else "complex",
            "number": 0,
            "seed": index,
        }
        boxes = (LEFT, RIGHT) if plan_right else (RIGHT, LEFT)
        sample = SampleRow(
            **shared,
            prompt=f"a cup {word} a dog",
            facts={"phrasing": ("direct", "inverse")[index % 2]},
            chain=OWN_CHAIN if drawn_from.own_ids else OWN_CHAIN.replace("(600,", "(610,"),
            image="images/00000.png",
            drawn_from=drawn_from,
        )
        plan = PlanRow(
            **shared,
            relation=word,
            directional=word != "next to",
            planned=boxes,
            found=(LEFT, RIGHT) if image_right else (RIGHT, LEFT),
            plan_right=plan_right,
            plan_right_center=plan_right,
            image_right=image_right,
            image_right_center=plan_right,
            followed=plan_right == image_right if word != "next to" else None,
            iou=0.9,
            ri=0.9,
            applied=drawn_from.applied,
            nll=None if drawn_from.nll is None else drawn_from.nll / drawn_from.nll_ids,
            score=float(image_right) if spatial else 0.6,
            unscored=None,
        )
        return sample, plan

    def _drawn(self, arm: Arm, number: int, word: str, *, own_right: bool) -> tuple[DrawnFrom, bool]:
        """What an image is drawn from, and whether that plan is right."""
        applied, reason, plan_right, details, nll = True, None, own_right, {}, 25.0
        if arm.intervention == "verify":
            chosen = 0 if own_right or number % 10 == 9 else 1 + number % 2
            plan_right = own_right or 0 < chosen < arm.candidates
            details = {"candidate": chosen if plan_right else 0}
        elif arm.intervention == "minimal":
            applied, plan_right = not own_right, True
            reason = "the chain is right" if own_right else None
        elif arm.intervention == "margin":
            applied, reason = word != "next to", "the relation has no direction"
            plan_right = True if applied else own_right
            details = {"achieved_margin": 0.5, "margin": 0.2} if applied else {}
        elif arm.intervention == "oracle_terse":
            plan_right, nll = True, 400.0
        elif arm.intervention == "swap":
            plan_right = own_right if word == "next to" else not own_right
        sampled = arm.intervention in ("own", "verify")
        drawn_from = DrawnFrom(
            intervention=arm.intervention,
            applied=applied,
            reason=None if applied else reason,
            own_chain=OWN_CHAIN,
            caption=None,
            sampled_ids=sampled,
            own_ids=arm.intervention == "own" or (arm.intervention == "reencoded" and number % 4 > 0),
            nll=nll,
            nll_ids=100,
            details=details,
        )
        return drawn_from, plan_right


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def _write_rows(file: Path, rows: list[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
