"""The published layout: its configuration and names become transformers', or are refused with what
is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import upstream_layout
from accelerate import init_empty_weights
from transformers import JanusForConditionalGeneration

from policies.janus import checkpoint, original

RELEASED: dict[str, Any] = {  # config.json of Janus-Pro, without what has no effect
    "model_type": "multi_modality",
    "vision_config": {
        "params": {"image_size": 384, "model_name": "siglip_large_patch16_384", "select_layer": -1}
    },
    "aligner_config": {"params": {"depth": 2, "input_dim": 1024, "n_embed": 4096}},
    "gen_vision_config": {"params": {"image_token_size": 16384, "n_embed": 8}},
    "gen_aligner_config": {"params": {"depth": 2, "input_dim": 8, "n_embed": 4096}},
    "gen_head_config": {"params": {"image_token_embed": 4096, "image_token_size": 16384, "n_embed": 4096}},
    "language_config": {
        "model_type": "llama",
        "num_hidden_layers": 30,
        "vocab_size": 102400,
        "max_position_embeddings": 16384,
    },
}
SMALL = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}


def released(width: int, **language: Any) -> dict[str, Any]:
    values = copy.deepcopy(RELEASED)
    for part in ("aligner_config", "gen_aligner_config", "gen_head_config"):
        values[part]["params"]["n_embed"] = width
    values["gen_head_config"]["params"]["image_token_embed"] = width
    values["language_config"] |= language
    return values


@pytest.mark.parametrize(
    ("values", "weights", "millions"),
    [(released(2048, **SMALL), 964, 2076.6), (released(4096), 1018, 7407.8)],
)
def test_the_released_sizes(values: dict[str, Any], weights: int, millions: float) -> None:
    with init_empty_weights():
        model = JanusForConditionalGeneration(original.config(values))
    assert len(model.state_dict()) == weights
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.05
    )
    assert model.config.vq_config.num_patches == 24 and model.config.vision_config.num_image_tokens == 576
    text = model.config.text_config
    assert (text.rms_norm_eps, text.rope_parameters["rope_theta"], text.max_position_embeddings) == (
        1e-6,
        10000.0,
        16384,
    )
    assert not model.config.tie_word_embeddings and not text.tie_word_embeddings


@pytest.mark.parametrize(
    ("layout", "language"),
    [
        ({}, {}),
        ({"shards": 3}, {"num_key_value_heads": 1, "head_dim": 16}),
        ({"pickled": True}, {"rms_norm_eps": 0.05}),
        (
            {"pickled": True, "shards": 4},
            {"rope_theta": 50.0, "attention_bias": True, "num_key_value_heads": 4},
        ),
    ],
    ids=["one", "shards", "bin", "bin-shards"],
)
def test_a_model_in_the_published_layout_is_the_same_model(
    tmp_path: Path, layout: dict[str, Any], language: dict[str, Any]
) -> None:
    native = upstream_layout.write(tmp_path, **layout, **language)
    loaded = checkpoint.load(tmp_path)
    wanted, found = native.state_dict(), loaded.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    ids = torch.arange(40)[None]
    pixels = torch.randn(1, 3, upstream_layout.SIZE, upstream_layout.SIZE)
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, native(input_ids=ids).logits)
        assert torch.equal(
            loaded.model.get_image_features(pixels).pooler_output,
            native.model.get_image_features(pixels).pooler_output,
        )


def test_a_name_no_rule_knows_stays_and_what_is_never_used_goes() -> None:
    value = torch.zeros(6, 2)
    assert list(original.native("gen_vision_model.quantize.codebook_used", value)) == []
    assert list(original.native("vision_model.vision_tower.attn_pool.mlp.fc1.weight", value)) == []
    assert list(original.native("language_model.model.layers.0.self_attn.rotary_emb.inv_freq", value)) == []
    assert list(original.native("vision_gen_enc_model.stem.weight", value)) == [
        "vision_gen_enc_model.stem.weight"
    ]


def put(dotted: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        *path, last = dotted.split(".")
        for name in path:
            values = values[name]
        if value is None:
            del values[last]
        else:
            values[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("language_config", None), "it has no language_config"),
        (put("gen_head_config.params.n_embed", None), "it has no gen_head_config.params.n_embed"),
        (put("gen_vision_config.params", 3), "it has no gen_vision_config.params.image_token_size"),
        (
            put("vision_config.params.model_name", "siglip_so400m_patch14_384"),
            "model_name is 'siglip_so400m_patch14_384', allowed is 'siglip_l",
        ),
        (
            put("gen_head_config.params.image_token_embed", 2048),
            "image_token_embed is 2048, allowed is the width of the decoder, 4096",
        ),
        (
            put("aligner_config.params.n_embed", 1024),
            "aligner_config.params.n_embed is 1024, allowed is the width",
        ),
        (
            put("language_config.model_type", "deepseek_v2"),
            "language_config.model_type is 'deepseek_v2', allowed is 'llama'",
        ),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    values = copy.deepcopy(RELEASED)
    change(values)
    with pytest.raises(ValueError) as caught:
        original.config(values)
    assert message in str(caught.value)
