"""Stage program `samples`: draws the prompts of an evaluation with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.composition.components import make
from harness.evaluation.load import load_to_draw
from harness.prompts import numbered_prompts, seed_of
from harness.samples import SampleFolder
from harness.seeds import of_batch
from harness.types import Sampling

if TYPE_CHECKING:
    from harness.protocols import Workspace


def sample(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Draw `images_per_prompt` samples of every prompt. Resumes after the last complete batch."""
    evaluation = settings["evaluation"]
    prompts = numbered_prompts(make(settings["benchmark"]), evaluation)
    size, sampling = evaluation["batch_size"], Sampling(**evaluation["rollout"])
    folder = SampleFolder(work.folder)
    starts = folder.unfinished(len(prompts), size)
    policy = load_to_draw(settings["policy"], inputs["policy"] / "checkpoint")
    first = evaluation["first_seed"]
    for start in starts:
        batch = prompts[start : start + size]
        seeds = of_batch((seed_of(prompt, settings["seed"], first) for prompt in batch), sampling.random)
        folder.append(start, policy.rollout(batch, seeds, sampling))
        work.progress(start + len(batch), len(prompts))
