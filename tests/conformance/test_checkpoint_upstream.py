"""Published checkpoints load as upstream's own classes load them: names, configuration, tokenizer,
what every part computes.

Runs over every `janus_*` folder that is found, whatever its widths, ids, sharding and constants.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import JanusForConditionalGeneration

from policies.janus import checkpoint, original, vq, weights
from policies.janus import folder as folders
from policies.janus.text import ChainTokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = Path(os.environ.get("CONFORMANCE_DIR", REPOSITORY.parent / "shared" / "conformance"))
FOLDERS = sorted(folder for folder in ROOT.glob("janus_*") if (folder / "checkpoint").is_dir())
CLOSE = {"atol": 1e-4, "rtol": 1e-5}
# of native_config.json: how a model is run and printed, and ids that no part of it reads
NOT_SIZES = {
    "initializer_range",
    "use_cache",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
    "dtype",
    "id2label",
    "label2id",
}
NOT_SIZES |= {
    "image_token_id",
    "transformers_version",
    "architectures",
    "_name_or_path",
    "chunk_size_feed_forward",
    "pretraining_tp",
}

pytestmark = [
    pytest.mark.skipif(not FOLDERS, reason=f"no janus_* goldens under {ROOT}: set CONFORMANCE_DIR"),
    pytest.mark.parametrize("golden", FOLDERS, ids=lambda folder: folder.name),
]


@lru_cache(maxsize=1)
def _model(golden: Path) -> JanusForConditionalGeneration:
    torch.set_num_threads(1)
    return checkpoint.load(golden / "checkpoint")


@lru_cache(maxsize=1)
def _tensors(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "golden_got.safetensors")


def _json(file: Path) -> Any:
    if not file.is_file():
        pytest.skip(f"{file.parent.name} has no {file.name}")
    return json.loads(file.read_text(encoding="utf-8"))


def _template(policy: str) -> str:
    return yaml.safe_load((REPOSITORY / "policies" / f"{policy}.yaml").read_text(encoding="utf-8"))[
        "template"
    ]


def test_every_weight_gets_its_name_and_value(golden: Path) -> None:
    state = _model(golden).state_dict()
    mapping = {entry["original"]: entry["native"] for entry in _json(golden / "key_mapping.json")}
    read = {
        name: value
        for file in folders.read(golden / "checkpoint").weights
        for name, value in weights.read(file)
    }
    assert read.keys() == mapping.keys()
    for name, value in read.items():
        assert list(original.native(name, value)) == mapping[name], name
        parts = value.chunk(len(mapping[name])) if mapping[name] else ()
        for native, part in zip(mapping[name], parts, strict=True):
            assert torch.equal(state[native], part.reshape(state[native].shape).float()), native
    assert sorted(state) == sorted(native for names in mapping.values() for native in names)


def test_the_configuration_is_that_of_transformers(golden: Path) -> None:
    found = json.loads(json.dumps(_model(golden).config.to_dict()))
    wanted = _json(golden / "native_config.json")
    for section in ("text_config", "vision_config", "vq_config"):
        for name in set(wanted[section]) - NOT_SIZES:
            assert found[section][name] == wanted[section][name], f"{section}.{name}"
    assert found["tie_word_embeddings"] is found["text_config"]["tie_word_embeddings"] is False


def test_special_tokens_are_where_upstream_has_them(golden: Path) -> None:
    expected = _json(golden / "golden_got.json")
    tokenizer = ChainTokenizer.load(golden / "checkpoint", _template("janus_pro_1b"))
    for token, place in expected["special_ids"].items():
        assert tokenizer.chain_ids(token) == (place,), token
    assert (tokenizer.pad, tokenizer.boi) == (expected["pad_id"], expected["boi_id"])
    assert expected["len_tokenizer"] <= tokenizer.rows <= _model(golden).lm_head.out_features


def test_prompts_are_upstreams(golden: Path) -> None:
    template = _template("janus_pro_1b")
    tokenizer = ChainTokenizer.load(golden / "checkpoint", template)
    for prompt in _json(golden / "golden_got.json")["prompts"]:
        assert template.replace("{caption}", prompt["caption"].rstrip()) == prompt["prompt_text"]
        assert list(tokenizer.prompt_ids(prompt["caption"])) == prompt["prompt_ids"]


def test_plain_prompts_are_upstreams(golden: Path) -> None:
    captions = [prompt["caption"] for prompt in _json(golden / "golden_got.json")["prompts"]]
    templates = [_template("janus_pro_1b_plain"), "User: {caption}\n\nAssistant:"]
    tokenizers = [ChainTokenizer.load(golden / "checkpoint", template) for template in templates]
    for case in _json(golden / "golden_janus.json")["cases"]:
        tokenizer = tokenizers[not case["prompt_text"].startswith("<|User|>")]
        assert [*tokenizer.prompt_ids(captions[case["caption"]]), tokenizer.boi] == case["prompt_ids"]


def test_text_logits_are_upstreams(golden: Path) -> None:
    model = _model(golden)
    for number, prompt in enumerate(_json(golden / "golden_got.json")["prompts"]):
        with torch.no_grad():
            logits = model.lm_head(
                model.model.language_model(torch.tensor([prompt["prompt_ids"]])).last_hidden_state
            )[0]
        torch.testing.assert_close(logits, _tensors(golden)[f"prompt{number}/text_logits"], **CLOSE)


@torch.no_grad()
def test_image_embeddings_and_the_reading_tower_are_upstreams(golden: Path) -> None:
    model, tensors = _model(golden), _tensors(golden)
    codes = torch.arange(model.config.vq_config.num_embeddings)
    torch.testing.assert_close(
        model.prepare_embeddings_for_image_generation(codes), tensors["gen_img_embeds"], **CLOSE
    )
    features = model.model.vision_model(tensors["pixel_values"]).last_hidden_state
    torch.testing.assert_close(features, tensors["vision_features"], **CLOSE)
    torch.testing.assert_close(model.model.aligner(features), tensors["vision_aligned"], **CLOSE)


@torch.no_grad()
def test_images_get_upstreams_codes(golden: Path) -> None:
    tensors, tokenizer = _tensors(golden), _model(golden).model.vqmodel
    latents = vq.latents(tokenizer, tensors["pixel_values"])
    unit = torch.nn.functional.normalize(tensors["vq_encode_z"], dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(latents, unit, **CLOSE)
    assert torch.equal(vq.nearest(tokenizer, latents), tensors["vq_encode_ids"].view(len(latents), -1))
