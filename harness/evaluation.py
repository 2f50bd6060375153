"""Stage programs `samples` and `scores`: draw the benchmark's prompts with a checkpoint, then score them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import rows
from harness.components import make
from harness.protocols import Sampling, Workspace
from harness.samples import SampleFolder
from harness.seeds import derive, of_batch
from harness.types import Sample, Score


def sample(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Draws `images_per_prompt` samples of every prompt of the split; goes on at the last whole batch."""
    evaluation = settings["evaluation"]
    prompts = make(settings["benchmark"]).prompts(evaluation["split"])
    if not prompts:
        raise ValueError(f"the benchmark has no prompts in split {evaluation['split']!r}: name another evaluation.split")
    wanted = [replace(prompt, number=number) for prompt in prompts for number in range(evaluation["images_per_prompt"])]
    size, sampling = evaluation["batch_size"], Sampling(**evaluation["rollout"])
    folder = SampleFolder(work.folder)
    done = len(folder.rows()) // size * size
    folder.keep(done)
    policy = make(settings["policy"]).load(inputs["policy"] / "checkpoint")
    for start in range(done, len(wanted), size):
        block = wanted[start : start + size]
        seeds = of_batch((derive(settings["seed"], "evaluation", prompt.id, prompt.number) for prompt in block), sampling.random)
        folder.append(start, policy.rollout(block, seeds, sampling))
        work.progress(start + len(block), len(wanted))


def score(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Scores all samples by the benchmark's rules and writes `scores.jsonl`."""
    benchmark = make(settings["benchmark"])
    folder = SampleFolder(inputs["samples"])
    total, done = len(folder.rows()), 0
    file = work.folder / "scores.jsonl"
    rows.write(file, [])  # a killed attempt's rows are not kept: scoring is quick
    samples = folder.read()
    while block := list(itertools.islice(samples, 256)):
        scored = zip(block, benchmark.score(block), strict=True)
        rows.write(file, [_row(index, one, judged) for index, (one, judged) in enumerate(scored, start=done)], "a")
        done += len(block)
        work.progress(done, total)


def _row(index: int, sampled: Sample, judged: Score) -> dict[str, Any]:
    return {
        "index": index,
        "prompt_id": sampled.prompt.id,
        "category": sampled.prompt.category,
        "seed": sampled.seed,
        "value": judged.value,
        "unscored": judged.unscored,
        "evidence": dict(judged.evidence),
    }
