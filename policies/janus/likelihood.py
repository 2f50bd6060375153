"""Teacher-forced log-probs of chains and images, for SFT and GRPO, with gradient where enabled.

The decoder layers are called as transformers' own modules, so that LoRA, recomputation and what wraps
modules (FSDP) apply. Text positions go through lm_head and image positions through generation_head only.
Shapes: B rows, T ids of chain then image, S slots of the decoder's input (`policies.janus.packing`),
K rows of one distribution (conditional, unconditional), N positions scored, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.types import Sampling, TokenLogprobs, Tokens
from policies.janus import attention, heads, packing
from policies.janus.packing import Layout

if TYPE_CHECKING:
    from transformers import JanusForConditionalGeneration


class Likelihood:
    """Bound to one model; scores what the engine draws.

    Args:
        model: transformers' JanusForConditionalGeneration; the attention of its language model is set here.
        bos: id that begins every sequence.
        pad: id of erased tokens.
        recompute: keep only the layers' inputs for the backward pass and run each layer again there: a
            third more time for activations of one layer instead of all.
        pack: tokens in a row of the decoder's input, which several sequences then share; None = one to a row.
    """

    def __init__(
        self,
        model: JanusForConditionalGeneration,
        *,
        bos: int,
        pad: int,
        recompute: bool = False,
        pack: int | None = None,
    ) -> None:
        self._model = model
        self._decoder = model.model.language_model
        attention.use(self._decoder, self._device)
        self._bos, self._pad = bos, pad
        self._recompute, self._pack = recompute, pack

    @property
    def _device(self) -> torch.device:
        return self._decoder.embed_tokens.weight.device

    def logprobs(
        self, tokens: Sequence[Tokens], sampling: Sampling, unconditional: Sequence[bool]
    ) -> TokenLogprobs:
        """Log-probs under `sampling`; rows marked `unconditional` are erased and score their image ids only.

        Raises:
            ValueError: a row is longer than `pack`.
        """
        erased = list(unconditional) or [False] * len(tokens)
        rows = [self._erase(row) if gone else row for row, gone in zip(tokens, erased, strict=True)]
        if sampling.guidance > 1:
            rows = [*rows, *(self._erase(row) for row in tokens)]
        lengths = [
            len(row.prompt) + len(row.chain) + len(row.image) - 1 for row in rows
        ]  # the last id is never an input
        layout = (
            packing.one_to_a_row(lengths) if self._pack is None else packing.first_fit(lengths, self._pack)
        )
        states_SH = self._states(self._inputs(rows, layout), layout)
        actions = [
            0 if gone else len(row.chain) - row.forced_end for row, gone in zip(tokens, erased, strict=True)
        ]
        action_BT, image_BT = _masks(tokens, actions, self._device)
        values_BT = torch.zeros(action_BT.shape, device=self._device)
        if any(actions):
            values_BT = values_BT.masked_scatter(
                action_BT & ~image_BT, self._text(states_SH, tokens, actions, layout, sampling)
            )
        return TokenLogprobs(
            values_BT.masked_scatter(image_BT, self._image(states_SH, rows, layout, sampling)),
            action_BT,
            image_BT,
        )

    def _erase(self, row: Tokens) -> Tokens:
        """The unconditional row: every id but BOS and the final begin-of-image is padding."""
        inner = len(row.prompt) + len(row.chain) - 2
        return Tokens(prompt=(self._bos,), chain=(*(self._pad,) * inner, row.chain[-1]), image=row.image)

    def _inputs(self, rows: Sequence[Tokens], layout: Layout) -> Tensor:
        """[S, H] embeddings at their slots, 0 at padding."""
        texts = [row.prompt + row.chain for row in rows]
        text_NH = self._decoder.embed_tokens(
            torch.tensor([id for text in texts for id in text], device=self._device)
        )
        drawn = torch.tensor([row.image[:-1] for row in rows], device=self._device)
        image_NH = self._model.prepare_embeddings_for_image_generation(drawn).flatten(0, 1)
        text_slots = torch.cat([layout.slots(index, 0, len(text)) for index, text in enumerate(texts)])
        image_slots = torch.cat(
            [layout.slots(index, len(text), drawn.shape[1]) for index, text in enumerate(texts)]
        )
        inputs_SH = text_NH.new_zeros(layout.rows * layout.width, text_NH.shape[-1])
        inputs_SH.index_copy_(0, text_slots.to(self._device), text_NH)
        # under autocast too: the residual stream keeps its dtype
        return inputs_SH.index_copy_(0, image_slots.to(self._device), image_NH.to(text_NH.dtype))

    def _states(self, inputs_SH: Tensor, layout: Layout) -> Tensor:
        """[S, H] states after the final norm."""
        hidden = inputs_SH.view(layout.rows, layout.width, -1)
        given = {
            "attention_mask": attention.mask(self._decoder, layout, hidden),
            "position_embeddings": self._decoder.rotary_emb(hidden, layout.positions(self._device)),
        }
        for layer in self._decoder.layers:
            if self._recompute and torch.is_grad_enabled():
                # non-reentrant: with LoRA the first layer's input wants no gradient; and nothing here is random
                hidden = checkpoint(layer, hidden, use_reentrant=False, preserve_rng_state=False, **given)
            else:
                hidden = layer(hidden, **given)
        return self._decoder.norm(hidden).flatten(0, 1)

    def _text(
        self,
        states_SH: Tensor,
        tokens: Sequence[Tokens],
        actions: Sequence[int],
        layout: Layout,
        sampling: Sampling,
    ) -> Tensor:
        """[N] log-probs of the first `actions` chain ids of every row."""
        slots = [
            layout.slots(index, len(row.prompt) - 1, count)
            for index, (row, count) in enumerate(zip(tokens, actions, strict=True))
        ]
        ids = [id for row, count in zip(tokens, actions, strict=True) for id in row.chain[:count]]
        states_KNH = states_SH[torch.cat(slots).to(self._device)][None]
        head = self._model.lm_head
        return heads.logprobs(
            head,
            head.out_features,
            states_KNH,
            torch.tensor(ids, device=self._device),
            guidance=1.0,
            temperature=sampling.text_temperature,
        )

    def _image(self, states_SH: Tensor, rows: Sequence[Tokens], layout: Layout, sampling: Sampling) -> Tensor:
        """[N] log-probs of all image ids; the states that predict them stand at begin-of-image and every image id but the last."""
        copies = 2 if sampling.guidance > 1 else 1
        slots = torch.cat(
            [
                layout.slots(index, len(row.prompt) + len(row.chain) - 1, len(row.image))
                for index, row in enumerate(rows)
            ]
        )
        states_KNH = states_SH[slots.to(self._device)].view(copies, -1, states_SH.shape[-1])
        ids = [id for row in rows[: len(rows) // copies] for id in row.image]
        head = self._model.model.generation_head
        return heads.logprobs(
            head,
            head.vision_head.out_features,
            states_KNH,
            torch.tensor(ids, device=self._device),
            guidance=sampling.guidance,
            temperature=sampling.image_temperature,
        )


def _masks(tokens: Sequence[Tokens], actions: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """[B, T] masks of actions (the first `actions` chain ids and all image ids) and of image ids, over chain then image."""
    chains, count = [len(row.chain) for row in tokens], len(tokens[0].image)
    column = torch.arange(max(chains) + count, device=device)[None]
    chain_B, acting_B = (torch.tensor(lengths, device=device)[:, None] for lengths in (chains, actions))
    image_BT = (column >= chain_B) & (column < chain_B + count)
    return (column < acting_B) | image_BT, image_BT
