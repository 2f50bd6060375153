"""The `policies=` component: refuses wrong settings, and builds an ordinary checkpoint folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize
from mini_world import BENCHMARK, POLICY, TEMPLATE, FakeWorkspace, Interrupted, MiniBenchmark
from omegaconf import OmegaConf
from transformers import AutoTokenizer, JanusForConditionalGeneration

from harness.composition.components import make
from harness.stages.keys import key
from harness.stages.store import DamagedStageError, StageStore
from harness.types import Prompt, Sampling, Stage
from policies.janus import text, tiny
from policies.janus.policy import JanusPolicy
from policies.janus.recipe import Janus, TinyJanus

CONFIG = {"policies": POLICY, "benchmarks": BENCHMARK, "sft_seed": 4}
JANUS = {
    "_target_": "policies.janus.recipe.Janus",
    "checkpoint": "someone/janus",
    "revision": "main",
    "template": TEMPLATE,
    "plans": True,
    "precision": "float32",
    "weights": "float32",
    "recompute": False,
    "pack": None,
}


class Silent:
    """A reporter of stages that says nothing."""

    def begin(self, stage: Stage) -> None: ...

    def wait(self, stage: Stage, owner: object) -> None: ...

    def progress(self, step: int, total: int, metrics: object) -> None: ...


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
        (
            {"vq": POLICY["vq"] | {"patch_size": 2}},
            "policies.vq.patch_size=2: with 3 levels in channel_multiplier it must be 4",
        ),
        (
            {"vq": POLICY["vq"] | {"image_size": 13}},
            "policies.vq.image_size=13: give a multiple of patch_size=4",
        ),
    ],
    ids=["precision", "template", "patch_size", "image_size"],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    settings = {name: value for name, value in POLICY.items() if name != "_target_"}
    with pytest.raises(ValueError) as caught:
        TinyJanus(**settings | changes)
    assert str(caught.value).startswith(message)


def test_the_stage_depends_on_what_makes_the_checkpoint_and_not_on_precision() -> None:
    stage = make(POLICY).start(CONFIG)
    assert (stage.name, stage.program) == ("tokenizer", "policies.janus.tiny.build")
    assert stage.settings["seed"] == 4 and stage.settings["benchmark"] == BENCHMARK
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
    (sample,) = policy.rollout(
        [Prompt(id="0", text="a red circle", category="color")], [1], Sampling(max_chain_tokens=8)
    )
    assert sample.image.size == (12, 12) and len(sample.tokens.image) == 9
    assert not any(parameter.requires_grad for parameter in policy.module.parameters())


def test_the_image_tokenizer_learns_to_draw_what_it_reads(built: FakeWorkspace) -> None:
    policy = JanusPolicy(built.folder / "checkpoint", template=TEMPLATE)
    records = MiniBenchmark(captions=[]).records(4, 7)
    from policies.janus import vq

    codes = [tokens.image for tokens in policy.encode(records)]
    drawn = vq.pixels(vq.decode(policy.module.model.vqmodel, codes))[
        :, 0
    ]  # only red differs between the records
    wanted = vq.pixels([record.image for record in records])[:, 0]
    error, spread = (drawn - wanted).abs().mean(), (wanted - wanted.mean()).abs().mean()
    assert error < 0.8 * spread, f"{error=} {spread=}"
    losses = [line["loss_drawing"] for line in built.lines]
    assert len(losses) == 120 and sum(losses[-20:]) / 20 < 0.5 * sum(losses[:5]) / 5


def test_an_interrupted_build_resumes_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(make({**POLICY, "vq": POLICY["vq"] | {"steps": 7}}).start(CONFIG).settings)
    monkeypatch.setattr(tiny, "SAVE_EVERY", 2)
    whole, cut = FakeWorkspace(tmp_path / "whole"), FakeWorkspace(tmp_path / "cut", stop_at=5)
    tiny.build(whole, settings, {})
    with pytest.raises(Interrupted):
        tiny.build(cut, settings, {})
    again = FakeWorkspace(tmp_path / "cut")
    monkeypatch.setattr(text, "train", lambda *given: pytest.fail("the text tokenizer was trained again"))
    tiny.build(again, settings, {})
    assert again.lines == whole.lines[4:], "steps 5 to 7"
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        made = [folder / "checkpoint" / name for folder in (whole.folder, again.folder)]
        assert made[0].read_bytes() == made[1].read_bytes()


def test_a_damaged_state_of_the_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "training.pt").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"training\.pt: delete it, and the stage starts"):
        tiny.build(FakeWorkspace(tmp_path), dict(make(POLICY).start(CONFIG).settings), {})


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = dict(make({**POLICY, "vq": POLICY["vq"] | {"steps": 5}}).start(CONFIG).settings)
    works = [FakeWorkspace(tmp_path / name) for name in ("first", "second")]
    for work in works:
        tiny.build(work, settings, {})
    first, second = works
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (first.folder / "checkpoint" / name).read_bytes() == (
            second.folder / "checkpoint" / name
        ).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "float16"}, "policies.precision='float16': allowed are float32, bfloat16, auto"),
        ({"weights": "float16"}, "policies.weights='float16': allowed are float32 and bfloat16"),
        ({"weights": "bfloat16"}, "policies.precision=float32 does not go with policies.weights=bfloat16"),
        (
            {"template": "{caption} {caption}"},
            "policies.template='{caption} {caption}': it must hold {caption} once",
        ),
        ({"plans": "yes"}, "policies.plans='yes': give true or false"),
        ({"recompute": 1}, "policies.recompute=1: give true or false"),
        ({"pack": 0}, "policies.pack=0: give a whole number from 1 (tokens), or null"),
        ({"checkpoint": None}, "policies.checkpoint=None: give a text"),
        ({"revision": 7}, "policies.revision=7: give a text"),
    ],
)
def test_wrong_settings_of_a_published_checkpoint(changes: dict[str, Any], message: str) -> None:
    settings = {name: value for name, value in JANUS.items() if name != "_target_"}
    with pytest.raises(ValueError) as caught:
        Janus(**settings | changes)
    assert str(caught.value).startswith(message)


def test_a_folder_counts_by_what_the_checkpoint_is_made_of_wherever_it_lies(
    janus_folder: Path, tmp_path: Path
) -> None:
    here, there = (Path(shutil.copytree(janus_folder, tmp_path / name)) for name in ("here", "there"))
    (there / "README.md").write_text("other words")
    stage, same = (make({**JANUS, "checkpoint": str(place)}).start(CONFIG) for place in (here, there))
    assert stage.name == "checkpoint" and key(stage) == key(same)
    weights = bytearray((there / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (there / "model.safetensors").write_bytes(weights)
    assert key(make({**JANUS, "checkpoint": str(there)}).start(CONFIG)) != key(stage)


def test_a_folder_becomes_a_stage_of_links_that_is_loaded(janus_folder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(janus_folder, tmp_path / "model"))
    recipe = make({**JANUS, "checkpoint": str(place), "plans": False, "pack": 64})
    store, stage = StageStore(tmp_path / "stages"), recipe.start(CONFIG)
    folder = store.make(stage, Silent())
    assert store.is_complete(stage) and (folder / "checkpoint" / "model.safetensors").is_symlink()
    policy = recipe.load(folder / "checkpoint", trainable=True)
    (sample,) = policy.rollout([Prompt(id="0", text="a red circle", category="color")], [1], Sampling())
    assert sample.chain.text == "" and any(
        parameter.requires_grad for parameter in policy.module.parameters()
    )
    place.rename(tmp_path / "elsewhere")
    moved = make({**JANUS, "checkpoint": str(tmp_path / "elsewhere")}).start(CONFIG)
    with pytest.raises(DamagedStageError, match="is missing, so the stage is damaged: delete the folder"):
        store.is_complete(moved)


def test_a_hub_id_becomes_a_stage_that_fetches_it() -> None:
    stage = make(JANUS).start(CONFIG)
    assert (stage.name, stage.program) == ("checkpoint", "policies.janus.fetch.download")
    assert stage.settings == {"repository": "someone/janus", "revision": "main"} and not stage.external


@pytest.mark.parametrize(
    "checkpoint", ["janus", "a/b/c", "./model", "/nowhere/model", "~/nowhere", "some one/janus", "../x"]
)
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_at_planning(checkpoint: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"policies\.checkpoint=.*: there is no such folder, and it is no hub id \(owner/name\)",
    ):
        make({**JANUS, "checkpoint": checkpoint}).start(CONFIG)


def test_a_folder_of_something_else_is_refused_at_planning(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        make({**JANUS, "checkpoint": str(tmp_path)}).start(CONFIG)


@pytest.mark.parametrize(
    ("name", "checkpoint", "plans"),
    [
        ("janus_pro_1b", "deepseek-ai/Janus-Pro-1B", True),
        ("janus_pro_7b", "deepseek-ai/Janus-Pro-7B", True),
        ("got_r1_1b", "gogoduan/GoT-R1-1B", True),
        ("got_r1_7b", "gogoduan/GoT-R1-7B", True),
        ("janus_pro_1b_plain", "deepseek-ai/Janus-Pro-1B", False),
        ("janus_pro_7b_plain", "deepseek-ai/Janus-Pro-7B", False),
    ],
)
def test_every_published_policy_composes(name: str, checkpoint: str, plans: bool) -> None:
    with initialize(version_base="1.3", config_path=None):
        settings = OmegaConf.to_container(compose("config", [f"policies={name}"]).policies, resolve=True)
    assert (settings["checkpoint"], settings["plans"]) == (checkpoint, plans)
    assert settings["template"].startswith("User: Follow the caption" if plans else "<|User|>: {caption}")
    recipe = make(settings)
    assert recipe.trainable and recipe.start(CONFIG).settings["repository"] == checkpoint
