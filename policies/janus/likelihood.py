"""Teacher-forced log-probs of chains and images, for SFT and GRPO, with gradient where enabled.

Rows are right-padded and causal, so padding is never seen. Text positions go through lm_head and image
positions through generation_head only: no [batch, length, vocabulary] tensor is made.
Shapes: B rows, T ids of chain then image, N positions scored, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from harness.protocols import Sampling, TokenLogprobs
from harness.types import Tokens
from policies.janus.decoder import Decoder
from policies.janus.engine import chosen_logprob, guide


class Likelihood:
    """Bound to one model; scores what the engine draws."""

    def __init__(self, model: torch.nn.Module, *, bos: int, pad: int) -> None:
        self._model = model
        self._decoder = Decoder(model.model.language_model)
        self._embed = model.model.language_model.embed_tokens
        self._bos, self._pad = bos, pad

    def logprobs(self, tokens: Sequence[Tokens], sampling: Sampling, unconditional: Sequence[bool]) -> TokenLogprobs:
        """Log-probs under `sampling`; rows marked `unconditional` are erased and score their image ids only."""
        erased = list(unconditional) or [False] * len(tokens)
        rows = [self._erase(row) if gone else row for row, gone in zip(tokens, erased, strict=True)]
        if sampling.guidance > 1:
            rows = [*rows, *(self._erase(row) for row in tokens)]
        hidden = self._hidden(rows)
        action_BT, image_BT = _masks(tokens, erased, hidden.device)
        text_BT = action_BT & ~image_BT
        chains = [row.chain for row, gone in zip(tokens, erased, strict=True) if not gone]
        values_BT = hidden.new_zeros(action_BT.shape, dtype=torch.float32)
        text_H, text_ids = self._text_positions(hidden, tokens, text_BT)
        if chains:
            values_BT = values_BT.masked_scatter(text_BT, chosen_logprob(self._model.lm_head(text_H), text_ids, sampling.text_temperature))
        image_H, image_ids = self._image_positions(hidden, rows)
        logits = guide(self._model.model.generation_head(image_H), sampling.guidance)
        values = chosen_logprob(logits, image_ids[: len(logits)], sampling.image_temperature)
        return TokenLogprobs(values_BT.masked_scatter(image_BT, values), action_BT, image_BT)

    def _erase(self, row: Tokens) -> Tokens:
        """The unconditional row: every id but BOS and the final begin-of-image is padding."""
        inner = len(row.prompt) + len(row.chain) - 2
        return Tokens(prompt=(self._bos,), chain=(*(self._pad,) * inner, row.chain[-1]), image=row.image)

    def _hidden(self, rows: Sequence[Tokens]) -> Tensor:
        """[B, T, H] states after the final norm, prompt first; the last image id is never an input."""
        device = self._embed.weight.device
        ids = torch.tensor([id for row in rows for id in row.prompt + row.chain], device=device)
        text = self._embed(ids).split([len(row.prompt) + len(row.chain) for row in rows])
        images = torch.tensor([row.image[:-1] for row in rows], device=device)
        drawn = self._model.prepare_embeddings_for_image_generation(images)
        return self._decoder.forward(pad_sequence([torch.cat(pair) for pair in zip(text, drawn, strict=True)], batch_first=True))

    def _text_positions(self, hidden: Tensor, tokens: Sequence[Tokens], text_BT: Tensor) -> tuple[Tensor, Tensor]:
        """States that predict the scored chain ids, and those ids."""
        row, column = text_BT.nonzero(as_tuple=True)
        starts = torch.tensor([len(one.prompt) - 1 for one in tokens], device=hidden.device)
        ids_BT = pad_sequence([torch.tensor(one.chain, device=hidden.device) for one in tokens], batch_first=True)
        return hidden[row, starts[row] + column], ids_BT[row, column]

    def _image_positions(self, hidden: Tensor, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """States that predict the image ids: begin-of-image and every image id but the last."""
        starts_B = torch.tensor([len(one.prompt) + len(one.chain) - 1 for one in rows], device=hidden.device)
        steps = torch.arange(len(rows[0].image), device=hidden.device)
        states = hidden[torch.arange(len(rows), device=hidden.device)[:, None], starts_B[:, None] + steps]
        return states.flatten(0, 1), torch.tensor([one.image for one in rows], device=hidden.device).flatten()


def _masks(tokens: Sequence[Tokens], erased: Sequence[bool], device: torch.device) -> tuple[Tensor, Tensor]:
    """[B, T] masks of actions and of image ids over chain then image."""
    chain_B = torch.tensor([len(row.chain) for row in tokens], device=device)[:, None]
    acting_B = torch.tensor(
        [0 if gone else len(row.chain) - row.forced_end for row, gone in zip(tokens, erased, strict=True)], device=device
    )[:, None]
    count = len(tokens[0].image)
    column = torch.arange(int(chain_B.max()) + count, device=device)[None]
    image_BT = (column >= chain_B) & (column < chain_B + count)
    return (column < acting_B) | image_BT, image_BT
