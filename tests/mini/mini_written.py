"""Chains of the shapes world for two arms, written by a stage program: no model, no training."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.shapes.benchmark import Shapes
from harness.chain import parse
from harness.chain_rows import INDEX, ChainRow
from harness.files import write_rows
from harness.types import Prompt, SampledChain, Stage

ROOT = Path(__file__).resolve().parents[2]
SETS = ("color", "2D-spatial", "complex")


@cache
def records(count: int) -> list[tuple[Prompt, str]]:
    """Prompts of the three sets, each with a chain that shows it."""
    config = yaml.safe_load((ROOT / "benchmarks" / "shapes.yaml").read_text())
    settings = {name: value for name, value in config.items() if name not in ("_target_", "unfaithful_share")}
    found = []
    for record in Shapes(**settings, unfaithful_share=0.0).records(seed=5, count=12 * count):
        if record.prompt.category in SETS:
            found.append((record.prompt, record.chain))
    return found[:count]


def chains(*, prompts: int, wrong: int) -> Stage:
    """A stage of chains of which `wrong` in 10 are those of other prompts."""
    settings = {"prompts": prompts, "wrong": wrong}
    return Stage(name="chains", program="mini_written.write", settings=settings)


def write(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    known, rows = records(settings["prompts"]), []
    for index, (prompt, chain) in enumerate(known):
        if index % 10 < settings["wrong"]:
            chain = known[(index + 1) % len(known)][1]
        written = SampledChain(chain=parse(chain), ids=(1,), logprobs=(0.0,))
        rows.append(ChainRow.of(index, prompt, 7, written).to_json())
    write_rows(work.folder / INDEX, rows)
