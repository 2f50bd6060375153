"""The rollout engine: prompts to chains to image tokens, many samples in one batch.

The order of work is upstream's (GoT-R1 `infer.py`): sample a chain until begin-of-image or the length
limit, then draw the image tokens from the conditional row, guided by an unconditional row in which every
id but BOS and the final begin-of-image is padding. What differs is only what is kept: the keys and values
of prompt and chain stay for the image phase, equal prompts are computed once, the images of one chain share
it, and all unconditional rows share one prefix.

Shapes: B chains, R rows (images, with guidance followed by their unconditional rows), T tokens, S slots,
V text ids, C image codes, H hidden.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.types import Sampling, Tokens
from policies.janus.cache import Part, Stream, mask
from policies.janus.decoder import Decoder
from policies.janus.draw import Draw, PerSample, Upstream
from policies.janus.projections import Projection
from policies.janus.steps import Head, Replayed, Sliced

if TYPE_CHECKING:
    from transformers import JanusForConditionalGeneration

AHEAD = 4  # steps that the host may be ahead of a GPU when chains end

Prompt = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """What the engine drew: ids of every sample and the log-probs under the distribution sampled from."""

    tokens: list[Tokens]
    logprobs: list[tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The model as it is at the start of a rollout."""

    decoder: Decoder
    text_head: Head
    image_head: Head
    images_CH: Tensor  # the input embedding of every image code


@dataclass(frozen=True, kw_only=True)
class _Chains:
    ids_BT: Tensor
    logprobs_BT: Tensor
    sampled_B: Tensor  # ids sampled; a forced begin-of-image is not among them
    forced_B: Tensor
    part: Part  # of the sampled ids but begin-of-image

    @property
    def lengths_B(self) -> Tensor:
        """With begin-of-image."""
        return self.sampled_B + self.forced_B


class Engine:
    """Bound to one model; `model` is transformers' JanusForConditionalGeneration."""

    def __init__(self, model: JanusForConditionalGeneration, *, bos: int, pad: int, boi: int) -> None:
        self._model = model
        self._embed = model.model.language_model.embed_tokens
        self._bos, self._pad, self._boi = bos, pad, boi
        self.image_tokens = model.config.vq_config.num_patches**2
        self.steps: type[Sliced | Replayed] = Replayed if self._device.type == "cuda" else Sliced

    @property
    def _device(self) -> torch.device:
        return self._embed.weight.device

    @torch.no_grad()
    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> Rollouts:
        """One sample per (prompt ids, seed) pair, in order; see `Sampling` for what `random` makes of them."""
        weights = self._weights(max(map(len, prompts)) + sampling.max_chain_tokens + self.image_tokens)
        drawn = Rollouts(tokens=[], logprobs=[])
        with torch.autocast(
            self._device.type, enabled=False
        ):  # the weights are in the products' format already
            if sampling.random == "per_sample":
                draws: Draw = PerSample(seeds, sampling, self.image_tokens, self._device)
                self._draw(prompts, draws, 1, sampling, weights, drawn)
            else:
                for (prompt, seed), run in groupby(zip(prompts, seeds, strict=True)):
                    draws = Upstream(seed, sampling, self._device)
                    self._draw([prompt], draws, len(list(run)), sampling, weights, drawn)
        return drawn

    def _weights(self, longest: int) -> _Weights:
        model, like, kind = self._model, self._embed.weight, self._device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype
        head = model.model.generation_head
        inner, outer = Projection([head.proj_out], dtype), Projection([head.vision_head], dtype)
        codes = torch.arange(model.config.vq_config.num_embeddings, device=self._device)
        return _Weights(
            decoder=Decoder(model.model.language_model, dtype, longest),
            text_head=Projection([model.lm_head], dtype),
            image_head=lambda hidden: outer(head.activation_fn(inner(hidden))),
            images_CH=model.prepare_embeddings_for_image_generation(codes).to(like.dtype),
        )

    def _draw(
        self,
        prompts: Sequence[Prompt],
        draws: Draw,
        images: int,
        sampling: Sampling,
        weights: _Weights,
        drawn: Rollouts,
    ) -> None:
        """A chain for every prompt and `images` images for every chain, added to `drawn`."""
        lengths_B = torch.tensor([len(ids) for ids in prompts], device=self._device)
        logits_BV, prompt = self._read(prompts, weights)
        chains = self._chains(logits_BV, prompt, lengths_B, draws, sampling, weights)
        lengths_B = lengths_B + chains.lengths_B
        lengths_R = lengths_B.repeat_interleave(images)
        parts = [_repeated(part, images) for part in (prompt, chains.part) if part.slots]
        streams = [Stream(len(lengths_R), parts, weights.decoder.tail(len(lengths_R), self.image_tokens))]
        if sampling.guidance > 1:
            streams.append(self._unconditional(lengths_R, weights.decoder))
        ids_RT, logprobs_RT = self._images(streams, lengths_R, draws, weights)
        _collect(prompts, chains, ids_RT, logprobs_RT, self._boi, drawn)

    def _read(self, prompts: Sequence[Prompt], weights: _Weights) -> tuple[Tensor, Part]:
        """Logits [B, V] after each prompt, and the prompts' keys and values; runs of equal prompts are read once."""
        runs = [len(list(run)) for _, run in groupby(prompts)]
        distinct = list(prompts)[:: math.gcd(*runs)]
        width = max(map(len, distinct))
        ids_PT = torch.tensor(
            [ids + (self._pad,) * (width - len(ids)) for ids in distinct], device=self._device
        )
        hidden_PTH, part = weights.decoder.prefill(self._embed(ids_PT))
        last_P = torch.tensor([len(ids) - 1 for ids in distinct], device=self._device)
        logits_PV = weights.text_head(hidden_PTH[torch.arange(len(distinct), device=self._device), last_P])
        lengths_B = torch.tensor([len(ids) for ids in prompts])
        part = Part(part.keys, part.values, self._beyond(lengths_B, width))
        return logits_PV.repeat_interleave(len(prompts) // len(distinct), 0), part

    def _beyond(self, filled_R: Tensor, slots: int) -> Tensor | None:
        """Hides the slots that a row has not filled."""
        hidden_RS = torch.arange(slots, device=filled_R.device) >= filled_R[:, None]
        return mask(hidden_RS).to(self._device) if hidden_RS.any() else None

    def _chains(
        self,
        logits_BV: Tensor,
        prompt: Part,
        lengths_B: Tensor,
        draws: Draw,
        sampling: Sampling,
        weights: _Weights,
    ) -> _Chains:
        """Every row until its begin-of-image; rows that have ended are carried along and their slots hidden afterwards."""
        batch, limit = len(lengths_B), sampling.max_chain_tokens
        tail = weights.decoder.tail(batch, limit)
        advance = self.steps(weights.decoder, weights.text_head, [Stream(batch, [prompt], tail)], lengths_B)
        ids_BT = torch.full((batch, limit), self._pad, device=self._device)
        logprobs_BT = torch.zeros((batch, limit), device=self._device)
        alive_BT = torch.zeros((batch, limit), dtype=torch.bool, device=self._device)
        ended_B = torch.zeros(batch, dtype=torch.bool, device=self._device)
        ends = _Ends(at_once=sampling.random == "upstream")
        for step in range(limit):
            drawn_B, logprobs_BT[:, step] = draws.chain(logits_BV, step)
            alive_BT[:, step] = ~ended_B
            ids_BT[:, step] = torch.where(ended_B, self._pad, drawn_B)
            ended_B = ended_B | (drawn_B == self._boi)
            if ends.all(ended_B):
                break
            logits_BV = advance(self._embed(ids_BT[:, step]), step)
        sampled_B = alive_BT.sum(1)
        filled_B = sampled_B - ended_B.long()  # begin-of-image is read with the image
        used = int(filled_B.max()) if limit else 0
        part = tail.until(used)
        part.mask_R1S = self._beyond(filled_B, used)
        return _Chains(
            ids_BT=ids_BT, logprobs_BT=logprobs_BT, sampled_B=sampled_B, forced_B=~ended_B, part=part
        )

    def _unconditional(self, lengths_R: Tensor, decoder: Decoder) -> Stream:
        """Rows of [BOS, pad, pad, ...], as long as the conditional ones without begin-of-image: one copy for all."""
        longest = int(lengths_R.max()) - 1
        ids_1T = torch.full((1, longest), self._pad, device=self._device)
        ids_1T[0, 0] = self._bos
        _, prefix = decoder.prefill(self._embed(ids_1T))
        part = Part(prefix.keys, prefix.values, self._beyond(lengths_R - 1, longest))
        return Stream(len(lengths_R), [part], decoder.tail(len(lengths_R), self.image_tokens))

    def _images(
        self, streams: Sequence[Stream], lengths_R: Tensor, draws: Draw, weights: _Weights
    ) -> tuple[Tensor, Tensor]:
        """Image ids and their log-probs; `lengths_R` counts prompt and chain with begin-of-image."""
        advance = self.steps(
            weights.decoder, weights.image_head, streams, (lengths_R - 1).repeat(len(streams))
        )
        ids_RT = torch.empty((len(lengths_R), self.image_tokens), dtype=torch.long, device=self._device)
        logprobs_RT = torch.empty(ids_RT.shape, device=self._device)
        embeds_RH = self._embed(torch.full_like(lengths_R, self._boi))
        for step in range(self.image_tokens):
            logits = advance(embeds_RH.repeat(len(streams), 1), step)
            ids_RT[:, step], logprobs_RT[:, step] = draws.image(logits, step)
            embeds_RH = weights.images_CH[ids_RT[:, step]]
        return ids_RT, logprobs_RT


class _Ends:
    """Whether all chains have ended; a GPU is not waited for, it tells some steps later unless `at_once`."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once
        self._asked: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def all(self, ended_B: Tensor) -> bool:
        if self._at_once or not ended_B.is_cuda:
            return bool(ended_B.all())
        answer = torch.empty((), dtype=torch.bool, pin_memory=True)
        answer.copy_(ended_B.all(), non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._asked.append((answer, event))
        if len(self._asked) > AHEAD:
            self._asked[0][1].synchronize()
        while self._asked and self._asked[0][1].query():
            if self._asked.popleft()[0]:
                return True
        return False


def _repeated(part: Part, images: int) -> Part:
    """A part as the images of its rows see it."""
    return Part(
        part.keys, part.values, None if part.mask_R1S is None else part.mask_R1S.repeat_interleave(images, 0)
    )


def _collect(
    prompts: Sequence[Prompt], chains: _Chains, ids_RT: Tensor, logprobs_RT: Tensor, boi: int, drawn: Rollouts
) -> None:
    images = len(ids_RT) // len(prompts)
    columns = [
        column.repeat_interleave(images, 0)
        for column in (chains.ids_BT, chains.logprobs_BT, chains.sampled_B, chains.forced_B)
    ]
    rows = zip(*(column.tolist() for column in (*columns, ids_RT, logprobs_RT)), strict=True)
    for index, (ids, chain_logprobs, sampled, forced, image, image_logprobs) in enumerate(rows):
        prompt = tuple(prompts[index // images])
        chain = (*ids[:sampled], *(boi,) * forced)
        drawn.tokens.append(Tokens(prompt=prompt, chain=chain, image=tuple(image), forced_end=forced))
        drawn.logprobs.append((*chain_logprobs[:sampled], *(0.0,) * forced, *image_logprobs))
