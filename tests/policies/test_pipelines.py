"""Diffusion pipelines as policies, with a tiny random Stable Diffusion built here."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from mini_world import ROLLOUT, FakeWorkspace
from PIL import Image, ImageChops

from harness.types import Chain, Prompt, Sampling, Tokens
from policies.pipelines.fetch import fetch
from policies.pipelines.recipe import Pipeline

SETTINGS = {
    "revision": None,
    "steps": 3,
    "guidance": 7.5,
    "height": 16,
    "width": 24,
    "dtype": "float32",
    "placement": "whole",
    "batch_size": 4,
    "safety_checker": False,
    "options": {},
}
CONFIG = {"evaluation": {"rollout": ROLLOUT}}
PROMPTS = [
    Prompt(id=f"p{number}", text=text, category="color")
    for number, text in enumerate(("a cat", "a dog with a hat", "x"))
]
SEEDS = [2**62 + 5, 7, 8]


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of a few thousand random weights, as `save_pretrained` writes it."""
    diffusers = pytest.importorskip(
        "diffusers", minversion="0.42", reason="the extra `diffusers` is not installed"
    )
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    sizes: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    made = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            **sizes,
            latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
        ),
        unet=diffusers.UNet2DConditionModel(
            **sizes,
            sample_size=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                num_attention_heads=2,
                num_hidden_layers=1,
            )
        ),
        tokenizer=CLIPTokenizer(
            vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=16
        ),
        scheduler=diffusers.DDPMScheduler(steps_offset=1, clip_sample=False),  # draws noise at every step
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    made.save_pretrained(folder)
    return folder


@pytest.fixture
def load(pipeline: Path, tmp_path: Path):
    """The policy as a study gets it: the stage `pipeline`, then `load`."""

    def make(**changes: Any):
        recipe = Pipeline(**{**SETTINGS, "pipeline": str(pipeline), **changes})
        stage = recipe.start(CONFIG)
        assert stage.external == (str(pipeline),)
        fetch(FakeWorkspace(tmp_path), dict(stage.settings), {})
        return recipe.load(tmp_path / "checkpoint")

    return make


def difference(one: Image.Image, other: Image.Image) -> int:
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def test_samples_have_the_images_of_their_prompts_and_neither_chain_nor_tokens(load) -> None:
    samples = load().rollout(PROMPTS, SEEDS, Sampling(guidance=5.0))
    assert [(sample.prompt, sample.seed) for sample in samples] == list(zip(PROMPTS, SEEDS, strict=True))
    for sample in samples:
        assert sample.chain == Chain(text="", objects=(), bare_text="")
        assert sample.tokens == Tokens(prompt=(), chain=(), image=()) and sample.logprobs == ()
        assert sample.image.size == (24, 16) and sample.image.mode == "RGB"
    assert difference(samples[0].image, samples[1].image) > 10


def test_an_image_depends_on_its_seed_and_not_on_its_batch(load) -> None:
    policy = load(batch_size=3)
    together = policy.rollout(PROMPTS, SEEDS, Sampling())
    apart = load(batch_size=1).rollout(PROMPTS[::-1], SEEDS[::-1], Sampling())[::-1]
    assert all(difference(one.image, other.image) <= 1 for one, other in zip(together, apart, strict=True))
    (other,) = policy.rollout(PROMPTS[:1], [SEEDS[0] + 1], Sampling())
    assert difference(together[0].image, other.image) > 10


def test_guidance_and_options_reach_the_pipeline(load) -> None:
    (plain,) = load().rollout(PROMPTS[:1], SEEDS[:1], Sampling())
    for changes in ({"guidance": 1.0}, {"steps": 5}, {"options": {"guidance_rescale": 0.7}}):
        (other,) = load(**changes).rollout(PROMPTS[:1], SEEDS[:1], Sampling())
        assert difference(plain.image, other.image) > 0, changes


def test_an_unknown_option_is_named_with_the_known(load) -> None:
    with pytest.raises(ValueError, match=r"StableDiffusionPipeline takes no stepz; it takes prompt, height"):
        load(options={"stepz": 3})


class Blackening:
    """A safety checker that rejects every second image."""

    def __call__(self, images: Any, clip_input: Any) -> tuple[Any, list[bool]]:
        flags = [place % 2 == 1 for place in range(len(images))]
        for place, flag in enumerate(flags):
            if flag:
                images[place] = 0
        return images, flags


def test_a_black_image_is_an_error(load, monkeypatch) -> None:
    policy = load()

    def blackened(image: Any, device: Any, dtype: Any) -> Any:
        flags = [place % 2 == 1 for place in range(len(image))]
        for place, flag in enumerate(flags):
            image[place] = 0 if flag else image[place]
        return image, flags

    monkeypatch.setattr(policy._pipe, "run_safety_checker", blackened)
    with pytest.raises(
        ValueError,
        match=r"the image of 'a dog with a hat' \(p1\) is black: the pipeline's safety checker"
        r" .*safety_checker=false",
    ):
        policy.rollout(PROMPTS, SEEDS, Sampling())
    monkeypatch.setattr(
        policy._pipe, "run_safety_checker", lambda image, device, dtype: (image * 0 - 1, None)
    )
    with pytest.raises(ValueError, match=r"'a cat' \(p0\) is black: .*policies\.dtype=bfloat16"):
        policy.rollout(PROMPTS, SEEDS, Sampling())


def test_the_safety_checker_stays_only_where_it_is_asked_for(load, monkeypatch) -> None:
    diffusers = pytest.importorskip("diffusers")
    original = diffusers.DiffusionPipeline.from_pretrained

    def with_checker(*words: Any, **settings: Any) -> Any:
        made = original(*words, **settings)
        made.safety_checker = Blackening()
        return made

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", with_checker)
    assert load()._pipe.safety_checker is None
    assert isinstance(load(safety_checker=True)._pipe.safety_checker, Blackening)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipeline": None}, "policies.pipeline=None: give a hub id, OWNER/NAME, or a folder that is there"),
        ({"pipeline": "/no/such/folder"}, "policies.pipeline=/no/such/folder: give a hub id"),
        ({"steps": 0}, "policies.steps=0: give a whole number from 1"),
        ({"height": 1.5}, "policies.height=1.5: give a whole number from 1"),
        ({"batch_size": None}, "policies.batch_size=None: give a whole number from 1"),
        ({"guidance": "strong"}, "policies.guidance='strong': give a number from 0"),
        ({"dtype": "half"}, "policies.dtype='half': allowed are float32, bfloat16, float16"),
        ({"placement": "cpu"}, "policies.placement='cpu': allowed are whole, models, layers"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Pipeline(**{**SETTINGS, "pipeline": "owner/name", **changes})
    assert str(caught.value).startswith(message)


def test_a_hub_id_is_planned_without_the_hub() -> None:
    stage = Pipeline(**SETTINGS, pipeline="owner/name").start(CONFIG)
    assert stage.external == () and stage.settings == {"pipeline": "owner/name", "revision": None}


def test_equal_seeds_are_refused_when_the_cell_is_planned() -> None:
    config = {"evaluation": {"rollout": {**ROLLOUT, "random": "upstream"}}}
    with pytest.raises(ValueError, match=r"use evaluation\.rollout\.random=per_sample"):
        Pipeline(**SETTINGS, pipeline="owner/name").start(config)


def test_the_missing_library_is_named_with_its_command(monkeypatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def absent(name: str, *words: Any, **more: Any) -> Any:
        if name == "diffusers":
            raise ImportError("No module named 'diffusers'")
        return real(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match=r'needs the library diffusers .*pip install "diffusers>=0\.42"'):
        fetch(FakeWorkspace(tmp_path), {"pipeline": "owner/name", "revision": None}, {})


def test_a_pipeline_that_the_hub_does_not_give(monkeypatch, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")

    def refuse(*words: Any, **settings: Any) -> Any:
        raise OSError("no connection")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", refuse)
    with pytest.raises(
        ValueError, match=r"the pipeline owner/name cannot be fetched: no connection\n.*HF_TOKEN"
    ):
        fetch(FakeWorkspace(tmp_path), {"pipeline": "owner/name", "revision": None}, {})
