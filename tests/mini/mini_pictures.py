"""The settings of a cell that scores pictures, and its stage `samples` run in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mini_world import CHOSEN, READ, FakeWorkspace

from harness.composition.components import make
from harness.samples import SampleFolder
from harness.types import Sample, Stage
from policies.images.listing import list_images

COLOR = [f"val color number {number}" for number in range(3)]
SHAPE = [f"val shape number {number}" for number in range(3)]
BOTH = {"color": COLOR, "shape": SHAPE}


def config(
    folder: Path | str,
    given: Mapping[str, Sequence[str]] = BOTH,
    *,
    images: int = 2,
    n_prompts: int | None = None,
    **policy: Any,
) -> dict[str, Any]:
    return {
        "policies": {
            "_target_": "policies.images.recipe.Pictures",
            "folder": str(folder),
            "allow_partial": False,
            "mixed_sizes": False,
            "guidance": None,
            "rewriting": None,
            **policy,
        },
        "benchmarks": {"_target_": "mini_prompts.Known", "given": dict(given), "n_prompts": n_prompts},
        "evaluation": {**CHOSEN, **READ, "images_per_prompt": images},
    }


def planned(cell: dict[str, Any]) -> Stage:
    return make(cell["policies"]).samples(cell)


def made(place: Path, cell: dict[str, Any]) -> Path:
    """The folder of the stage."""
    work = FakeWorkspace(place)
    list_images(work, dict(planned(cell).settings), {})
    return work.folder


def samples(place: Path, cell: dict[str, Any]) -> list[Sample]:
    return list(SampleFolder(made(place, cell)).read())


def protocol(place: Path) -> dict[str, Any]:
    return json.loads((place / "protocol.json").read_text(encoding="utf-8"))
