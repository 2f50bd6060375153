"""A `Policy` that draws with a diffusion pipeline: `rollout` alone, since the harness trains none."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.protocols import Policy
from harness.types import Chain, Prompt, Sample, Sampling, Tokens
from policies.pipelines.fetch import POINTER, diffusers

NO_CHAIN = Chain(text="", objects=(), bare_text="")
NO_TOKENS = Tokens(prompt=(), chain=(), image=())


class PipelinePolicy(Policy):
    """The pipeline that the stage `pipeline` found; its arguments are those of `policies.pipelines.recipe.Pipeline`.

    Raises:
        ValueError: it cannot be loaded as it is to be, or does not take an argument of `call`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        call: dict[str, Any],
        dtype: str,
        placement: str,
        batch_size: int,
        safety_checker: bool,
    ) -> None:
        pointer = json.loads((folder / POINTER).read_text(encoding="utf-8"))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu" and dtype == "float16":
            raise ValueError(
                "policies.dtype=float16 needs a GPU, and there is none: give float32 or bfloat16"
            )
        self._pipe = _load(pointer, getattr(torch, dtype))
        if not safety_checker and getattr(self._pipe, "safety_checker", None) is not None:
            self._pipe.safety_checker = None
        self._pipe.set_progress_bar_config(disable=True)
        if device == "cuda" and placement != "whole":
            (
                self._pipe.enable_model_cpu_offload
                if placement == "models"
                else self._pipe.enable_sequential_cpu_offload
            )()
        else:
            self._pipe.to(device)
        self._call, self._batch_size = call, batch_size
        takes = inspect.signature(type(self._pipe).__call__).parameters
        unknown = [name for name in ("prompt", "generator", *call) if name not in takes]
        if unknown:
            known = [
                name for name, one in takes.items() if name != "self" and one.kind is not one.VAR_KEYWORD
            ]
            raise ValueError(
                f"{type(self._pipe).__name__} takes no {', '.join(unknown)}; it takes {', '.join(known)}"
            )

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One picture per (prompt, seed), each from a generator of its own; `sampling` is of models that write chains.

        Raises:
            ValueError: a picture is black, so that no score could be told from one of a failure.
        """
        pairs = list(zip(prompts, seeds, strict=True))
        blocks = (pairs[start : start + self._batch_size] for start in range(0, len(pairs), self._batch_size))
        return [sample for block in blocks for sample in self._draw(block)]

    def _draw(self, block: Sequence[tuple[Prompt, int]]) -> list[Sample]:
        generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in block]
        drawn = self._pipe(prompt=[prompt.text for prompt, _ in block], generator=generators, **self._call)
        samples = []
        for (prompt, seed), image in zip(block, drawn.images, strict=True):
            picture = image.convert("RGB")
            if not any(high for _, high in picture.getextrema()):
                raise ValueError(
                    f"the picture of {prompt.text!r} ({prompt.id}) is black: {self._why_black(drawn)}"
                )
            samples.append(
                Sample(prompt=prompt, chain=NO_CHAIN, image=picture, tokens=NO_TOKENS, logprobs=(), seed=seed)
            )
        return samples

    def _why_black(self, drawn: Any) -> str:
        if any(getattr(drawn, "nsfw_content_detected", None) or ()):
            return "the pipeline's safety checker replaced it. Switch that off with policies.safety_checker=false"
        return (
            "numbers too large for policies.dtype are the usual cause. Try policies.dtype=bfloat16 or float32"
        )


def _load(pointer: dict[str, str | None], dtype: torch.dtype) -> Any:
    place = pointer["folder"] if Path(str(pointer["folder"])).is_dir() else pointer["pipeline"]
    try:
        return diffusers().DiffusionPipeline.from_pretrained(
            place, revision=pointer["revision"], dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"the pipeline {place} cannot be loaded: {error}") from error
