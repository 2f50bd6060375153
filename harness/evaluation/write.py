"""Stage program `chains`: what a checkpoint writes for the prompts of an evaluation, without images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.chain_rows import INDEX, ChainRow
from harness.composition.components import make
from harness.evaluation.load import load_to_draw
from harness.files import unfinished, write_rows
from harness.prompts import numbered_prompts, seed_of
from harness.seeds import derive, of_batch
from harness.types import Prompt, Sampling

if TYPE_CHECKING:
    from harness.protocols import Workspace


def write(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Write one chain for every image. Resumes after the last complete batch.

    Candidate 0 is the chain that the stage `samples` would write for the image; later candidates have seeds
    of their own.
    """
    evaluation = settings["evaluation"]
    prompts = numbered_prompts(make(settings["benchmark"]), evaluation)
    size, sampling = evaluation["batch_size"], Sampling(**evaluation["rollout"])
    file = work.folder / INDEX
    starts = unfinished(file, len(prompts), size)
    policy = load_to_draw(settings["policy"], inputs["policy"] / "checkpoint")
    for start in starts:
        batch = prompts[start : start + size]
        seeds = of_batch((_seed(prompt, settings) for prompt in batch), sampling.random)
        written = policy.write(batch, seeds, sampling)
        rows = []
        for index, (prompt, seed, chain) in enumerate(zip(batch, seeds, written, strict=True), start):
            rows.append(ChainRow.of(index, prompt, seed, chain).to_json())
        write_rows(file, rows, "a")
        work.progress(start + len(batch), len(prompts))


def _seed(prompt: Prompt, settings: dict[str, Any]) -> int:
    """The seed of a candidate: that of the image for the first one."""
    seed, candidate = settings["seed"], settings["candidate"]
    if candidate == 0:
        return seed_of(prompt, seed, settings["evaluation"]["first_seed"])
    return derive(seed, "plan", prompt.id, prompt.number, candidate)
