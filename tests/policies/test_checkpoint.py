"""Checkpoint folders: ordinary ones open, and every kind of wrong one is named with what is wrong and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mini_world import TEMPLATE
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from policies.janus import checkpoint
from policies.janus.policy import JanusPolicy

REMEDY = "give a folder that save_pretrained wrote for Janus; a damaged one must be made or fetched again"


@pytest.fixture
def copy(janus_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(janus_folder, tmp_path / "copy"))


def test_a_whole_folder_loads_in_evaluation_mode_in_float32(janus_folder: Path) -> None:
    model = checkpoint.load(janus_folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    weights = load_file(janus_folder / "model.safetensors")
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])


def test_saved_and_loaded_it_is_the_same(janus_folder: Path, tmp_path: Path) -> None:
    JanusPolicy(janus_folder, template=TEMPLATE).save(tmp_path / "new" / "folder")
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "new" / "folder" / name).read_bytes() == (janus_folder / name).read_bytes()
    checkpoint.load(tmp_path / "new" / "folder")


def _llama(folder: Path) -> None:
    LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50).save_pretrained(folder)


def _upstream(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "multi_modality"}), encoding="utf-8")


def _cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _lose_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"], weights["model.generation_head.vision_head.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _reshape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "has no config.json"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is no model configuration"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json is no model configuration"),
        (_llama, "config.json is of model_type 'llama', allowed is 'janus'"),
        (_upstream, "config.json is of model_type 'multi_modality', allowed is 'janus'"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read as a Janus checkpoint"),
        (_cut, "cannot be read as a Janus checkpoint"),
        (_lose_weights, "is not a whole Janus checkpoint: 2 weights are missing or of another shape, first lm_head.weight"),
        (_reshape, "is not a whole Janus checkpoint: 1 weights are missing or of another shape, first lm_head.weight"),
    ],
    ids=[
        "no-folder",
        "no-config",
        "no-tokenizer",
        "cut-config",
        "list",
        "llama",
        "upstream",
        "no-weights",
        "cut-weights",
        "lost",
        "reshaped",
    ],
)
def test_a_wrong_folder_is_named_with_its_fault_and_the_remedy(copy: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(copy)
    with pytest.raises(ValueError) as caught:
        JanusPolicy(copy, template=TEMPLATE)
    assert str(copy) in str(caught.value)
    assert message in str(caught.value)
    assert REMEDY in str(caught.value)


def test_a_tokenizer_larger_than_the_model_is_refused(copy: Path) -> None:
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<one more>")])
    tokenizer.save(str(copy / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ ids but the model \d+ rows"):
        JanusPolicy(copy, template=TEMPLATE)
