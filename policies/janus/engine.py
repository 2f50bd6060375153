"""The rollout engine: prompts to chains to image tokens, many samples in one batch.

The order of work is upstream's (GoT-R1 `infer.py`): sample a chain until begin-of-image or the length
limit, then draw the image tokens from the conditional row, guided by an unconditional row in which every
id but BOS and the final begin-of-image is padding. What differs is only what is kept: chain keys and
values stay for the image phase, the unconditional prefix is computed once for all rows.

Shapes: B samples, V text ids, C image codes, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.protocols import Sampling
from harness.types import Tokens
from policies.janus.decoder import Cache, Decoder
from policies.janus.draw import Draw, draw


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """What the engine drew: ids of every sample and the log-probs under the distribution sampled from."""

    tokens: list[Tokens]
    logprobs: list[tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class _Chains:
    ids_BT: Tensor
    logprobs_BT: Tensor
    lengths_B: Tensor  # with begin-of-image
    forced_B: Tensor


class Engine:
    """Bound to one model; `model` is transformers' JanusForConditionalGeneration."""

    def __init__(self, model: torch.nn.Module, *, bos: int, pad: int, boi: int) -> None:
        self._model = model
        self._decoder = Decoder(model.model.language_model)
        self._embed = model.model.language_model.embed_tokens
        self._bos, self._pad, self._boi = bos, pad, boi
        self.image_tokens = model.config.vq_config.num_patches**2

    @torch.no_grad()
    def rollout(self, prompts: Sequence[tuple[int, ...]], seeds: Sequence[int], sampling: Sampling) -> Rollouts:
        """One sample per (prompt ids, seed) pair."""
        device = self._embed.weight.device
        draws = draw(seeds, sampling, self.image_tokens, device)
        batch, width = len(prompts), max(map(len, prompts))
        guided = sampling.guidance > 1
        slots = width + sampling.max_chain_tokens + self.image_tokens
        cache = Cache(self._decoder, batch * (2 if guided else 1), slots, self._embed.weight)
        lengths_B = torch.tensor([len(ids) for ids in prompts], device=device)
        hidden_BH = self._prefill(prompts, lengths_B, width, cache)
        chains = self._chains(hidden_BH, lengths_B, cache, draws, sampling)
        if guided:
            self._unconditional_prefix(lengths_B + chains.lengths_B, cache, batch)
        images_BT, image_logprobs_BT = self._images(lengths_B + chains.lengths_B, cache, draws, sampling)
        return _collect(prompts, chains, images_BT, image_logprobs_BT, self._boi)

    def _prefill(self, prompts: Sequence[tuple[int, ...]], lengths_B: Tensor, width: int, cache: Cache) -> Tensor:
        rows = [(self._pad,) * (width - len(ids)) + ids for ids in prompts]
        ids_BT = torch.tensor(rows, device=lengths_B.device)
        positions_BT = torch.arange(width, device=lengths_B.device)[None] - (width - lengths_B[:, None])
        cache.hide(positions_BT < 0)
        return self._decoder.extend(self._embed(ids_BT), positions_BT.clamp(min=0), cache, len(prompts))[:, -1]

    def _chains(self, hidden_BH: Tensor, lengths_B: Tensor, cache: Cache, draws: Draw, sampling: Sampling) -> _Chains:
        """Every row until its begin-of-image; rows that have ended are carried along masked."""
        batch = len(hidden_BH)
        ended_B = torch.zeros(batch, dtype=torch.bool, device=hidden_BH.device)
        ids, logprobs, alive = [], [], []
        for step in range(sampling.max_chain_tokens):
            logits_BV = self._model.lm_head(hidden_BH)
            ids_B = torch.where(ended_B, self._pad, draws.chain(logits_BV, step))
            ids.append(ids_B)
            logprobs.append(chosen_logprob(logits_BV, ids_B, sampling.text_temperature))
            alive.append(~ended_B)
            ended_B = ended_B | (ids_B == self._boi)
            if ended_B.all():
                break
            cache.hide(ended_B[:, None], slot=cache.used)
            hidden_BH = self._decoder.extend(self._embed(ids_B)[:, None], lengths_B[:, None] + step, cache, batch)[:, 0]
        alive_BT = torch.stack(alive, 1)
        return _Chains(
            ids_BT=torch.stack(ids, 1),
            logprobs_BT=torch.stack(logprobs, 1) * alive_BT,
            lengths_B=alive_BT.sum(1) + (~ended_B),
            forced_B=~ended_B,
        )

    def _unconditional_prefix(self, lengths_B: Tensor, cache: Cache, batch: int) -> None:
        """Keys and values of [BOS, pad, pad, ...] once, for every row as long as its own sequence needs."""
        longest = int(lengths_B.max()) - 1
        ids = torch.full((1, longest), self._pad, device=lengths_B.device)
        ids[0, 0] = self._bos
        prefix = Cache(self._decoder, 1, longest, self._embed.weight)
        self._decoder.extend(self._embed(ids), torch.arange(longest, device=ids.device)[None], prefix, 1)
        heads = self._decoder.kv_heads
        rows = slice(batch * heads, 2 * batch * heads)
        for ours, once in ((cache.keys, prefix.keys), (cache.values, prefix.values)):
            ours[:, rows, :longest] = once.repeat(1, batch, 1, 1)
        slots = torch.arange(cache.used, device=lengths_B.device)[None]
        cache.hide(slots >= lengths_B[:, None] - 1, row=batch)

    def _images(self, lengths_B: Tensor, cache: Cache, draws: Draw, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Image ids and their log-probs; `lengths_B` counts prompt and chain with begin-of-image."""
        guided = sampling.guidance > 1
        copies = 2 if guided else 1
        table_CH = self._model.prepare_embeddings_for_image_generation(
            torch.arange(self._model.config.vq_config.num_embeddings, device=lengths_B.device)
        ).to(self._embed.weight.dtype)  # under autocast too: the residual stream keeps its dtype
        positions_B = (lengths_B - 1).repeat(copies)
        embeds_BH = self._embed(torch.full_like(positions_B, self._boi))
        ids, logprobs = [], []
        for step in range(self.image_tokens):
            hidden = self._decoder.extend(embeds_BH[:, None], positions_B[:, None] + step, cache, len(positions_B))[:, 0]
            logits_BC = guide(self._model.model.generation_head(hidden), sampling.guidance)
            ids_B = draws.image(logits_BC, step)
            ids.append(ids_B)
            logprobs.append(chosen_logprob(logits_BC, ids_B, sampling.image_temperature))
            embeds_BH = table_CH[ids_B.repeat(copies)]
        return torch.stack(ids, 1), torch.stack(logprobs, 1)


def guide(logits: Tensor, guidance: float) -> Tensor:
    """Guided logits of conditional rows stacked on unconditional ones: u + w (c - u); as they are for w <= 1."""
    if guidance <= 1:
        return logits
    conditional, unconditional = logits.chunk(2)
    return unconditional + guidance * (conditional - unconditional)


def chosen_logprob(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Log-prob of `ids` under softmax(logits / temperature) in float32; greedy (0) is scored at temperature 1."""
    scaled = logits.float() / (temperature or 1.0)
    return scaled.gather(-1, ids[..., None]).squeeze(-1) - scaled.logsumexp(-1)


def _collect(prompts: Sequence[tuple[int, ...]], chains: _Chains, images_BT: Tensor, image_logprobs_BT: Tensor, boi: int) -> Rollouts:
    columns = (chains.ids_BT, chains.logprobs_BT, chains.lengths_B, chains.forced_B, images_BT, image_logprobs_BT)
    tokens, logprobs = [], []
    for prompt, *row in zip(prompts, *(column.tolist() for column in columns), strict=True):
        ids, chain_logprobs, length, forced, image, image_logprobs = row
        sampled = length - forced
        end = (boi,) * forced
        tokens.append(Tokens(prompt=tuple(prompt), chain=(*ids[:sampled], *end), image=tuple(image), forced_end=forced))
        logprobs.append((*chain_logprobs[:sampled], *(0.0 for _ in end), *image_logprobs))
    return Rollouts(tokens=tokens, logprobs=logprobs)
