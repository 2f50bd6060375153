"""The prompts of an evaluation, one for each image, and the seeds of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import read_user_text
from harness.names import unknown
from harness.seeds import derive
from harness.types import Prompt

if TYPE_CHECKING:
    from harness.protocols import Benchmark

CAPTIONS = "captions"


def chosen_prompts(benchmark: Benchmark, evaluation: Mapping[str, Any]) -> list[Prompt]:
    """Return the prompts of an evaluation, in the benchmark's order, then those of the file of captions.

    Args:
        benchmark: whose prompts.
        evaluation: the settings `split`, `categories`, `prompts_per_category` and `captions`.

    Raises:
        ValueError: there are none, no category or an unknown one is named, or the file of captions cannot be
            read.
    """
    split, categories = evaluation["split"], evaluation["categories"]
    prompts = benchmark.prompts(split)
    if evaluation["captions"] is not None:
        prompts = [*prompts, *_captions(Path(evaluation["captions"]))]
    if not prompts:
        raise ValueError(
            f"evaluation.split={split}: the benchmark has no prompts there. Name another split, or change"
            " its settings"
        )
    known = list(dict.fromkeys(prompt.category for prompt in prompts))
    if categories is not None and not categories:
        raise ValueError(
            f"evaluation.categories is empty: name some of {', '.join(known)}, or write null for all"
        )
    for name in categories or ():
        if name not in known:
            raise ValueError(unknown("category in evaluation.categories", str(name), known))
    kept = []
    count = dict.fromkeys(known, 0)
    for prompt in prompts:
        count[prompt.category] += 1
        within = count[prompt.category] <= (evaluation["prompts_per_category"] or len(prompts))
        if within and (categories is None or prompt.category in categories):
            kept.append(prompt)
    return kept


def numbered_prompts(benchmark: Benchmark, evaluation: Mapping[str, Any]) -> list[Prompt]:
    """Return every prompt of an evaluation `images_per_prompt` times, numbered from 0."""
    numbered = []
    for prompt in chosen_prompts(benchmark, evaluation):
        numbered += [replace(prompt, number=number) for number in range(evaluation["images_per_prompt"])]
    return numbered


def seed_of(prompt: Prompt, seed: int, first: int | None) -> int:
    """Return the seed of an image: its own, or the one that the benchmark's protocol has for its number."""
    return derive(seed, "evaluation", prompt.id, prompt.number) if first is None else first + prompt.number


def _captions(file: Path) -> list[Prompt]:
    """The lines of a text file as prompts. Raises ValueError: it cannot be read, or holds no text."""
    where = f"evaluation.captions={file}"
    try:
        lines = read_user_text(file).splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ValueError(f"{where} holds no text: write one prompt per line")
    return [
        Prompt(id=f"{CAPTIONS}-{place:04d}", text=text, category=CAPTIONS) for place, text in enumerate(texts)
    ]
