"""BLIP-VQA and CLIP give what the official modules gave with small weights of a known recipe,
through the loaders of original files.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.t2i_compbench.models.blip import answers
from benchmarks.t2i_compbench.models.blip_original import blip_model, read_checkpoint
from harness.experts.similarity.open_clip import clip_model

torch.set_num_threads(1)
CLOSE = 2e-6  # float32 on another machine: here up to 6e-7
TIED = {
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}


def vectors(conformance_dir: Path, name: str) -> dict[str, Any]:
    file = conformance_dir / "t2i_compbench" / name
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    return json.loads(file.read_text(encoding="utf-8"))


def drawn(key: str, shape: list[int]) -> np.ndarray:
    return np.asarray(np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape))


def blip_weight(key: str, shape: list[int]) -> torch.Tensor:
    raw = drawn(TIED.get(key, key), shape)
    if key.endswith(".weight") and "norm" in key.lower():
        raw = 1 + 0.1 * raw
    elif "word_embeddings" in TIED.get(key, key) or "position_embeddings" in key:
        raw = 0.3 * raw
    else:
        raw = 0.15 * raw
    return torch.tensor(raw, dtype=torch.float32)


def clip_weight(key: str, shape: list[int]) -> torch.Tensor:
    raw = drawn(key, shape)
    if key == "logit_scale":
        raw = np.asarray(2.0)
    elif key.endswith(".weight") and key.split(".")[-2].startswith("ln_"):
        raw = 1 + 0.1 * raw
    else:
        raw = (0.3 if "embedding" in key else 0.15) * raw
    return torch.tensor(raw, dtype=torch.float32)


def pixels(seed: int, size: int) -> torch.Tensor:
    return torch.tensor(np.random.RandomState(seed).standard_normal((3, size, size)), dtype=torch.float32)


@pytest.fixture(scope="module")
def blip_vectors(conformance_dir):
    return vectors(conformance_dir, "compbench_blip_vqa_tiny.json")


@pytest.fixture(scope="module")
def blip(blip_vectors, tmp_path_factory):
    """The recipe's weights as an original file, read as a user's is."""
    meta = blip_vectors["meta"]
    file = tmp_path_factory.mktemp("blip") / "tiny.pth"
    state = {key: blip_weight(key, shape) for key, shape in meta["original_keys"].items()}
    state["text_encoder.embeddings.position_ids"] = torch.arange(meta["config"]["max_position_embeddings"])[
        None
    ]
    torch.save({"model": state}, file)
    config = meta["config"]
    text_width = meta["original_keys"]["text_encoder.embeddings.LayerNorm.weight"][0]
    heads = {
        "vision_head": config["width"] // config["vit_heads"],
        "text_head": text_width // config["text_heads"],
    }
    return blip_model(read_checkpoint(file), image_size=config["image_size"], **heads).eval()


def test_the_sizes_of_blip_are_read_from_the_tensors(blip, blip_vectors):
    stated, vision, text = blip_vectors["meta"]["config"], blip.config.vision_config, blip.config.text_config
    assert (vision.image_size, vision.patch_size, vision.hidden_size) == (
        stated["image_size"],
        stated["patch_size"],
        stated["width"],
    )
    assert (vision.num_hidden_layers, vision.num_attention_heads) == (
        stated["vit_depth"],
        stated["vit_heads"],
    )
    assert (text.num_hidden_layers, text.num_attention_heads) == (stated["text_layers"], stated["text_heads"])
    assert (text.intermediate_size, text.vocab_size) == (stated["intermediate"], stated["vocab"])
    assert text.max_position_embeddings == stated["max_position_embeddings"]
    assert (vision.layer_norm_eps, text.layer_norm_eps) == (
        stated["vit_layernorm_eps"],
        stated["text_layernorm_eps"],
    )
    assert vision.hidden_act == text.hidden_act == "gelu"


def test_blips_probabilities_are_the_official_ones(blip, blip_vectors):
    size, cases = blip_vectors["meta"]["config"]["image_size"], blip_vectors["cases"]
    with torch.inference_mode():
        found = [
            answers(blip, pixels(case["image_seed"], size)[None], [[case["input_ids"]]])[0][0]
            for case in cases
        ]
    assert cases and found == pytest.approx([case["prob"] for case in cases], abs=CLOSE)
    assert [f"{case['prob']:.4f}" for case in cases] == [case["formatted"] for case in cases]
    assert all(
        abs(value - float(case["formatted"])) <= 0.5e-4 + CLOSE
        for value, case in zip(found, cases, strict=True)
    )


def test_several_questions_of_several_images_at_once_change_nothing(blip, blip_vectors):
    size, cases = blip_vectors["meta"]["config"]["image_size"], blip_vectors["cases"]
    questions = [case["input_ids"] for case in cases]
    images = torch.stack([pixels(case["image_seed"], size) for case in cases])
    with torch.inference_mode():
        found = answers(
            blip,
            images,
            [[questions[place - 1], questions[place], questions[place - 2]] for place in range(len(cases))],
        )
    assert [values[1] for values in found] == pytest.approx([case["prob"] for case in cases], abs=CLOSE)


def test_the_officially_padded_batch_is_met(blip, blip_vectors):
    size, batch = blip_vectors["meta"]["config"]["image_size"], blip_vectors["padded_batch"]
    images = torch.stack([pixels(seed, size) for seed in batch["image_seeds"]])
    with torch.inference_mode():
        found = answers(blip, images, [[question] for question in batch["input_ids"]])
    assert [value for (value,) in found] == pytest.approx(batch["prob"], abs=CLOSE)


def test_clips_cosines_are_the_official_ones(conformance_dir):
    read = vectors(conformance_dir, "compbench_clip_tiny.json")
    stated = read["meta"]["arch"]
    state = {key: clip_weight(key, shape) for key, shape in read["meta"]["keys"].items()}
    heads = {"vision_heads": max(1, stated["vision_width"] // 64), "text_heads": stated["transformer_heads"]}
    model = clip_model(state, **heads, activation="quick_gelu").eval()
    assert model.config.vision_config.image_size == stated["image_resolution"]
    found = []
    with torch.inference_mode():
        for case in read["cases"]:
            ids = torch.zeros(1, stated["context_length"], dtype=torch.long)
            ids[0, : len(case["token_ids"])] = torch.tensor(case["token_ids"])
            image = model.get_image_features(
                pixels(case["seed"], stated["image_resolution"])[None]
            ).pooler_output
            text = model.get_text_features(ids).pooler_output
            found.append(torch.nn.functional.cosine_similarity(image, text).item())
    assert found and found == pytest.approx([case["cosine"] for case in read["cases"]], abs=CLOSE)
