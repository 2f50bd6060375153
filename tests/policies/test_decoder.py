"""Prefill and steps give transformers' hidden states: grouped heads, shared prefixes, hidden slots."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from policies.janus.batch_attention import BatchAttention, Heads, Slot
from policies.janus.cache import KeyValues, RowGroup
from policies.janus.compiled import RowAttention
from policies.janus.decoder import Decoder
from policies.janus.steps import Compiled, Replayed

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
    hidden_RTH, cache = Decoder(llama, torch.float32, PROMPT).prefill(embeds_RTH)
    for row, length in enumerate((5, 2, 4)):
        close(hidden_RTH[row, :length], expected(llama, embeds_RTH[row, :length]))
    assert cache.slots == PROMPT


@pytest.mark.parametrize("steps", [Compiled, Replayed])
@torch.no_grad()
def test_rows_step_on_from_a_shared_prefix(
    llama: LlamaModel, steps: type[Compiled | Replayed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two prompts shared by two rows each, rows of different lengths, and a group of rows with one prompt."""
    monkeypatch.setattr(Replayed, "bucket", 3)
    decoder = Decoder(llama, torch.float32, PROMPT + STEPS)
    prompts, alone = torch.randn(2, PROMPT, WIDTH), torch.randn(1, PROMPT, WIDTH)
    _, shared = decoder.prefill(prompts)
    _, single = decoder.prefill(alone)
    lengths_R = torch.tensor([5, 3, 4, 1])
    groups = [
        RowGroup(4, [shared.seen(lengths_R)], decoder.tail(4, STEPS)),
        RowGroup(3, [single], decoder.tail(3, STEPS)),
    ]
    new = torch.randn(STEPS, 7, WIDTH)
    first_R = torch.cat((lengths_R, torch.full((3,), PROMPT)))
    advance = steps(decoder, lambda hidden: hidden.clone(), groups, first_R)
    drawn = torch.stack([advance(embeds_RH, step) for step, embeds_RH in enumerate(new)])
    before = [prompts[row // 2, :length] for row, length in enumerate(lengths_R.tolist())] + [alone[0]] * 3
    for row, prompt in enumerate(before):
        close(drawn[:, row], expected(llama, torch.cat((prompt, new[:, row])))[-STEPS:])


@pytest.mark.parametrize("steps", [Compiled, Replayed])
@torch.no_grad()
def test_a_row_that_sees_nothing_but_itself_is_finite(
    llama: LlamaModel, steps: type[Compiled | Replayed]
) -> None:
    decoder = Decoder(llama, torch.float32, 3)
    _, cache = decoder.prefill(torch.randn(2, 2, WIDTH))
    group = RowGroup(2, [cache.seen(torch.tensor([0, 2]))], decoder.tail(2, 1))
    embeds_RH = torch.randn(2, WIDTH)
    advance = steps(decoder, lambda hidden: hidden.clone(), [group], torch.tensor([0, 2]))
    close(advance(embeds_RH, 0)[:1], expected(llama, embeds_RH[:1]))


@torch.no_grad()
def test_rows_step_on_after_others_have_ended(llama: LlamaModel) -> None:
    decoder = Decoder(llama, torch.float32, PROMPT + STEPS)
    prompts, new = torch.randn(3, PROMPT, WIDTH), torch.randn(STEPS, 3, WIDTH)
    _, cache = decoder.prefill(prompts)
    group = RowGroup(3, [cache], decoder.tail(3, STEPS))
    advance = Compiled(decoder, lambda hidden: hidden.clone(), [group], torch.full((3,), PROMPT))
    ended_B = torch.tensor([False, False, False])
    for step in range(STEPS):
        rows = advance.unended(ended_B)
        drawn = advance(new[step, rows], step, rows)
        ended_B[step % 2] = True  # the last row never ends
    assert rows.tolist() == [2]
    close(drawn[0], expected(llama, torch.cat((prompts[2], new[:, 2])))[-1])


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)], ids=str)
@torch.no_grad()
def test_bfloat16_steps_round_as_matrix_products_do(heads: tuple[int, int]) -> None:
    """Compiled steps and products of whole batches agree to one rounding of some number."""
    torch.manual_seed(1)
    kv_heads, queries, width, rows = heads[1], heads[0] // heads[1], 8, 6
    layout = Heads(kv_heads=kv_heads, queries=queries, width=width, dtype=torch.bfloat16)
    qkv_RH = torch.randn(rows, (heads[0] + 2 * kv_heads) * width).bfloat16()
    cos_RD, sin_RD = torch.randn(rows, width), torch.randn(rows, width)
    prefix = KeyValues(*([torch.randn(kv_heads * 2, 5, width).bfloat16()] for _ in range(2)))
    seen = prefix.seen(torch.tensor([5, 3, 1, 2, 4, 5]))
    mixed = []
    for attention, slot in (
        (BatchAttention, Slot(torch.tensor([0]), 1, torch.zeros(1, 1, 1))),
        (RowAttention, 0),
    ):
        tail = KeyValues.empty(1, (kv_heads * rows, 1, width), qkv_RH)
        attend = partial(attention([RowGroup(rows, [seen], tail)], layout), slot=slot)
        rest = {} if attention is BatchAttention else {"rows": slice(None)}
        mixed.append(attend(0, qkv_RH, cos_RD, sin_RD, **rest).float())
    torch.testing.assert_close(mixed[0], mixed[1], rtol=2**-7, atol=2**-7)


@torch.no_grad()
def test_bfloat16_products_stay_near_float32(llama: LlamaModel) -> None:
    embeds_RTH = torch.randn(2, PROMPT, WIDTH)
    exact, _ = Decoder(llama, torch.float32, PROMPT).prefill(embeds_RTH)
    rounded, _ = Decoder(llama, torch.bfloat16, PROMPT).prefill(embeds_RTH)
    assert 1e-5 < (rounded.float() - exact).abs().mean() < 0.05
