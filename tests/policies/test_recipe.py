"""The `policies=` component: refuses wrong settings, and builds an ordinary checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mini_world import BENCHMARK, POLICY, TEMPLATE, FakeWorkspace, MiniBenchmark
from transformers import AutoTokenizer, JanusForConditionalGeneration

from harness.components import make
from harness.protocols import Sampling
from harness.types import Prompt
from policies.janus import tiny
from policies.janus.policy import JanusPolicy

CONFIG = {"policies": POLICY, "benchmarks": BENCHMARK, "sft_seed": 3}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> FakeWorkspace:
    torch.set_num_threads(1)
    work = FakeWorkspace(tmp_path_factory.mktemp("tokenizer"))
    tiny.build(work, dict(make(POLICY).start(CONFIG).settings), {})
    return work


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "float16"}, "policies.precision='float16': allowed are float32, bfloat16, auto"),
        ({"template": "Draw:"}, "policies.template='Draw:': it must hold {caption} once"),
        ({"vq": POLICY["vq"] | {"patch_size": 2}}, "policies.vq.patch_size=2: with 3 levels in channel_multiplier it must be 4"),
        ({"vq": POLICY["vq"] | {"image_size": 13}}, "policies.vq.image_size=13: give a multiple of patch_size=4"),
    ],
    ids=["precision", "template", "patch_size", "image_size"],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    from policies.janus.recipe import TinyJanus

    settings = {name: value for name, value in POLICY.items() if name != "_target_"}
    with pytest.raises(ValueError) as caught:
        TinyJanus(**settings | changes)
    assert str(caught.value).startswith(message)


def test_the_stage_depends_on_what_makes_the_checkpoint_and_not_on_precision() -> None:
    stage = make(POLICY).start(CONFIG)
    assert (stage.name, stage.program) == ("tokenizer", "policies.janus.tiny.build")
    assert stage.settings["seed"] == 3 and stage.settings["benchmark"] == BENCHMARK
    assert make({**POLICY, "precision": "bfloat16"}).start(CONFIG) == stage
    json.dumps(stage.settings)


def test_the_folder_is_an_ordinary_transformers_checkpoint(built: FakeWorkspace) -> None:
    folder = built.folder / "checkpoint"
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names <= {path.name for path in folder.iterdir()}
    model, report = JanusForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    opened = AutoTokenizer.from_pretrained(folder)
    assert model.config.text_config.vocab_size == len(opened)
    assert model.config.text_config.bos_token_id == opened.bos_token_id
    assert model.config.text_config.eos_token_id == opened.eos_token_id


def test_what_was_built_is_loaded_and_draws(built: FakeWorkspace) -> None:
    policy = make(POLICY).load(built.folder / "checkpoint")
    (sample,) = policy.rollout([Prompt(id="0", text="a red circle", category="color")], [1], Sampling(max_chain_tokens=8))
    assert sample.image.size == (12, 12) and len(sample.tokens.image) == 9
    assert not any(parameter.requires_grad for parameter in policy.module.parameters())


def test_the_image_tokenizer_learns_to_draw_what_it_reads(built: FakeWorkspace) -> None:
    policy = JanusPolicy(built.folder / "checkpoint", template=TEMPLATE)
    records = MiniBenchmark(captions=[]).records(3, 7)
    from policies.janus import vq

    codes = [tokens.image for tokens in policy.encode(records)]
    drawn = vq.pixels(vq.decode(policy.module.model.vqmodel, codes))[:, 0]  # only red differs between the records
    wanted = vq.pixels([record.image for record in records])[:, 0]
    error, spread = (drawn - wanted).abs().mean(), (wanted - wanted.mean()).abs().mean()
    assert error < 0.8 * spread, f"{error=} {spread=}"
    losses = [line["loss_drawing"] for line in built.lines]
    assert len(losses) == 120 and sum(losses[-20:]) / 20 < 0.5 * sum(losses[:5]) / 5


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = dict(make({**POLICY, "vq": POLICY["vq"] | {"steps": 5}}).start(CONFIG).settings)
    works = [FakeWorkspace(tmp_path / name) for name in ("first", "second")]
    for work in works:
        tiny.build(work, settings, {})
    first, second = works
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (first.folder / "checkpoint" / name).read_bytes() == (second.folder / "checkpoint" / name).read_bytes()
