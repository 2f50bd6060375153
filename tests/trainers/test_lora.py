"""Adapters on a real Janus: identity at the start, alone in training, gone after merging."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from mini_world import CAPTIONS, TEMPLATE
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import JanusForConditionalGeneration

from harness.trainers import lora
from harness.types import Prompt, Sampling
from policies.janus.policy import JanusPolicy

TARGETS = r".*language_model.*\.(q|v)_proj|lm_head|model\.generation_head\.proj_out"
# attention and MLP of the decoder, as in the paper's preset
DECODER = r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\..*"
SAMPLING = Sampling(max_chain_tokens=8)


@pytest.fixture
def policy(janus_folder: Path) -> JanusPolicy:
    return JanusPolicy(janus_folder, template=TEMPLATE, trainable=True)


def scores(policy: JanusPolicy, of: JanusPolicy | None = None) -> Tensor:
    """Log-probs of what the unchanged start draws."""
    prompts = [Prompt(id=text, text=text, category="color") for text in CAPTIONS]
    tokens = [sample.tokens for sample in (of or policy).rollout(prompts, [1, 2, 3, 4], SAMPLING)]
    with torch.no_grad():
        return policy.logprobs(tokens, SAMPLING).values_BT


def shake(policy: JanusPolicy) -> None:
    """What training would do: every trained parameter moves."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)


def test_adapters_start_as_the_identity(policy: JanusPolicy) -> None:
    before = scores(policy)
    lora.add(policy.module, rank=2, alpha=4, targets=TARGETS)
    assert torch.equal(scores(policy), before)


def test_only_adapters_train_and_only_where_the_policy_trained(policy: JanusPolicy) -> None:
    lora.add(policy.module, rank=2, alpha=4, targets=r".*\.(q|v)_proj|lm_head")
    trained = [name for name, parameter in policy.module.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    adapted = {name.partition(".lora_")[0] for name, _ in policy.module.named_parameters() if "lora_" in name}
    layers = {
        f"model.language_model.layers.{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "qv"
    }
    assert adapted == {*layers, "lm_head"}, "the SigLIP tower has q_proj too and must be left alone"


def test_switched_off_they_are_the_start_and_then_come_back(policy: JanusPolicy, janus_folder: Path) -> None:
    start = JanusPolicy(janus_folder, template=TEMPLATE)
    lora.add(policy.module, rank=2, alpha=4, targets=TARGETS)
    shake(policy)
    moved, trained = (
        scores(policy, start),
        [parameter.requires_grad for parameter in policy.module.parameters()],
    )
    with lora.switched_off(policy.module):
        assert torch.equal(scores(policy, start), scores(start))
    assert torch.equal(scores(policy, start), moved)
    assert not torch.allclose(moved, scores(start), atol=1e-2)
    assert [parameter.requires_grad for parameter in policy.module.parameters()] == trained


def test_a_merged_checkpoint_is_the_adapted_model_in_plain_weights(
    policy: JanusPolicy, janus_folder: Path, tmp_path: Path
) -> None:
    start = JanusPolicy(janus_folder, template=TEMPLATE)
    lora.add(policy.module, rank=2, alpha=4, targets=TARGETS)
    shake(policy)
    adapted = scores(policy, start)
    lora.merge(policy.module)
    policy.save(tmp_path)
    merged = JanusPolicy(tmp_path, template=TEMPLATE)
    assert type(merged.module) is type(start.module)
    assert torch.allclose(scores(merged, start), adapted, atol=1e-5)
    before = start.module.state_dict()
    changed = {
        name for name, value in merged.module.state_dict().items() if not torch.equal(value, before[name])
    }
    layers = {
        f"model.language_model.layers.{layer}.self_attn.{part}_proj.weight"
        for layer in (0, 1)
        for part in "qv"
    }
    assert changed == {*layers, "lm_head.weight", "model.generation_head.proj_out.weight"}


@pytest.mark.parametrize(
    "targets", [r"q_proj", r".*no_such_layer", r".*vision_model.*q_proj", r"model\.vqmodel.*"]
)
def test_targets_that_match_no_trained_layer_are_refused(policy: JanusPolicy, targets: str) -> None:
    before = [parameter.requires_grad for parameter in policy.module.parameters()]
    with pytest.raises(
        ValueError,
        match=r"lora\.targets=.*matches no trained linear layer.*such as model\.language_model\S+_proj"
        " or lm_head",
    ):
        lora.add(policy.module, rank=2, alpha=4, targets=targets)
    assert [parameter.requires_grad for parameter in policy.module.parameters()] == before


def test_attention_and_mlp_of_the_decoder_are_named_by_one_expression(policy: JanusPolicy) -> None:
    lora.add(policy.module, rank=2, alpha=4, targets=DECODER)
    adapted = {name.partition(".lora_")[0] for name, _ in policy.module.named_parameters() if "lora_" in name}
    parts = (
        *(f"self_attn.{part}_proj" for part in "qkvo"),
        *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    )
    assert adapted == {f"model.language_model.layers.{layer}.{part}" for layer in (0, 1) for part in parts}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_adapters_are_float32_whatever_the_weights_are(policy: JanusPolicy, dtype: torch.dtype) -> None:
    policy.module.to(dtype)
    lora.add(policy.module, rank=2, alpha=4, targets=TARGETS)
    found = {(parameter.dtype, parameter.requires_grad) for parameter in policy.module.parameters()}
    assert found == {(dtype, False), (torch.float32, True)}


def test_low_precision_weights_take_the_sum_rounded_once(policy: JanusPolicy) -> None:
    policy.module.to(torch.bfloat16)
    lora.add(policy.module, rank=2, alpha=4, targets="lm_head")
    shake(policy)
    layer = policy.module.lm_head
    low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (layer.base_layer.weight.float() + 4 / 2 * high @ low).to(torch.bfloat16)
    lora.merge(policy.module)
    assert torch.equal(policy.module.lm_head.weight, expected)


def test_peft_reads_what_is_written(policy: JanusPolicy, janus_folder: Path, tmp_path: Path) -> None:
    start = JanusPolicy(janus_folder, template=TEMPLATE)
    lora.add(policy.module, rank=2, alpha=4, targets=TARGETS)
    shake(policy)
    expected = scores(policy, start)
    lora.write(policy.module, tmp_path / "lora")
    assert sorted(path.name for path in (tmp_path / "lora").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["inference_mode"] is True
    assert len(load_file(tmp_path / "lora" / "adapter_model.safetensors")) == 2 * 6, (
        "two matrices a layer and no weights beside them"
    )
    fresh = JanusPolicy(janus_folder, template=TEMPLATE)
    PeftModel.from_pretrained(fresh.module, tmp_path / "lora")
    assert torch.equal(scores(fresh, start), expected)


def test_written_adapters_stand_in_a_folder_of_their_own_within_the_checkpoint(
    policy: JanusPolicy, tmp_path: Path
) -> None:
    lora.add(policy.module, rank=2, alpha=4, targets=TARGETS)
    shake(policy)
    lora.write(policy.module, tmp_path / "lora")
    lora.merge(policy.module)
    policy.save(tmp_path)
    assert not any("lora_" in name for name in JanusPolicy(tmp_path, template=TEMPLATE).module.state_dict())
    assert not any(
        "lora_" in name for name in JanusForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    )
    for file in (tmp_path / "lora").iterdir():
        shutil.copy(file, tmp_path)
    doubled = JanusForConditionalGeneration.from_pretrained(tmp_path)
    assert any("lora_" in name for name in doubled.state_dict()), (
        "beside the weights transformers would add them a second time"
    )
