"""A `Policy` that looks pictures up: `rollout` alone, since nothing can be trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness import plan
from harness.protocols import Sampling
from harness.types import Plan, Prompt, Sample, Tokens
from policies.pictures.gather import TABLE, read

NO_PLAN = Plan(text="", objects=(), bare_text="")
NO_TOKENS = Tokens(prompt=(), chain=(), image=())


class PicturePolicy:
    """The pictures that the stage `pictures` found, by prompt and number."""

    def __init__(self, folder: Path) -> None:
        self._table: dict[str, list[dict[str, str]]] = json.loads((folder / TABLE).read_text(encoding="utf-8"))

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """The picture of each prompt's number, with its chain if it has one; seeds and `sampling` have no effect.

        Raises:
            ValueError: there is no such picture, or it can no longer be read.
        """
        return [self._sample(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _sample(self, prompt: Prompt, seed: int) -> Sample:
        own = self._table.get(prompt.id, [])
        if prompt.number >= len(own):
            raise ValueError(
                f"picture {prompt.number} (from 0) of {prompt.text!r} is asked for, and policies=images has {len(own)}: it holds those of "
                "the benchmark's prompts in evaluation.split, evaluation.images_per_prompt of each"
            )
        chain = own[prompt.number]["chain"]
        return Sample(
            prompt=prompt,
            plan=plan.parse(chain) if chain else NO_PLAN,
            image=read(Path(own[prompt.number]["image"])),
            tokens=NO_TOKENS,
            logprobs=(),
            seed=seed,
        )
