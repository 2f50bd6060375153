"""The rollout engine: prompts to chains to image tokens, many samples in one batch.

The order of work is upstream's (GoT-R1 `infer.py`): sample a chain until begin-of-image or the length
limit, then draw the image tokens from the conditional row, guided by an unconditional row in which every
id but BOS and the final begin-of-image is padding. Only the cache differs: the image phase reuses the keys
and values of prompt and chain, equal prompts are computed once, images of one chain share its keys and
values, and all unconditional rows share one prefix.

Shapes: B chains, R rows (images, with guidance followed by their unconditional rows), T tokens, S slots,
V text ids, C image codes, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.types import Sampling, Tokens
from policies.janus.cache import KeyValues, RowGroup
from policies.janus.chain_ends import ChainEnds
from policies.janus.decoder import Decoder
from policies.janus.draw import ALL, Draw, Given, PerSample, Rows, Upstream
from policies.janus.projections import Projection
from policies.janus.steps import Compiled, Head, Replayed
from policies.janus.watched import OnStep, Watched

if TYPE_CHECKING:
    from transformers import JanusForConditionalGeneration


Prompt = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Ids of every sample, and their log-probs under the distribution that they were sampled from."""

    tokens: list[Tokens]
    logprobs: list[tuple[float, ...]]


@dataclass(frozen=True)
class GivenChain:
    """The ids of a chain, without a forced begin-of-image, and whether a rollout has sampled them."""

    ids: tuple[int, ...]
    is_sampled: bool


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The weights at the start of a rollout."""

    decoder: Decoder
    text_head: Head
    image_head: Head
    images_CH: Tensor  # the input embedding of every image code


@dataclass(frozen=True, kw_only=True)
class _Chains:
    ids_BT: Tensor
    logprobs_BT: Tensor
    sampled_B: Tensor  # numbers of sampled ids, without a forced begin-of-image
    forced_B: Tensor  # True where begin-of-image was forced
    cache: KeyValues  # of the sampled ids without begin-of-image

    @property
    def lengths_B(self) -> Tensor:
        """Numbers of ids, with begin-of-image."""
        return self.sampled_B + self.forced_B


@dataclass(frozen=True)
class _Written:
    lengths_B: Tensor  # of the prompts
    prompt_cache: KeyValues
    chains: _Chains


class Engine:
    """Draws samples with one model, transformers' JanusForConditionalGeneration."""

    def __init__(self, model: JanusForConditionalGeneration, *, bos: int, pad: int, boi: int) -> None:
        self._model = model
        self._embed = model.model.language_model.embed_tokens
        self._bos, self._pad, self._boi = bos, pad, boi
        self.image_tokens = model.config.vq_config.num_patches**2
        self.steps: type[Compiled | Replayed] = Replayed if self._device.type == "cuda" else Compiled
        self.on_step: OnStep | None = None
        self._kept: _Weights | None = None
        self._kept_longest = 0

    @property
    def _device(self) -> torch.device:
        return self._embed.weight.device

    @torch.no_grad()
    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> Rollouts:
        """One sample per (prompt ids, seed) pair, in order; see `Sampling.random` for how seeds are used."""
        weights = self._weights(max(map(len, prompts)) + sampling.max_chain_tokens + self.image_tokens)
        rollouts = Rollouts(tokens=[], logprobs=[])
        # no autocast: the weights already have the products' number format
        with torch.autocast(self._device.type, enabled=False):
            for rows, images in _calls(list(zip(prompts, seeds, strict=True)), sampling):
                draws = self._draws(seeds[rows], sampling)
                self._draw(prompts[rows][::images], draws, images, sampling, weights, rollouts)
        return rollouts

    @torch.no_grad()
    def write(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> Rollouts:
        """The chains of `rollout` for the same arguments, without image ids."""
        weights = self._weights(max(map(len, prompts)) + sampling.max_chain_tokens + self.image_tokens)
        rollouts = Rollouts(tokens=[], logprobs=[])
        with torch.autocast(self._device.type, enabled=False):
            for rows, images in _calls(list(zip(prompts, seeds, strict=True)), sampling):
                chains_of = prompts[rows][::images]
                written = self._write(chains_of, self._draws(seeds[rows], sampling), sampling, weights)
                no_ids = torch.empty((len(chains_of) * images, 0))
                _collect(chains_of, written.chains, no_ids, no_ids, self._boi, rollouts)
        return rollouts

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[Prompt],
        chains: Sequence[GivenChain],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> Rollouts:
        """One sample per (prompt ids, chain, seed), in order, from chains that are given instead of sampled.

        A chain without begin-of-image has `max_chain_tokens` ids. Equal neighbors share one chain's keys and
        values.
        """
        weights = self._weights(max(map(len, prompts)) + sampling.max_chain_tokens + self.image_tokens)
        rollouts = Rollouts(tokens=[], logprobs=[])
        drawings = list(zip(prompts, chains, strict=True))
        with torch.autocast(self._device.type, enabled=False):
            for rows, images in _calls(list(zip(drawings, seeds, strict=True)), sampling):
                if sampling.random == "per_sample":
                    images = math.gcd(*_runs(drawings))
                drawn = drawings[rows][::images]
                draws = Given(
                    [chain.ids for _, chain in drawn],
                    self._draws(seeds[rows], sampling),
                    sampling.text_temperature,
                    skip=sampling.random == "upstream" and drawn[0][1].is_sampled,
                    device=self._device,
                )
                self._draw([ids for ids, _ in drawn], draws, images, sampling, weights, rollouts)
        return rollouts

    def _draws(self, seeds: Sequence[int], sampling: Sampling) -> Draw:
        """The random draws of one call of `_draw`."""
        draws: Draw
        if sampling.random == "per_sample":
            draws = PerSample(seeds, sampling, self.image_tokens, self._device)
        else:
            draws = Upstream(seeds[0], sampling, self._device)
        if self.on_step is None:
            return draws
        return Watched(draws, self.on_step, chain=sampling.max_chain_tokens, image=self.image_tokens)

    @torch.no_grad()
    def keep_weights(self) -> None:
        """Lays out the weights now and for all rollouts: for a model whose weights will not change."""
        longest = self._model.config.text_config.max_position_embeddings
        self._kept, self._kept_longest = self._lay_out(longest), longest

    def _weights(self, longest: int) -> _Weights:
        if self._kept is not None and longest <= self._kept_longest:
            return self._kept
        return self._lay_out(longest)

    def _lay_out(self, longest: int) -> _Weights:
        model, embedding, device_type = self._model, self._embed.weight, self._device.type
        autocast = torch.is_autocast_enabled(device_type)
        dtype = torch.get_autocast_dtype(device_type) if autocast else embedding.dtype
        head = model.model.generation_head
        inner, outer = Projection([head.proj_out], dtype), Projection([head.vision_head], dtype)
        codes = torch.arange(model.config.vq_config.num_embeddings, device=self._device)
        return _Weights(
            text_head=Projection([model.lm_head], dtype),  # the largest, so it comes before the layers
            decoder=Decoder(model.model.language_model, dtype, longest),
            image_head=lambda hidden: outer(head.activation_fn(inner(hidden))),
            images_CH=model.prepare_embeddings_for_image_generation(codes).to(embedding.dtype),
        )

    def _draw(
        self,
        prompts: Sequence[Prompt],
        draws: Draw,
        images: int,
        sampling: Sampling,
        weights: _Weights,
        rollouts: Rollouts,
    ) -> None:
        """Adds a chain for every prompt, and `images` images for every chain, to `rollouts`."""
        written = self._write(prompts, draws, sampling, weights)
        chains, prompt_cache = written.chains, written.prompt_cache
        lengths_R = (written.lengths_B + chains.lengths_B).repeat_interleave(images)
        prefixes = [_repeat_rows(cache, images) for cache in (prompt_cache, chains.cache)]
        tail = weights.decoder.tail(len(lengths_R), self.image_tokens)
        groups = [RowGroup(len(lengths_R), prefixes, tail)]
        if sampling.guidance > 1:
            groups.append(self._unconditional(lengths_R, weights.decoder))
        ids_RT, logprobs_RT = self._draw_images(groups, lengths_R, draws, weights)
        _collect(prompts, chains, ids_RT, logprobs_RT, self._boi, rollouts)

    def _write(
        self, prompts: Sequence[Prompt], draws: Draw, sampling: Sampling, weights: _Weights
    ) -> _Written:
        """Writes a chain for every prompt."""
        lengths_B = torch.tensor([len(ids) for ids in prompts], device=self._device)
        logits_BV, cache = self._prefill(prompts, weights)
        prompt_cache = cache.seen(lengths_B)
        chains = self._draw_chains(logits_BV, prompt_cache, lengths_B, draws, sampling, weights)
        return _Written(lengths_B, prompt_cache, chains)

    def _prefill(self, prompts: Sequence[Prompt], weights: _Weights) -> tuple[Tensor, KeyValues]:
        """Logits [B, V] after each prompt, and the prompts' keys and values.

        Runs of equal prompts are computed once.
        """
        distinct = list(prompts)[:: math.gcd(*_runs(prompts))]
        width = max(map(len, distinct))
        padded = [ids + (self._pad,) * (width - len(ids)) for ids in distinct]
        ids_PT = torch.tensor(padded, device=self._device)
        hidden_PTH, cache = weights.decoder.prefill(self._embed(ids_PT))
        last_P = torch.tensor([len(ids) - 1 for ids in distinct], device=self._device)
        logits_PV = weights.text_head(hidden_PTH[torch.arange(len(distinct), device=self._device), last_P])
        logits_BV = logits_PV.repeat_interleave(len(prompts) // len(distinct), 0)
        return logits_BV, cache

    def _draw_chains(
        self,
        logits_BV: Tensor,
        prompt_cache: KeyValues,
        lengths_B: Tensor,
        draws: Draw,
        sampling: Sampling,
        weights: _Weights,
    ) -> _Chains:
        """Samples every row until its begin-of-image.

        On a GPU, rows that have ended stay in the batch; their later slots are hidden afterwards.
        """
        batch, limit = len(lengths_B), sampling.max_chain_tokens
        tail = weights.decoder.tail(batch, limit)
        group = RowGroup(batch, [prompt_cache], tail)
        advance = self.steps(weights.decoder, weights.text_head, [group], lengths_B)
        ids_BT = torch.full((batch, limit), self._pad, device=self._device)
        logprobs_BT = torch.zeros((batch, limit), device=self._device)
        alive_BT = torch.zeros((batch, limit), dtype=torch.bool, device=self._device)
        ended_B = torch.zeros(batch, dtype=torch.bool, device=self._device)
        ends = ChainEnds(wait=sampling.random == "upstream")
        rows: Rows = ALL
        for step in range(limit):
            drawn_R, logprobs_BT[rows, step] = draws.chain(logits_BV, step, rows)
            alive_BT[rows, step] = ~ended_B[rows]
            ids_BT[rows, step] = drawn_R.masked_fill(ended_B[rows], self._pad)
            ended_B[rows] |= drawn_R == self._boi
            if ends.all(ended_B):
                break
            rows = advance.unended(ended_B)
            logits_BV = advance(self._embed(ids_BT[rows, step]), step, rows)
        sampled_B = alive_BT.sum(1)
        filled_B = sampled_B - ended_B.long()  # begin-of-image is the first input of the image phase
        return _Chains(
            ids_BT=ids_BT,
            logprobs_BT=logprobs_BT,
            sampled_B=sampled_B,
            forced_B=~ended_B,
            cache=tail.seen(filled_B),
        )

    def _unconditional(self, lengths_R: Tensor, decoder: Decoder) -> RowGroup:
        """Rows of [BOS, pad, pad, ...], as long as the conditional rows without begin-of-image.

        All rows share one copy of the longest.
        """
        longest = int(lengths_R.max()) - 1
        ids_1T = torch.full((1, longest), self._pad, device=self._device)
        ids_1T[0, 0] = self._bos
        _, cache = decoder.prefill(self._embed(ids_1T))
        return RowGroup(
            len(lengths_R), [cache.seen(lengths_R - 1)], decoder.tail(len(lengths_R), self.image_tokens)
        )

    def _draw_images(
        self, groups: Sequence[RowGroup], lengths_R: Tensor, draws: Draw, weights: _Weights
    ) -> tuple[Tensor, Tensor]:
        """Image ids and their log-probs; `lengths_R` counts prompt and chain with begin-of-image."""
        positions = (lengths_R - 1).repeat(len(groups))
        advance = self.steps(weights.decoder, weights.image_head, groups, positions)
        ids_RT = torch.empty((len(lengths_R), self.image_tokens), dtype=torch.long, device=self._device)
        logprobs_RT = torch.empty(ids_RT.shape, device=self._device)
        embeds_RH = self._embed(torch.full_like(lengths_R, self._boi))
        for step in range(self.image_tokens):
            logits = advance(embeds_RH.repeat(len(groups), 1), step)
            ids_RT[:, step], logprobs_RT[:, step] = draws.image(logits, step)
            embeds_RH = weights.images_CH[ids_RT[:, step]]
        return ids_RT, logprobs_RT


def _calls(keys: Sequence[object], sampling: Sampling) -> list[tuple[slice, int]]:
    """The rows that are drawn together, and how many of them share a chain.

    Upstream's script is called once for every run of equal (prompt, seed) pairs.
    """
    if sampling.random == "per_sample":
        return [(slice(0, len(keys)), 1)]
    calls, start = [], 0
    for length in _runs(keys):
        calls.append((slice(start, start + length), length))
        start += length
    return calls


def _runs(keys: Sequence[object]) -> list[int]:
    """The lengths of the runs of equal neighbors."""
    return [len(list(run)) for _, run in groupby(keys)]


def _repeat_rows(cache: KeyValues, images: int) -> KeyValues:
    """The cache as seen from `images` rows for each of its rows; keys and values are not copied."""
    assert cache.filled_R is not None
    return cache.seen(cache.filled_R.repeat_interleave(images))


def _collect(
    prompts: Sequence[Prompt],
    chains: _Chains,
    ids_RT: Tensor,
    logprobs_RT: Tensor,
    boi: int,
    rollouts: Rollouts,
) -> None:
    """Adds the drawn ids and log-probs to `rollouts`, as plain values."""
    chain_ids, chain_logprobs = chains.ids_BT.tolist(), chains.logprobs_BT.tolist()
    sampled_counts, forced_ends = chains.sampled_B.tolist(), chains.forced_B.tolist()
    image_ids, image_logprobs = ids_RT.tolist(), logprobs_RT.tolist()
    images = len(image_ids) // len(prompts)
    for row, image in enumerate(image_ids):
        index = row // images
        sampled, forced = sampled_counts[index], forced_ends[index]
        chain = (*chain_ids[index][:sampled], *(boi,) * forced)
        logprobs = (*chain_logprobs[index][:sampled], *(0.0,) * forced, *image_logprobs[row])
        prompt = tuple(prompts[index])
        rollouts.tokens.append(Tokens(prompt=prompt, chain=chain, image=tuple(image), forced_end=forced))
        rollouts.logprobs.append(logprobs)
