"""Checkpoint folders: complete ones open in either layout; errors name each kind of fault and its remedy."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import upstream_layout
from mini_world import TEMPLATE
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, JanusForConditionalGeneration, LlamaConfig

from policies.janus import checkpoint
from policies.janus.policy import JanusPolicy


@pytest.fixture
def copy(janus_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(janus_folder, tmp_path / "copy"))


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    upstream_layout.write(tmp_path / "upstream", shards=2)
    return tmp_path / "upstream"


def test_a_whole_folder_loads_in_evaluation_mode_in_float32(janus_folder: Path) -> None:
    model = checkpoint.load(janus_folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    weights = load_file(janus_folder / "model.safetensors")
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])


def test_bfloat16_is_for_all_but_the_image_tokenizer_and_is_saved_as_it_is(
    upstream: Path, tmp_path: Path
) -> None:
    policy = JanusPolicy(upstream, template=TEMPLATE, weights="bfloat16")
    policy.save(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    for name, value in policy.module.state_dict().items():
        assert value.dtype == (torch.float32 if name.startswith("model.vqmodel.") else torch.bfloat16), name
        assert torch.equal(saved[name], value) and saved[name].dtype == value.dtype
    again = checkpoint.load(tmp_path / "saved", torch.bfloat16)
    assert all(torch.equal(again.state_dict()[name], saved[name]) for name in saved)


def test_saved_and_loaded_it_is_the_same(janus_folder: Path, tmp_path: Path) -> None:
    JanusPolicy(janus_folder, template=TEMPLATE).save(tmp_path / "new" / "folder")
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "new" / "folder" / name).read_bytes() == (janus_folder / name).read_bytes()
    checkpoint.load(tmp_path / "new" / "folder")


def test_a_published_checkpoint_is_saved_as_one_that_transformers_opens(
    upstream: Path, tmp_path: Path
) -> None:
    JanusPolicy(upstream, template=TEMPLATE).save(tmp_path / "saved")
    opened, report = JanusForConditionalGeneration.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.arange(30)[None]
    first, again = checkpoint.load(upstream), checkpoint.load(tmp_path / "saved")
    with torch.no_grad():
        logits = first(input_ids=ids).logits
        assert torch.equal(opened(input_ids=ids).logits, logits) and torch.equal(
            again(input_ids=ids).logits, logits
        )
    assert opened.config.tie_word_embeddings is False and not torch.equal(
        opened.lm_head.weight, opened.get_input_embeddings().weight
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.convert_tokens_to_ids("<image_placeholder>") == opened.config.image_token_id


def test_transformers_own_generate_draws_from_a_saved_folder_what_the_policy_draws(
    upstream: Path, tmp_path: Path
) -> None:
    from harness.types import Sampling

    policy = JanusPolicy(upstream, template=TEMPLATE, plans=False)
    policy.save(tmp_path / "saved")
    opened = JanusForConditionalGeneration.from_pretrained(tmp_path / "saved")
    prompt = policy._text.prompt_ids("a red circle")
    (drawn,) = policy.engine.rollout(
        [prompt], [0], Sampling(guidance=3.0, image_temperature=0.0, max_chain_tokens=0)
    ).tokens
    ids = torch.tensor([[*prompt, policy._text.boi]])
    mask = torch.ones_like(ids)
    settings = opened.generation_config
    settings.guidance_scale = 3.0
    native = opened.generate(ids, attention_mask=mask, generation_mode="image", generation_config=settings)
    assert tuple(native[0].tolist()) == drawn.image


def _llama(folder: Path) -> None:
    LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50).save_pretrained(
        folder
    )


def _edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(values | changes), encoding="utf-8")

    return edit


def _edit_weights(
    edit: Callable[[dict[str, torch.Tensor]], object], name: str = "model.safetensors"
) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        weights = load_file(folder / name)
        edit(weights)
        save_file(
            {name: value.contiguous() for name, value in weights.items()},
            folder / name,
            metadata={"format": "pt"},
        )

    return apply


def _cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _pointer(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )


def _slow_tokenizer_only(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("never",)


def _pickle(content: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        if isinstance(content, bytes):
            (folder / "pytorch_model.bin").write_bytes(content)
        else:
            torch.save(content, folder / "pytorch_model.bin")

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "has no config.json: give the whole folder"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json: give the whole folder"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (
            _slow_tokenizer_only,
            "has no tokenizer.json (only tokenizer.model, tokenizer_config.json, from which transformers'",
        ),
        (
            _pointer("tokenizer.json"),
            "tokenizer.json is a git-lfs pointer and not the file itself: run `git lfs pull`",
        ),
        (
            _pointer("model.safetensors"),
            "model.safetensors is a git-lfs pointer and not the file itself: run `git lfs pull`",
        ),
        (_pointer("config.json"), "config.json is a git-lfs pointer"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is no model configuration"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json is no model configuration"),
        (_llama, "config.json is of model_type 'llama', allowed are 'multi_modality' and 'janus'"),
        (
            _edit_config(model_type="multi_modality"),
            "config.json does not describe a Janus (it has no language_config)",
        ),
        (_edit_config(text_config={"num_hidden_layers": "two"}), "config.json does not describe a Janus"),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "has no weights, neither model.safetensors nor model.safetensors.index.json nor",
        ),
        (_cut, "model.safetensors cannot be read as safetensors"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b""),
            "model.safetensors cannot be read as safetensors",
        ),
        (
            _edit_weights(
                lambda weights: [weights.pop(name) for name in ("lm_head.weight", "model.aligner.fc1.bias")]
            ),
            "is not a whole Janus checkpoint: 2 weights are missing, first",
        ),
        (
            _edit_weights(lambda weights: weights.update({"lm_head.weight": weights["lm_head.weight"][:-1]})),
            "is not a whole Janus checkpoint: 1 weights are of another shape, first lm_head.weight ([",
        ),
        (
            _edit_weights(lambda weights: weights.update({"vision_gen_enc.stem": torch.zeros(1)})),
            "is not a whole Janus checkpoint: 1 weights are unknown to Janus, first vision_gen_enc.stem",
        ),
        (
            _pickle({"lm_head.weight": _Code()}),
            "pytorch_model.bin would run code when opened and is refused: give the same model as safetensors",
        ),
        (
            _pickle({"state_dict": {"lm_head.weight": torch.zeros(1)}}),
            "pytorch_model.bin is no plain mapping of names to weights",
        ),
        (_pickle(b"<html>not found</html>"), "pytorch_model.bin cannot be read as weights"),
        (_pickle(b""), "pytorch_model.bin cannot be read as weights"),
    ],
)
def test_a_wrong_folder_is_named_with_its_fault_and_the_remedy(
    copy: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(copy)
    with pytest.raises(ValueError) as caught:
        JanusPolicy(copy, template=TEMPLATE)
    assert str(copy) in str(caught.value)
    assert message in str(caught.value)
    assert not (Path.cwd() / "never").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(),
            "lacks 1 of the 2 shards its index names, first model-00002-of",
        ),
        (
            _pointer("model-00002-of-00002.safetensors"),
            "model-00002-of-00002.safetensors is a git-lfs pointer",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text("{"),
            "index.json is no index of shards",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text("{}"),
            "index.json is no index of shards",
        ),
        (lambda folder: (folder / "model.safetensors.index.json").unlink(), "has no weights"),
        (
            _edit_weights(
                lambda weights: weights.pop("gen_embed.weight"), "model-00001-of-00002.safetensors"
            ),
            "1 weights are missing, first model.generation_embeddings.weight",
        ),
        (
            _edit_weights(
                lambda weights: weights.update({"gen_embeds.weight": torch.zeros(1)}),
                "model-00001-of-00002.safetensors",
            ),
            "1 weights are unknown to Janus, first gen_embeds.weight",
        ),
        (
            _edit_config(language_config={**upstream_layout.LANGUAGE, "vocab_size": 400}),
            "weights are of another shape, first",
        ),
    ],
)
def test_a_wrong_folder_of_the_published_layout_is_named_too(
    upstream: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(upstream)
    with pytest.raises(ValueError) as caught:
        JanusPolicy(upstream, template=TEMPLATE)
    assert str(upstream) in str(caught.value)
    assert message in str(caught.value)


def test_safetensors_go_before_pickles_and_what_else_lies_there_is_not_read(upstream: Path) -> None:
    before = checkpoint.load(upstream).state_dict()
    (upstream / "pytorch_model.bin").write_bytes(b"of somebody else")
    (upstream / "optimizer.bin").write_bytes(b"of somebody else")
    after = checkpoint.load(upstream).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_tokenizer_larger_than_the_model_is_refused(copy: Path) -> None:
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<one more>")])
    tokenizer.save(str(copy / "tokenizer.json"))
    with pytest.raises(
        ValueError,
        match=r"the tokenizer has ids up to \d+ but the model only \d+ rows: give the tokenizer that belongs",
    ):
        JanusPolicy(copy, template=TEMPLATE)


def test_a_tokenizer_smaller_than_the_model_leaves_its_rows_as_they_are(upstream: Path) -> None:
    policy = JanusPolicy(upstream, template=TEMPLATE)
    assert policy.module.lm_head.out_features == policy._text.rows + 3


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod.", "_fsdp_wrapped_module."]
)
@pytest.mark.parametrize("layout", ["transformers", "published"])
def test_the_prefix_of_a_wrapper_is_named(copy: Path, upstream: Path, prefix: str, layout: str) -> None:
    folder = copy if layout == "transformers" else upstream
    for file in folder.glob("*.safetensors"):
        save_file({f"{prefix}{name}": value for name, value in load_file(file).items()}, file)
    with pytest.raises(ValueError, match=r"is not a whole Janus checkpoint") as caught:
        checkpoint.load(folder)
    assert f"the names hold {prefix!r}, as those of a wrapped model do: save the weights again" in str(
        caught.value
    )


def test_a_wrapper_within_the_names_and_adapters_are_named(copy: Path) -> None:
    file = copy / "model.safetensors"
    weights = load_file(file)
    inner = {
        name.replace("model.language_model.", "model.language_model._orig_mod."): value
        for name, value in weights.items()
    }
    save_file(inner, file)
    with pytest.raises(ValueError, match=r"the names hold '_orig_mod\.'"):
        checkpoint.load(copy)
    adapted = {f"base_model.model.{name}": value for name, value in weights.items()}
    save_file({**adapted, "base_model.model.lm_head.lora_A.default.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"'base_model\.model\.'.* first merge its LoRA adapters"):
        checkpoint.load(copy)
