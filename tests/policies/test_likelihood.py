"""Teacher-forced log-probs and their gradients are those of transformers' own forward with all
logits, in less memory.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from mini_world import janus_config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import JanusForConditionalGeneration

from harness.protocols import Sampling
from harness.trainers import lora
from harness.types import Tokens
from policies.janus import attention, heads
from policies.janus.likelihood import Likelihood
from policies.janus.packing import one_to_a_row

BOS, PAD, BOI = 0, 1, 2
VOCABULARY, CODES, IMAGE = 4096, 2048, 9
DECODER = r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\..*"
PLAIN = Sampling(text_temperature=0.9, image_temperature=1.1)
GUIDED = Sampling(guidance=3.0, text_temperature=0.9)
PACKED = {"pack": 150, "recompute": True}
Model = JanusForConditionalGeneration
Settings = dict[str, Any]


@pytest.fixture(scope="module")
def start() -> Model:
    """Two layers with grouped heads and large vocabularies; copy it to train or convert it."""
    torch.set_num_threads(1)
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


@pytest.fixture
def model(start: Model) -> Model:
    return copy.deepcopy(start)


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


def scored(
    model: Model, tokens: Sequence[Tokens], sampling: Sampling, erased: Sequence[bool] = (), **settings: Any
) -> Tensor:
    """The log-probs of all actions in a row, row after row."""
    result = Likelihood(model, bos=BOS, pad=PAD, **settings).logprobs(tokens, sampling, erased)
    assert not result.values_BT[~result.action_BT].any()
    return result.values_BT[result.action_BT]


def naive(model: Model, tokens: Sequence[Tokens], sampling: Sampling, erased: Sequence[bool] = ()) -> Tensor:
    """The same by transformers' own forward, one sequence at a time, with the logits of every
    position from both heads.
    """
    model.model.language_model.set_attn_implementation("eager")

    def logits(ids: list[int], image: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        text = model.model.language_model.embed_tokens(torch.tensor([ids]))
        drawn = model.prepare_embeddings_for_image_generation(torch.tensor([image[:-1]]))
        states = model.model.language_model(inputs_embeds=torch.cat((text, drawn), 1)).last_hidden_state[0]
        return model.lm_head(states), model.model.generation_head(states)

    values = []
    for row, gone in zip(tokens, erased or [False] * len(tokens), strict=True):
        ids = [*row.prompt, *row.chain]
        blank = [BOS, *[PAD] * (len(ids) - 2), ids[-1]]
        text, image = logits(blank if gone else ids, row.image)
        if sampling.guidance > 1:
            unguided = logits(blank, row.image)[1]
            image = unguided + sampling.guidance * (image - unguided)
        text = torch.log_softmax(text / sampling.text_temperature, -1)[len(row.prompt) - 1 :]
        image = torch.log_softmax(image / sampling.image_temperature, -1)[len(ids) - 1 :]
        actions = 0 if gone else len(row.chain) - row.forced_end
        values += [text[place, id] for place, id in enumerate(row.chain[:actions])]
        values += [image[place, id] for place, id in enumerate(row.image)]
    return torch.stack(values)


def gradients(model: Model, values: Tensor) -> dict[str, Tensor]:
    """Of a sum with unequal weights; the model's own are cleared."""
    weights = torch.linspace(-1, 1, len(values))
    (values * weights).sum().backward()
    found = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    return found


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, as a share of the largest gradient of its parameter."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


def use_the_kernel_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PRODUCTS", attention.FUSED)


VARIANTS = [
    ({}, 2**25, False),
    ({}, 2**16, True),
    ({"recompute": True}, 2**16, False),
    ({"pack": 60}, 2**25, True),
    (PACKED, 2**16, False),
]


@pytest.mark.parametrize(("settings", "budget", "fused"), VARIANTS, ids=str)
@pytest.mark.parametrize(
    ("sampling", "erased"), [(PLAIN, ()), (PLAIN, ERASED), (GUIDED, ())], ids=["plain", "dropout", "guided"]
)
def test_values_and_gradients_are_those_of_all_logits(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    sampling: Sampling,
    erased: Sequence[bool],
    settings: Settings,
    budget: int,
    fused: bool,
) -> None:
    expected = naive(model, TOKENS, sampling, erased)
    expected_gradients = gradients(model, expected)
    monkeypatch.setattr(heads, "LOGITS", budget)
    if fused:
        use_the_kernel_of_gpus(monkeypatch)
    values = scored(model, TOKENS, sampling, erased, **settings)
    assert ((values - expected).abs() / expected.abs()).max() < 1e-6
    assert furthest(expected_gradients, gradients(model, values)) < 1e-5


class Largest(TorchDispatchMode):
    """The most values any tensor had that was made inside, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(one.numel() for one in tree_leaves(made) if isinstance(one, Tensor))])
        return made


def largest(model: Model, tokens: Sequence[Tokens], sampling: Sampling, **settings: Any) -> int:
    with Largest() as mode:
        scored(model, tokens, sampling, **settings).sum().backward()
    model.zero_grad()
    return mode.numel


@pytest.mark.parametrize("settings", [{}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("sampling", [PLAIN, GUIDED], ids=["plain", "guided"])
def test_no_tensor_grows_with_positions_times_vocabulary(
    model: Model, monkeypatch: pytest.MonkeyPatch, sampling: Sampling, settings: Settings
) -> None:
    weights = max(parameter.numel() for parameter in model.parameters())
    few, many = sequences(2, chain=(90, 91)), sequences(8, chain=(90, 91))
    assert largest(model, many, sampling) > 8 * 90 * VOCABULARY, "in one piece the logits are the largest"
    use_the_kernel_of_gpus(monkeypatch)
    monkeypatch.setattr(heads, "LOGITS", 2**16)
    assert 8 * 4 * 90 * 90 > weights == VOCABULARY * 32, "attention weights [B, heads, T, T] would show"
    assert largest(model, few, sampling, **settings) <= weights
    assert largest(model, many, sampling, **settings) <= weights


def kept(model: Model, **settings: Any) -> int:
    """How many values the forward pass of the decoder keeps for the backward pass, weights not counted."""
    sizes: list[int] = []
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    likelihood = Likelihood(model, bos=BOS, pad=PAD, **settings)

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(0 if tensor.data_ptr() in weights else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        likelihood._states(torch.randn(120, 32), one_to_a_row([30] * 4))
    return sum(sizes)


def test_recomputation_is_exact_and_keeps_less(model: Model) -> None:
    found = [
        gradients(model, scored(model, TOKENS, PLAIN, recompute=recompute)) for recompute in (False, True)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert kept(model, recompute=True) < kept(model) / 4


def test_recomputation_gives_adapters_their_gradients_where_nothing_else_has_any(model: Model) -> None:
    lora.add(model, rank=2, alpha=4, targets=DECODER)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter) if parameter.requires_grad else 0.0
    once, again = (
        gradients(model, scored(model, TOKENS, PLAIN, recompute=recompute)) for recompute in (False, True)
    )
    assert once.keys() == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert all(torch.equal(once[name], again[name]) and again[name].any() for name in once)


def test_a_sequence_scores_alone_as_in_any_company(model: Model) -> None:
    with torch.no_grad():
        together = scored(model, TOKENS, GUIDED, pack=100)
        alone = torch.cat([scored(model, [one], GUIDED) for one in TOKENS])
    assert torch.allclose(together, alone, rtol=1e-6, atol=1e-6)


def test_a_sequence_longer_than_a_packed_row_names_the_setting(model: Model) -> None:
    longest = max(len(row.prompt) + len(row.chain) + IMAGE - 1 for row in TOKENS)
    with pytest.raises(ValueError, match=rf"policies\.pack={longest - 1}: .*{longest} tokens"):
        scored(model, TOKENS, PLAIN, pack=longest - 1)


def test_begin_of_image_alone_is_no_chain_and_no_action(model: Model) -> None:
    bare = [Tokens(prompt=row.prompt, chain=(BOI,), image=row.image, forced_end=True) for row in TOKENS]
    values = scored(model, bare, PLAIN)
    assert len(values) == len(bare) * IMAGE
    assert not [name for name in gradients(model, values) if name.startswith("lm_head")]


def test_layers_are_called_as_modules_and_other_towers_keep_their_attention(model: Model) -> None:
    before = model.model.vision_model.config._attn_implementation
    called: list[int] = []
    for index, layer in enumerate(model.model.language_model.layers):
        layer.register_forward_hook(lambda *_, index=index: called.append(index))
    scored(model, TOKENS, PLAIN)
    assert called == [0, 1]
    assert model.model.vision_model.config._attn_implementation == before
    assert model.model.language_model.config._attn_implementation == attention.PRODUCTS


def test_bfloat16_weights_with_float32_adapters(model: Model) -> None:
    lora.add(model, rank=2, alpha=4, targets=DECODER + r"|lm_head")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter) if parameter.requires_grad else 0.0
        exact = scored(model, TOKENS, GUIDED)
    low = copy.deepcopy(model)
    for parameter in low.parameters():
        parameter.data = parameter.data if parameter.requires_grad else parameter.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        values = scored(low, TOKENS, GUIDED, recompute=True, pack=100)
    assert values.dtype == torch.float32 and bool(values.isfinite().all())
    assert (values - exact).abs().mean() < 0.1 and (values - exact).abs().max() < 1.0, (
        "of about 15 nats, with logits guided threefold"
    )
    found = gradients(low, values)
    assert found.keys() == {name for name, _ in low.named_parameters() if "lora_" in name}
    assert all(
        one.dtype == torch.float32 and bool(one.isfinite().all()) and bool(one.any())
        for one in found.values()
    )
