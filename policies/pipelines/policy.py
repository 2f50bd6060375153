"""A `Policy` that draws with a diffusion pipeline. It only has `rollout`: the harness does not train it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness import devices
from harness.protocols import Policy
from harness.types import Chain, Prompt, Sample, Sampling, Tokens
from policies.pipelines.fetch import POINTER, diffusers

NO_CHAIN = Chain(text="", objects=(), bare_text="")
NO_TOKENS = Tokens(prompt=(), chain=(), image=())


class PipelinePolicy(Policy):
    """The pipeline of the stage `pipeline`, with the settings of `policies.pipelines.recipe.Pipeline`.

    Raises:
        ValueError: it cannot be loaded with these settings, or does not take an argument of `call`.
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
        device = devices.automatic()
        if device == "cpu" and dtype == "float16":
            raise ValueError(
                "policies.dtype=float16 needs a GPU, and there is none: give float32 or bfloat16"
            )
        self._pipe = _load(pointer, getattr(torch, dtype))
        if not safety_checker and getattr(self._pipe, "safety_checker", None) is not None:
            self._pipe.safety_checker = None
        self._pipe.set_progress_bar_config(disable=True)
        if device == "cpu" or placement == "whole":
            self._pipe.to(device)
        elif placement == "models":
            self._pipe.enable_model_cpu_offload()
        else:
            self._pipe.enable_sequential_cpu_offload()
        self._call, self._batch_size = call, batch_size
        parameters = inspect.signature(type(self._pipe).__call__).parameters
        unknown = [name for name in ("prompt", "generator", *call) if name not in parameters]
        if unknown:
            named = [each for each in parameters.values() if each.kind is not each.VAR_KEYWORD]
            known = [parameter.name for parameter in named if parameter.name != "self"]
            raise ValueError(
                f"{type(self._pipe).__name__} takes no {', '.join(unknown)}; it takes {', '.join(known)}"
            )

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One image per (prompt, seed), each with its own generator.

        `sampling` is not used: it configures models that write chains.

        Raises:
            ValueError: an image is black, which is a failure and not a drawing to score.
        """
        pairs = list(zip(prompts, seeds, strict=True))
        samples: list[Sample] = []
        for start in range(0, len(pairs), self._batch_size):
            samples += self._draw(pairs[start : start + self._batch_size])
        return samples

    def _draw(self, block: Sequence[tuple[Prompt, int]]) -> list[Sample]:
        generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in block]
        output = self._pipe(prompt=[prompt.text for prompt, _ in block], generator=generators, **self._call)
        samples = []
        for (prompt, seed), drawn in zip(block, output.images, strict=True):
            image = drawn.convert("RGB")
            if not any(high for _, high in image.getextrema()):
                raise ValueError(
                    f"the image of {prompt.text!r} ({prompt.id}) is black: {self._why_black(output)}"
                )
            samples.append(
                Sample(prompt=prompt, chain=NO_CHAIN, image=image, tokens=NO_TOKENS, logprobs=(), seed=seed)
            )
        return samples

    def _why_black(self, output: Any) -> str:
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            return (
                "the pipeline's safety checker replaced it. Switch it off with policies.safety_checker=false"
            )
        return (
            "numbers too large for policies.dtype are the usual cause. Try policies.dtype=bfloat16 or float32"
        )


def _load(pointer: dict[str, str | None], dtype: torch.dtype) -> Any:
    source = pointer["folder"] if Path(str(pointer["folder"])).is_dir() else pointer["pipeline"]
    try:
        return diffusers().DiffusionPipeline.from_pretrained(
            source, revision=pointer["revision"], dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"the pipeline {source} cannot be loaded: {error}") from error
