"""Stage program `samples`: draws the benchmark's prompts with a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.composition.components import make
from harness.samples import SampleFolder
from harness.seeds import derive, of_batch
from harness.types import Prompt, Sampling

if TYPE_CHECKING:
    from harness.protocols import Workspace


def sample(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Draw `images_per_prompt` samples of every prompt. Resumes after the last complete batch."""
    evaluation = settings["evaluation"]
    benchmark = make(settings["benchmark"])
    prompts = benchmark.prompts(evaluation["split"])
    if not prompts:
        raise ValueError(
            f"the benchmark has no prompts in split {evaluation['split']!r}: name another evaluation.split"
        )
    numbered = []
    for prompt in prompts:
        numbered += [replace(prompt, number=number) for number in range(evaluation["images_per_prompt"])]
    size, sampling = evaluation["batch_size"], Sampling(**evaluation["rollout"])
    folder = SampleFolder(work.folder)
    done = len(folder.rows())
    if done != len(numbered):
        done = done // size * size
    folder.keep(done)
    policy = make(settings["policy"]).load(inputs["policy"] / "checkpoint")
    first = evaluation["first_seed"]
    for start in range(done, len(numbered), size):
        batch = numbered[start : start + size]
        seeds = of_batch((_seed(prompt, settings["seed"], first) for prompt in batch), sampling.random)
        folder.append(start, policy.rollout(batch, seeds, sampling))
        work.progress(start + len(batch), len(numbered))


def _seed(prompt: Prompt, seed: int, first: int | None) -> int:
    """The seed of an image: its own, or the one that the benchmark's protocol has for its number."""
    return derive(seed, "evaluation", prompt.id, prompt.number) if first is None else first + prompt.number
