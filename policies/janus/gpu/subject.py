"""Janus models of random weights that are made on the device, and the work that they are measured with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import JanusForConditionalGeneration

from harness.types import Sampling
from policies.janus import floor, original, real_size, text
from policies.janus.real_size import Size

TEXT_STD, IMAGE_STD = 6.0, 4.0  # of the heads' weights, times the root of their width: wide logits


@dataclass(frozen=True, kw_only=True)
class Load:
    """A rollout to measure: `rows` samples, `group` of each prompt, of so many tokens, with guidance."""

    rows: int
    group: int
    prompt: int
    chain: int
    guidance: float = 5.0

    @property
    def sampling(self) -> Sampling:
        return Sampling(guidance=self.guidance, max_chain_tokens=self.chain)

    @property
    def seeds(self) -> range:
        return range(self.rows)

    def prompts(self, size: Size, *, ragged: bool = False) -> list[tuple[int, ...]]:
        """Random ids behind BOS; `ragged` prompts have different lengths."""
        generator = torch.Generator().manual_seed(self.rows)
        found = []
        for number in range(self.rows // self.group):
            length = self.prompt - (number % 3 if ragged else 0)
            ids = torch.randint(size.base, (length - 1,), generator=generator).tolist()
            found += [(special(size)["bos"], *ids)] * self.group
        return found

    def floor_work(self, size: Size) -> floor.Work:
        """This rollout for `policies.janus.floor`."""
        return floor.Work(
            hidden=size.hidden,
            inner=size.inner,
            layers=size.layers,
            vocabulary=size.vocabulary,
            codes=size.codes,
            samples=self.rows,
            group=self.group,
            prompt=self.prompt,
            chain=self.chain,
            image=size.side**2,
        )


def special(size: Size) -> dict[str, int]:
    """The ids of BOS, padding and begin-of-image, as `Engine` takes them."""
    places = {"bos": real_size.SPECIAL_AT[text.BOS], "pad": size.pad, "boi": real_size.SPECIAL_AT[text.END]}
    return {name: size.base + place for name, place in places.items()}


@torch.no_grad()
def model(
    size: Size, dtype: torch.dtype, device: str, *, ends: bool = False
) -> JanusForConditionalGeneration:
    """A model of random weights, made on the device; the image tokenizer is in float32.

    Args:
        size: of the model.
        dtype: of the other weights.
        device: the torch device.
        ends: whether chains may end before their limit; otherwise begin-of-image is nearly impossible.
    """
    torch.manual_seed(0)
    config = original.config(real_size.published_config(size, dtype))
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            made = JanusForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    made.model.vqmodel.float()
    head = made.model.generation_head
    for layer, std in ((made.lm_head, TEXT_STD), (head.proj_out, 1.0), (head.vision_head, IMAGE_STD)):
        layer.weight.normal_(std=std / size.hidden**0.5)
    if not ends:
        made.lm_head.weight[special(size)["boi"]] = 0
    return made.eval()


@contextmanager
def exact() -> Iterator[None]:
    """Float32 products and convolutions without TF32 while the block runs."""
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    matmul.allow_tf32 = convolutions.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, convolutions.allow_tf32 = before


def differing(one: Sequence[object], other: Sequence[object]) -> int:
    """The number of positions at which two sequences of equal length differ."""
    return sum(first != second for first, second in zip(one, other, strict=True))
