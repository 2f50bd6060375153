"""A small Janus with large vocabularies, rows of ids, and what transformers' own forward says of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from mini_world import janus_config
from torch import Tensor
from transformers import JanusForConditionalGeneration

from harness.types import Sampling, TokenLogprobs, Tokens
from policies.janus import attention
from policies.janus.likelihood import Likelihood

BOS, PAD, BOI = 0, 1, 2
VOCABULARY, CODES, IMAGE = 4096, 2048, 9
PLAIN = Sampling(text_temperature=0.9, image_temperature=1.1)
GUIDED = Sampling(guidance=3.0, text_temperature=0.9)
PACKED = {"pack": 150, "recompute": True}
Model = JanusForConditionalGeneration
Settings = dict[str, Any]


def random_model() -> Model:
    """Two layers with grouped heads and large vocabularies."""
    torch.manual_seed(0)
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = janus_config(
        vocabulary=VOCABULARY, codes=CODES, text={**text, "initializer_range": 0.2}, num_image_tokens=IMAGE
    )
    model = Model(config).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(
            not name.startswith(("model.vision_model", "model.vqmodel", "model.aligner"))
        )
    return model


def sequences(count: int, *, chain: tuple[int, int] = (1, 30), seed: int = 0) -> list[Tokens]:
    """Rows of mixed lengths; every third ends by force, and so has a last chain id that is no action."""
    rng = random.Random(seed)

    def ids(length: int, size: int) -> tuple[int, ...]:
        return tuple(rng.randrange(size) for _ in range(length))

    return [
        Tokens(
            prompt=(BOS, *ids(rng.randint(1, 12), VOCABULARY)),
            chain=(*ids(rng.randint(*chain), VOCABULARY), BOI),
            image=ids(IMAGE, CODES),
            forced_end=row % 3 == 0,
        )
        for row in range(count)
    ]


TOKENS = sequences(7)
ERASED = [False, True, False, False, True, False, False]


def score(
    model: Model,
    tokens: Sequence[Tokens],
    sampling: Sampling,
    erased: Sequence[bool] = (),
    measures: Sequence[str] = (),
    **settings: Any,
) -> TokenLogprobs:
    result = Likelihood(model, bos=BOS, pad=PAD, **settings).logprobs(tokens, sampling, erased, measures)
    for numbers in (result.values_BT, *result.measures.values()):
        assert not numbers[~result.action_BT].any()
    return result


def scored(
    model: Model, tokens: Sequence[Tokens], sampling: Sampling, erased: Sequence[bool] = (), **settings: Any
) -> Tensor:
    """The log-probs of all actions in a row, row after row."""
    result = score(model, tokens, sampling, erased, **settings)
    return result.values_BT[result.action_BT]


class Action(NamedTuple):
    """One action with all logits / temperature of its distribution and of both rows (equal if unguided)."""

    id: int
    trained: Tensor
    conditional: Tensor
    unconditional: Tensor


def naive(
    model: Model, tokens: Sequence[Tokens], sampling: Sampling, erased: Sequence[bool] = ()
) -> list[Action]:
    """All actions by transformers' own forward, one sequence at a time, with all logits of both heads."""
    model.model.language_model.set_attn_implementation("eager")

    def logits(ids: list[int], image: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        text = model.model.language_model.embed_tokens(torch.tensor([ids]))
        drawn = model.prepare_embeddings_for_image_generation(torch.tensor([image[:-1]]))
        states = model.model.language_model(inputs_embeds=torch.cat((text, drawn), 1)).last_hidden_state[0]
        return model.lm_head(states), model.model.generation_head(states)

    actions = []
    for row, gone in zip(tokens, erased or [False] * len(tokens), strict=True):
        ids = [*row.prompt, *row.chain]
        blank = [BOS, *[PAD] * (len(ids) - 2), ids[-1]]
        text, image = logits(blank if gone else ids, row.image)
        unguided = logits(blank, row.image)[1] if sampling.guidance > 1 else image
        guided = unguided + sampling.guidance * (image - unguided)
        text = text[len(row.prompt) - 1 :] / (sampling.text_temperature or 1.0)
        rows = torch.stack((guided, image, unguided))[:, len(ids) - 1 :] / (sampling.image_temperature or 1.0)
        count = 0 if gone else len(row.chain) - row.forced_end
        actions += [Action(id, *[text[place]] * 3) for place, id in enumerate(row.chain[:count])]
        actions += [Action(id, *rows[:, place]) for place, id in enumerate(row.image)]
    return actions


def log_probs(actions: Sequence[Action]) -> Tensor:
    return torch.stack([torch.log_softmax(action.trained, -1)[action.id] for action in actions])


def gradients(model: Model, values: Tensor) -> dict[str, Tensor]:
    """Of a sum with unequal weights; the model's own are cleared."""
    weights = torch.linspace(-1, 1, len(values))
    (values * weights).sum().backward()
    found = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    return found


def use_the_kernel_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "is_fused", lambda device: True)


VARIANTS = [
    ({}, 2**25, False),
    ({}, 2**16, True),
    ({"recompute": True}, 2**16, False),
    ({"pack": 60}, 2**25, True),
    (PACKED, 2**16, False),
]
