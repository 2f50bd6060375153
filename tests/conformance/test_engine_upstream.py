"""The engine draws what GoT-R1's own program drew: chains, guided image tokens, log-probs, pixels (float32).

The weights of the golden model are brought into transformers' layout by the key list that comes with it.
Cases in which several images share one chain belong to upstream's command, not to an engine of one chain
per sample, and are left out.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import JanusConfig, JanusForConditionalGeneration

from harness.protocols import Sampling
from policies.janus import vq
from policies.janus.engine import Engine

ROOT = Path(os.environ.get("CONFORMANCE_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "conformance"))
FOLDERS = sorted(folder for folder in ROOT.glob("janus_*") if (folder / "golden_got.json").is_file())


def _golden(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "golden_got.json").read_text(encoding="utf-8"))


CASES = [(folder, case) for folder in FOLDERS for case in _golden(folder)["cases"] if case["parallel_size"] == 1]


@lru_cache(maxsize=1)
def _model(folder: Path) -> JanusForConditionalGeneration:
    upstream = load_file(folder / "checkpoint" / "model.safetensors")
    weights: dict[str, torch.Tensor] = {}
    for entry in json.loads((folder / "key_mapping.json").read_text(encoding="utf-8")):
        value = upstream.get(entry["original"])
        if entry["op"] == "copy":
            weights[entry["native"][0]] = value
        elif entry["op"].startswith("squeeze"):
            weights[entry["native"][0]] = value.squeeze(0)
        elif entry["op"].startswith("split"):
            weights |= dict(zip(entry["native"], value.chunk(3), strict=True))
    config = JanusConfig(**json.loads((folder / "native_config.json").read_text(encoding="utf-8")))
    model = JanusForConditionalGeneration(config).eval()
    model.load_state_dict(weights)
    return model


@pytest.mark.skipif(not CASES, reason=f"no janus_* goldens under {ROOT}: set CONFORMANCE_DIR")
@pytest.mark.parametrize(("folder", "case"), CASES, ids=lambda value: value["name"] if isinstance(value, dict) else value.name)
def test_the_engine_draws_what_upstream_drew(folder: Path, case: dict[str, Any]) -> None:
    golden = _golden(folder)
    model = _model(folder)
    ids = golden["special_ids"]
    engine = Engine(model, bos=ids["<｜begin▁of▁sentence｜>"], pad=golden["pad_id"], boi=golden["boi_id"])
    sampling = Sampling(
        guidance=case["cfg_weight"],
        text_temperature=case["text_temperature"],
        image_temperature=case["image_temperature"],
        max_chain_tokens=600,
        random="upstream",
    )
    prompt = tuple(golden["prompts"][case["caption"]]["prompt_ids"])
    drawn = engine.rollout([prompt], [case["seed"]], sampling)
    (tokens,) = drawn.tokens
    assert list(tokens.chain) == case["chain_ids"]
    assert tokens.forced_end == case["forced_boi"]
    assert [list(tokens.image)] == case["image_tokens"]
    tensors = load_file(folder / "golden_got.safetensors")
    (image,) = vq.decode(model.model.vqmodel, [tokens.image])
    difference = torch.from_numpy(np.asarray(image).astype(int)) - tensors[f"{case['name']}/image_u8"][0].int()
    assert difference.abs().max() <= 1  # float32 at the edge of a whole number
    if f"{case['name']}/chain_logprobs" in tensors:
        expected = [*tensors[f"{case['name']}/chain_logprobs"].tolist(), *tensors[f"{case['name']}/image_logprobs"][0].tolist()]
        recorded = [*drawn.logprobs[0][: len(tokens.chain) - tokens.forced_end], *drawn.logprobs[0][len(tokens.chain) :]]
        assert recorded == pytest.approx(expected, abs=1e-3)
