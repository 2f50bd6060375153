"""A study folder as a sweep leaves it, with effects that are known because they are made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.samples import SampleRow

CATEGORIES = ("color", "2D-spatial")
CHAIN = (
    "A <|obj_start|>red circle<|obj_end|> <|box_start|>(100,100),(400,400)<|box_end|> here.<begin_of_image>"
)


@dataclass
class FakeStudy:
    """Writes `outputs/studies/<name>` and its stages under `root`."""

    root: Path
    name: str = "fake"
    arms: Mapping[str, float] = field(
        default_factory=lambda: {"baseline": 0.3, "w_PI": 0.5, "full": 0.7}
    )  # mean score
    seeds: Sequence[int] = (0, 1)
    categories: Sequence[str] = CATEGORIES
    prompts: int = 60
    claims: Mapping[str, Any] = field(default_factory=dict)
    margin: float = 0.02
    published: Mapping[str, Any] = field(default_factory=dict)
    states: Mapping[tuple[str, int], tuple[str, str | None]] = field(
        default_factory=dict
    )  # (arm, seed) -> state, error
    unscored: Mapping[str, int] = field(default_factory=dict)  # arm -> how many samples
    metrics: Callable[[str, int], Mapping[str, Any] | None] = lambda arm, seed: None  # what metric.json holds
    logged: Callable[[str, int], Mapping[str, float]] = lambda arm, step: {}  # further metrics of a GRPO step
    facts: Mapping[str, Any] = field(default_factory=dict)  # further entries of the plan's study
    text: str = "a red circle"
    question: str = "Does it work?"
    image_size: int = 24

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def folder(self) -> Path:
        return self.outputs / "studies" / self.name

    def write(self) -> Path:
        cells = [self._cell(arm, seed) for arm in self.arms for seed in self.seeds]
        study = {
            "name": self.name,
            "question": self.question,
            "source": "a paper",
            "baseline": "baseline",
            "full": "full",
            "categories": list(self.categories),
            "published": dict(self.published),
            "claims": dict(self.claims),
            "margin": {"value": self.margin, "reason": "a smaller gain costs more than it brings"},
            **self.facts,
        }
        plan = {
            "study": study,
            "command": "python -m harness.sweep ablations=fake -m",
            "created": "2026-01-01T00:00:00+00:00",
            "cells": cells,
        }
        _write(self.folder / "plan.json", plan)
        return self.folder

    def _cell(self, arm: str, seed: int) -> dict[str, Any]:
        number = f"{list(self.arms).index(arm)}{seed}"
        state, error = self.states.get((arm, seed), ("done", None))
        cell = f"cell{number}"
        _write(self.folder / "cells" / cell / "status.json", {"state": state, "error": error})
        stages = [
            {"name": name, "key": f"{name}{number}", "folder": f"stages/{name}-{number}ab"}
            for name in ("sft", "grpo", "samples", "scores")
        ]
        for stage in stages:
            if state == "done" or stage["name"] == "sft":
                self._stage(self.outputs / stage["folder"], stage["name"], arm, seed)
        return {
            "id": cell,
            "arm": arm,
            "seed": seed,
            "overrides": [f"seed={seed}"],
            "folder": f"cells/{cell}",
            "stages": stages,
        }

    def _stage(self, folder: Path, name: str, arm: str, seed: int) -> None:
        record = {
            "seconds": 12.5,
            "peak_mb": 321,
            "commit": "c0ffee",
            "dirty": False,
            "code": "0123456789ab",
            "versions": {"torch": "2.13"},
            "hardware": "2 x CPU",
        }
        _write(folder / "stage.json", record)
        if name == "grpo":
            lines = [
                {
                    "step": step,
                    "reward": step / 40,
                    "component/pi": 0.5,
                    "kl": 0.01,
                    "unscored": 1,
                    "truncated_chains": 0,
                    "faulty_chains": 2,
                    **self.logged(arm, step),
                }
                for step in range(20)
            ]
            _write_lines(folder / "metrics.jsonl", lines)
        if name == "samples":
            _write_lines(folder / "samples.jsonl", self._samples(folder, seed))
        if name == "scores":
            _write_lines(folder / "scores.jsonl", self._scores(arm, seed))
            if (said := self.metrics(arm, seed)) is not None:
                _write(folder / "metric.json", said)

    def _prompts(self) -> list[tuple[int, str, str]]:
        pairs = [(category, number) for category in self.categories for number in range(self.prompts)]
        return [
            (index, f"{category}-{number:03d}", category) for index, (category, number) in enumerate(pairs)
        ]

    def _samples(self, folder: Path, seed: int) -> list[dict[str, Any]]:
        (folder / "images").mkdir()
        rows = []
        for index, prompt_id, category in self._prompts():
            Image.new("RGB", (self.image_size, self.image_size), (index % 255, 90, 120)).save(
                folder / f"images/{index:05d}.png"
            )
            facts = {
                "unseen": index % 4 == 0,
                "phrasing": ("direct", "inverse")[index % 2] if category == "2D-spatial" else None,
            }
            row = SampleRow(
                index=index,
                prompt_id=prompt_id,
                prompt=f"{self.text} {prompt_id}",
                category=category,
                facts=facts,
                seed=seed,
                chain=CHAIN,
                image=f"images/{index:05d}.png",
            )
            rows.append(row.to_json())
        return rows

    def _scores(self, arm: str, seed: int) -> list[dict[str, Any]]:
        noise = np.random.default_rng([seed, list(self.arms).index(arm)])
        rows = []
        for index, prompt_id, category in self._prompts():
            missing = index < self.unscored.get(arm, 0)
            value = None if missing else float(np.clip(self.arms[arm] + 0.1 * noise.standard_normal(), 0, 1))
            reason = "unreadable answer" if missing else None
            rows.append(
                {
                    "index": index,
                    "prompt_id": prompt_id,
                    "category": category,
                    "number": 0,
                    "seed": seed,
                    "value": value,
                    "unscored": reason,
                    "evidence": {},
                }
            )
        return rows


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def _write_lines(file: Path, rows: Sequence[Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def make_study() -> Callable[..., FakeStudy]:
    """`make_study(root, **changes)`; `.write()` returns the study's folder."""
    return lambda root, **changes: FakeStudy(root=root, **changes)


@pytest.fixture
def fake_study(tmp_path: Path) -> Callable[..., FakeStudy]:
    """`fake_study(**changes)`: a FakeStudy in tmp_path."""
    return lambda **changes: FakeStudy(root=tmp_path, **changes)
