"""Teacher-forced log-probs of chains and images for SFT and GRPO, with gradients if they are enabled.

The decoder layers are called as modules, so that LoRA, recomputation and wrappers (FSDP) apply. Text
positions go through lm_head only, image positions through generation_head only.
Shapes: B rows, T ids of chain then image, S slots of the decoder's input (`policies.janus.packing`),
K rows of one distribution (conditional, unconditional), N positions scored, M measures, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.types import Sampling, TokenLogprobs, Tokens
from policies.janus import attention, heads, layers, packing
from policies.janus.packing import Layout, Tree

if TYPE_CHECKING:
    from transformers import JanusForConditionalGeneration


class Likelihood:
    """Scores the engine's samples with one model.

    Args:
        model: transformers' JanusForConditionalGeneration. Its language model gets the attention of training.
        bos: id that begins every sequence.
        pad: id of erased tokens.
        recompute: keep only the layers' inputs and run each layer again in the backward pass. This takes a
            third more time and stores the activations of one layer instead of all.
        pack: tokens per row of the decoder's input, which several sequences then share; None: one per row.
            CPUs do not need it: there the input has no padding, and a common prefix is computed once.
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
        self,
        tokens: Sequence[Tokens],
        sampling: Sampling,
        unconditional: Sequence[bool],
        measures: Sequence[str] = (),
    ) -> TokenLogprobs:
        """Log-probs under `sampling`. Rows marked `unconditional` are erased and score their image ids only.

        Raises:
            ValueError: a row is longer than `pack`, a measure is unknown, or contrast lacks guidance.
        """
        _check(measures, sampling.guidance)
        rows: list[Tokens] = []
        actions: list[int] = []  # numbers of chain ids that count
        for row, erased in zip(tokens, unconditional or [False] * len(tokens), strict=True):
            rows.append(self._erase(row) if erased else row)
            actions.append(0 if erased else len(row.chain) - row.forced_end)
        if sampling.guidance > 1:
            rows += [self._erase(row) for row in tokens]
        layout = self._layout(rows)
        chain_N, image_N = _chain_slots(tokens, actions, layout), _image_slots(rows, layout)
        read_N = torch.cat((chain_N, image_N)).to(self._device)
        states_NH = self._states(self._inputs(rows, layout), layout, read_N)
        action_BT, image_BT = _masks(tokens, actions, self._device)
        values_BT = torch.zeros(action_BT.shape, device=self._device)
        measured_MBT = torch.zeros(len(measures), *action_BT.shape, device=self._device)
        if any(actions):
            chain_BT = action_BT & ~image_BT
            values_N, measured_MN = self._score_chains(
                states_NH[: len(chain_N)], tokens, actions, sampling, measures
            )
            values_BT = values_BT.masked_scatter(chain_BT, values_N)
            measured_MBT = measured_MBT.masked_scatter(chain_BT, measured_MN)
        values_N, measured_MN = self._score_images(states_NH[len(chain_N) :], rows, sampling, measures)
        values_BT = values_BT.masked_scatter(image_BT, values_N)
        measured_MBT = measured_MBT.masked_scatter(image_BT, measured_MN)
        return TokenLogprobs(values_BT, action_BT, image_BT, dict(zip(measures, measured_MBT, strict=True)))

    def _layout(self, rows: Sequence[Tokens]) -> Layout | Tree:
        """The slots of all ids but the last of each row, which is never an input."""
        if not attention.is_fused(self._device):
            return packing.tree([row.prompt + row.chain for row in rows], len(rows[0].image) - 1)
        lengths = [len(row.prompt) + len(row.chain) + len(row.image) - 1 for row in rows]
        if self._pack is None:
            return packing.one_per_row(lengths)
        return packing.first_fit(lengths, self._pack)

    def _erase(self, row: Tokens) -> Tokens:
        """The unconditional row: every id but BOS and the final begin-of-image is padding."""
        inner = len(row.prompt) + len(row.chain) - 2
        return Tokens(prompt=(self._bos,), chain=(*(self._pad,) * inner, row.chain[-1]), image=row.image)

    def _inputs(self, rows: Sequence[Tokens], layout: Layout | Tree) -> Tensor:
        """[S, H] embeddings at their slots, 0 at padding."""
        text_ids: list[int] = []
        text_slots, image_slots = [], []
        for index, row in enumerate(rows):
            text, first = row.prompt + row.chain, layout.shared(index)
            text_ids += text[first:]
            text_slots.append(layout.slots(index, first, len(text) - first))
            image_slots.append(layout.slots(index, len(text), len(row.image) - 1))
        text_NH = self._decoder.embed_tokens(torch.tensor(text_ids, device=self._device))
        codes = torch.tensor([row.image[:-1] for row in rows], device=self._device)
        image_NH = self._model.prepare_embeddings_for_image_generation(codes).flatten(0, 1)
        inputs_SH = text_NH.new_zeros(layout.rows * layout.width, text_NH.shape[-1])
        inputs_SH.index_copy_(0, torch.cat(text_slots).to(self._device), text_NH)
        # under autocast too: the residual stream keeps its dtype
        return inputs_SH.index_copy_(0, torch.cat(image_slots).to(self._device), image_NH.to(text_NH.dtype))

    def _states(self, inputs_SH: Tensor, layout: Layout | Tree, read_N: Tensor) -> Tensor:
        """[N, H] states after the final norm, of the slots that are read."""
        hidden = inputs_SH if isinstance(layout, Tree) else inputs_SH.view(layout.rows, layout.width, -1)
        arguments = attention.arguments(self._decoder, layout, hidden)
        # non-reentrant: with LoRA the first layer's input needs no gradient; and nothing here is random
        recomputing: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        last = self._decoder.layers[-1]
        for layer in self._decoder.layers:
            if isinstance(layout, Tree) and layer is last:
                arguments["read"] = read_N
            if self._recompute and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, **recomputing, **arguments)
            else:
                hidden = layer(hidden, **arguments)
        if isinstance(layout, Tree):
            return layers.norm(hidden, self._decoder.norm)
        return self._decoder.norm(hidden).flatten(0, 1)[read_N]

    def _score_chains(
        self,
        states_NH: Tensor,
        tokens: Sequence[Tokens],
        actions: Sequence[int],
        sampling: Sampling,
        measures: Sequence[str],
    ) -> tuple[Tensor, Tensor]:
        """[N] log-probs and [M, N] measures of the first `actions` chain ids of every row."""
        ids: list[int] = []
        for row, count in zip(tokens, actions, strict=True):
            ids += row.chain[:count]
        padding = [0] * (len(states_NH) - len(ids))
        head = self._model.lm_head
        values_N, measured_MN = heads.logprobs(
            head,
            head.out_features,
            states_NH[None],
            torch.tensor(ids + padding, device=self._device),
            guidance=1.0,
            temperature=sampling.text_temperature,
            measures=measures,
        )
        return values_N[: len(ids)], measured_MN[:, : len(ids)]

    def _score_images(
        self, states_NH: Tensor, rows: Sequence[Tokens], sampling: Sampling, measures: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """[N] log-probs and [M, N] measures of all image ids."""
        copies = 2 if sampling.guidance > 1 else 1
        ids: list[int] = []
        for row in rows[: len(rows) // copies]:
            ids += row.image
        head = self._model.model.generation_head
        return heads.logprobs(
            head,
            head.vision_head.out_features,
            states_NH.view(copies, -1, states_NH.shape[-1]),
            torch.tensor(ids, device=self._device),
            guidance=sampling.guidance,
            temperature=sampling.image_temperature,
            measures=measures,
        )


def _chain_slots(tokens: Sequence[Tokens], actions: Sequence[int], layout: Layout | Tree) -> Tensor:
    """The slots whose states predict the first `actions` chain ids of every row, and padding of a tree."""
    slots = []
    for index, (row, count) in enumerate(zip(tokens, actions, strict=True)):
        slots.append(layout.slots(index, len(row.prompt) - 1, count))
    slots_N = torch.cat(slots)
    if isinstance(layout, Tree):
        return torch.nn.functional.pad(slots_N, (0, packing.rounded_up(len(slots_N)) - len(slots_N)))
    return slots_N


def _image_slots(rows: Sequence[Tokens], layout: Layout | Tree) -> Tensor:
    """The slots whose states predict image ids: begin-of-image and every image id but the last."""
    slots = []
    for index, row in enumerate(rows):
        slots.append(layout.slots(index, len(row.prompt) + len(row.chain) - 1, len(row.image)))
    return torch.cat(slots)


def _check(measures: Sequence[str], guidance: float) -> None:
    for name in measures:
        if name not in heads.MEASURES:
            raise ValueError(f"unknown measure {name!r}: choose from {', '.join(heads.MEASURES)}")
    if "contrast" in measures and guidance <= 1:
        raise ValueError(
            f"the measure contrast compares conditional with unconditional rows, and guidance={guidance:g}"
            " has no unconditional ones: set rollout.guidance above 1, or do without contrast"
        )


def _masks(tokens: Sequence[Tokens], actions: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """[B, T] masks over chain then image: of actions, and of image ids.

    Actions are the first `actions` chain ids of a row and all its image ids.
    """
    chains, count = [len(row.chain) for row in tokens], len(tokens[0].image)
    column_1T = torch.arange(max(chains) + count, device=device)[None]
    chain_B1 = torch.tensor(chains, device=device)[:, None]
    acting_B1 = torch.tensor(actions, device=device)[:, None]
    image_BT = (column_1T >= chain_B1) & (column_1T < chain_B1 + count)
    return (column_1T < acting_B1) | image_BT, image_BT
