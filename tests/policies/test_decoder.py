"""Prefill and steps give transformers' own hidden states, with grouped heads, shared parts and
hidden slots.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from policies.janus.cache import Part, Slot, Stream, mask
from policies.janus.decoder import Decoder
from policies.janus.steps import Replayed, Sliced

WIDTH, PROMPT, STEPS = 24, 5, 4


@pytest.fixture(params=[(4, 4), (4, 2), (6, 1)], ids=str, scope="module")
def llama(request: pytest.FixtureRequest) -> LlamaModel:
    heads, kv_heads = request.param
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=10,
        hidden_size=WIDTH,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=8,
        rms_norm_eps=1e-3,
        attention_bias=True,
        rope_theta=100.0,
    )
    model = LlamaModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def expected(model: LlamaModel, embeds_TH: Tensor) -> Tensor:
    return model(inputs_embeds=embeds_TH[None]).last_hidden_state[0]


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0.0, atol=2e-5)


@torch.no_grad()
def test_prefill_of_right_padded_rows(llama: LlamaModel) -> None:
    embeds_RTH = torch.randn(3, PROMPT, WIDTH)
    hidden_RTH, part = Decoder(llama, torch.float32, PROMPT).prefill(embeds_RTH)
    for row, length in enumerate((5, 2, 4)):
        close(hidden_RTH[row, :length], expected(llama, embeds_RTH[row, :length]))
    assert part.slots == PROMPT


@pytest.mark.parametrize("steps", [Sliced, Replayed])
@torch.no_grad()
def test_rows_step_on_from_a_shared_part(
    llama: LlamaModel, steps: type[Sliced | Replayed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two prompts shared by two rows each, of which every row has its own length, and a stream of
    one prompt for all.
    """
    monkeypatch.setattr(Replayed, "bucket", 3)
    decoder = Decoder(llama, torch.float32, PROMPT + STEPS)
    prompts, alone = torch.randn(2, PROMPT, WIDTH), torch.randn(1, PROMPT, WIDTH)
    _, shared = decoder.prefill(prompts)
    _, single = decoder.prefill(alone)
    lengths_R = torch.tensor([5, 3, 4, 1])
    shared.mask_R1S = mask(torch.arange(PROMPT)[None] >= lengths_R[:, None])
    streams = [Stream(4, [shared], decoder.tail(4, STEPS)), Stream(3, [single], decoder.tail(3, STEPS))]
    new = torch.randn(STEPS, 7, WIDTH)
    first_R = torch.cat((lengths_R, torch.full((3,), PROMPT)))
    advance = steps(decoder, lambda hidden: hidden.clone(), streams, first_R)
    drawn = torch.stack([advance(embeds_RH, step) for step, embeds_RH in enumerate(new)])
    before = [prompts[row // 2, :length] for row, length in enumerate(lengths_R.tolist())] + [alone[0]] * 3
    for row, prompt in enumerate(before):
        close(drawn[:, row], expected(llama, torch.cat((prompt, new[:, row])))[-STEPS:])


@torch.no_grad()
def test_a_row_that_sees_nothing_but_itself_is_finite(llama: LlamaModel) -> None:
    decoder = Decoder(llama, torch.float32, 3)
    _, part = decoder.prefill(torch.randn(1, 2, WIDTH))
    part = Part(part.keys, part.values, mask(torch.tensor([[True, True]])))
    embeds_RH = torch.randn(1, WIDTH)
    hidden = decoder.step(embeds_RH, torch.tensor([0]), [Stream(1, [part], decoder.tail(1, 1))], Slot(0, 1))
    close(hidden, expected(llama, embeds_RH))


@torch.no_grad()
def test_bfloat16_products_stay_near_float32(llama: LlamaModel) -> None:
    embeds_RTH = torch.randn(2, PROMPT, WIDTH)
    exact, _ = Decoder(llama, torch.float32, PROMPT).prefill(embeds_RTH)
    rounded, _ = Decoder(llama, torch.bfloat16, PROMPT).prefill(embeds_RTH)
    assert rounded.dtype == torch.float32
    assert 1e-5 < (rounded - exact).abs().mean() < 0.05
