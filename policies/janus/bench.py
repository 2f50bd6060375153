"""The engine compared with transformers' own `generate` on a random model of medium size.

Both have the same weights, prompts and work. The prompts are those of a GRPO step: several samples of each,
one after the other. Both write chains of exactly `CHAIN` tokens (begin-of-image is nearly impossible) by full
softmax at temperature 1, then draw a whole image with guidance, without the VQ decoder. `generate` has its
fastest correct settings: text mode, then image mode, static cache, mask, fused attention, no top-k.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
)
from transformers.utils import logging

from harness.protocols import Race
from harness.types import Sampling
from policies.janus import floor
from policies.janus.engine import Engine
from policies.janus.floor import now
from policies.janus.policy import device
from policies.janus.precision import native_bfloat16

WIDTH, INNER, LAYERS, HEADS, VOCABULARY, CODES, SIDE = 512, 1408, 8, 8, 16384, 4096, 16
PROMPT, CHAIN, IMAGE, GUIDANCE, GROUP = 107, 100, SIDE**2, 5.0, 8
BOS, PAD, BOI = 0, 1, 2
WORK = (
    f"random Janus of hidden {WIDTH} and {LAYERS} layers: {GROUP} samples a prompt, {PROMPT} tokens of"
    f" prompt, {CHAIN} of chain, {IMAGE} of image, guidance {GUIDANCE:g}, VQ decoder not counted"
)


def races() -> Iterator[Race]:
    """The races of this machine's device."""
    return races_on(device())


def races_on(device: str) -> Iterator[Race]:
    """8 and 32 samples in float32, and 8 in bfloat16 if the device multiplies it natively.

    Each prompt has `GROUP` samples.
    """
    settings = [(8, torch.float32), (32, torch.float32)] + [(8, torch.bfloat16)] * native_bfloat16(device)
    for samples, dtype in settings:
        model = _model().to(device, dtype)
        distinct_PT = torch.randint(
            BOI + 1, VOCABULARY, (samples // GROUP, PROMPT), generator=torch.Generator().manual_seed(samples)
        )
        distinct_PT[:, 0] = BOS
        prompts_BT = distinct_PT.repeat_interleave(GROUP, 0).to(device)
        yield Race(
            work=WORK,
            setting=f"{samples} samples, {str(dtype).removeprefix('torch.')}",
            amount=samples,
            unit="samples",
            counts={"chain": samples * CHAIN, "image": samples * IMAGE},
            count_unit="tokens",
            systems={
                "generate": partial(_generate, model, prompts_BT),
                "engine": partial(_engine, model, prompts_BT),
            },
            floor_s=partial(_floor_s, samples, dtype, device),
        )


def _model() -> JanusForConditionalGeneration:
    torch.manual_seed(0)
    config = JanusConfig(
        text_config=LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=2048,
            bos_token_id=BOS,
            eos_token_id=None,
        ).to_dict(),
        vision_config=JanusVisionConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=4 * SIDE,
            patch_size=4,
            projection_dim=WIDTH,
            num_image_tokens=IMAGE,
        ).to_dict(),
        vq_config=JanusVQVAEConfig(
            num_embeddings=CODES,
            base_channels=32,
            latent_channels=32,
            channel_multiplier=[1, 1, 1],
            num_res_blocks=1,
            num_patches=SIDE,
            projection_dim=WIDTH,
            image_token_embed_dim=WIDTH,
        ).to_dict(),
        tie_word_embeddings=False,
    )
    model = JanusForConditionalGeneration(config).eval()
    # logits as wide as a trained model's, and 0 for begin-of-image: e^-18 of an average token
    with torch.no_grad():
        model.lm_head.weight.normal_(std=6 / WIDTH**0.5)
        model.lm_head.weight[BOI] = 0
    model.set_attn_implementation("sdpa")
    return model


@torch.no_grad()
def _generate(model: JanusForConditionalGeneration, prompts_BT: Tensor) -> dict[str, float]:
    sampled = {"do_sample": True, "top_k": 0, "bos_token_id": BOS, "pad_token_id": PAD, "eos_token_id": BOI}
    logging.set_verbosity_error()  # it warns of lengths that its own defaults set
    text = GenerationConfig(
        max_new_tokens=CHAIN, min_new_tokens=CHAIN, cache_implementation="static", **sampled
    )
    drawn = GenerationConfig(guidance_scale=GUIDANCE, max_length=PROMPT + CHAIN + 1 + IMAGE, **sampled)
    drawn.generation_kwargs = {"boi_token_id": BOI}
    begun = now(prompts_BT)
    ids_BT = model.generate(
        prompts_BT, attention_mask=torch.ones_like(prompts_BT), generation_mode="text", generation_config=text
    )
    written = now(prompts_BT)
    assert ids_BT.shape[1] == PROMPT + CHAIN
    ids_BT = torch.nn.functional.pad(ids_BT, (0, 1), value=BOI)
    images_BT = model.generate(
        ids_BT, attention_mask=torch.ones_like(ids_BT), generation_mode="image", generation_config=drawn
    )
    assert images_BT.shape[1] == IMAGE
    return {"chain": written - begun, "image": now(prompts_BT) - written}


def _engine(model: JanusForConditionalGeneration, prompts_BT: Tensor) -> dict[str, float]:
    prompts = [tuple(row) for row in prompts_BT.tolist()]
    engine = TimedEngine(model, bos=BOS, pad=PAD, boi=BOI)
    begun = now(prompts_BT)
    drawn = engine.rollout(prompts, range(len(prompts)), Sampling(guidance=GUIDANCE, max_chain_tokens=CHAIN))
    assert all(len(tokens.chain) == CHAIN + 1 for tokens in drawn.tokens)
    return {"chain": engine.written - begun, "image": now(prompts_BT) - engine.written}


class TimedEngine(Engine):
    """Records the time at which all chains are complete."""

    def _draw_chains(self, logits_BV: Tensor, *rest: Any, **more: Any) -> Any:
        chains = super()._draw_chains(logits_BV, *rest, **more)
        self.written = now(logits_BV)
        return chains


def _floor_s(samples: int, dtype: torch.dtype, device: str) -> float:
    """Seconds that the work takes at the device's rates."""
    work = floor.Work(
        hidden=WIDTH,
        inner=INNER,
        layers=LAYERS,
        vocabulary=VOCABULARY,
        codes=CODES,
        samples=samples,
        group=GROUP,
        prompt=PROMPT,
        chain=CHAIN,
        image=IMAGE,
    )
    return sum(floor.seconds(work, dtype, floor.measured_rates(dtype, device)).values())
