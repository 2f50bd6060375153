"""A tiny random Janus in a checkpoint folder: weights large enough that samples vary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import JanusConfig, JanusForConditionalGeneration, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

from policies.janus import checkpoint, text
from policies.janus.policy import JanusPolicy

TEMPLATE = "User: {caption}\n\nAssistant:"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("janus")
    tokenizer = text.train(["a red circle on the left of a blue square", TEMPLATE], 300)
    config = JanusConfig(
        text_config=LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        ).to_dict(),
        vision_config=JanusVisionConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=12, patch_size=4, projection_dim=32
        ).to_dict(),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=32,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=[1, 1, 1],
            num_res_blocks=1,
            projection_dim=32,
            image_token_embed_dim=32,
        ).to_dict(),
        tie_word_embeddings=False,
    )
    model = JanusForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vqmodel" not in name and parameter.ndim > 1:
                parameter.normal_(std=0.25)
        model.lm_head.weight[tokenizer.token_to_id(text.END)] *= 3  # chains end now and then
    checkpoint.save(model, path)
    text.save(tokenizer, path)
    return path


@pytest.fixture(scope="session")
def policy(folder: Path) -> JanusPolicy:
    return JanusPolicy(folder, template=TEMPLATE, trainable=True)
