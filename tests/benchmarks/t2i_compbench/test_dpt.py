"""DPT hybrid on a tiny random one, against the official steps done one by one."""

from __future__ import annotations

import mini_dpt
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import CLIPConfig, CLIPModel, DPTForDepthEstimation

from benchmarks.t2i_compbench.models.dpt import DptHybrid
from harness.types import Chain, Prompt, Sample, Tokens

torch.set_num_threads(1)
SERVING = {"device": "cpu", "batch_size": 2}
SIZES = [(64, 48), (37, 90), (20, 20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dpt") / "dpt-hybrid-midas"
    mini_dpt.write_dpt(folder)
    return folder


def expert(folder, **change) -> DptHybrid:
    return DptHybrid(
        **{"model": str(folder), "serving": SERVING, "where": "benchmarks.scoring.depth", **change}
    )


def samples(sizes=SIZES) -> list[Sample]:
    nothing = Chain(text="", objects=(), bare_text="")
    noise = np.random.default_rng(0)
    small = [
        Image.fromarray(noise.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(size) for size in sizes
    ]
    prompt = Prompt(id="p", text="a dog in front of a cat", category="3D-spatial")
    none = Tokens(prompt=(), chain=(), image=())
    return [
        Sample(prompt=prompt, chain=nothing, image=image, tokens=none, logprobs=(), seed=0) for image in small
    ]


def naive(folder, image: Image.Image) -> np.ndarray:
    """Floats from 0 to 255, before they are cut: rows and columns are stretched by numpy."""
    model = DPTForDepthEstimation.from_pretrained(folder).eval()
    model.dpt.embeddings.image_size = (480, 480)
    for norm in model.modules():
        if isinstance(norm, torch.nn.LayerNorm):
            norm.eps = 1e-6
    pixels = (
        np.asarray(image.resize((480, 480), Image.Resampling.BILINEAR), dtype=np.float32) / 255 - 0.5
    ) / 0.5
    with torch.no_grad():
        depth = (
            model(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
            .predicted_depth[0]
            .double()
            .numpy()
        )
    assert depth.shape == (480, 480)
    depth = (depth - depth.min()) / (depth.max() - depth.min())
    columns, rows = (np.linspace(0, 479, count) for count in image.size)
    wide = np.stack([np.interp(columns, np.arange(480), row) for row in depth])
    return 255 * np.stack([np.interp(rows, np.arange(480), column) for column in wide.T], axis=1)


def test_depth_is_that_of_the_official_steps_whatever_the_batch(folder):
    own = samples()
    for batch in (1, 8):
        found = expert(folder, serving={**SERVING, "batch_size": batch}).depth(own)
        for sample, depth in zip(own, found, strict=True):
            assert depth.mode == "L" and depth.size == sample.image.size
            wanted, got = naive(folder, sample.image), np.asarray(depth)
            assert np.all((got > wanted - 1.01) & (got < wanted + 0.01)), "a fraction of a level is cut off"
            assert len(np.unique(got)) > 20


def test_a_mirrored_image_is_looked_at_mirrored(folder):
    own = samples()[:1]
    [mirrored], [plain] = expert(folder).depth(own, mirrored=True), expert(folder).depth(own)
    wanted = naive(folder, ImageOps.mirror(own[0].image))
    assert np.abs(np.asarray(mirrored) - wanted).max() < 1.01
    assert np.asarray(mirrored).tolist() != np.asarray(ImageOps.mirror(plain)).tolist()


def test_a_flat_depth_is_a_reason_and_no_picture(tmp_path):
    mini_dpt.write_dpt(tmp_path / "flat", flat=True)
    flat = expert(tmp_path / "flat")
    assert flat.name == "DPT (flat)"
    assert flat.depth(samples()[:1]) == [
        "the depth model sees the same depth everywhere in the image, so that nothing is nearer "
        "than anything else"
    ]
    assert flat.depth([]) == []


def test_damaged_weights_are_refused(folder, tmp_path):
    model = DPTForDepthEstimation.from_pretrained(folder)
    with torch.no_grad():
        model.head.head[0].bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(ValueError, match=r"benchmarks\.scoring\.depth: the weights give no finite depth"):
        expert(tmp_path / "nan").depth(samples()[:1])


def test_a_model_that_is_not_there_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    absent = expert("Intel/dpt-hybrid-midas")
    assert absent.name == "DPT hybrid"
    [line] = absent.missing()
    assert (
        "benchmarks.scoring.depth.model=Intel/dpt-hybrid-midas is not in the hub's cache" in line
        and "hf download" in line
    )


def test_another_models_folder_is_refused(tmp_path):
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    CLIPModel(
        CLIPConfig(text_config=tower, vision_config={**tower, "image_size": 28, "patch_size": 14})
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is of type clip, and a DPTForDepthEstimation is wanted"):
        expert(tmp_path).load()


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(
        ValueError, match=r"benchmarks\.scoring\.depth\.serving\.batch_size=0: give a whole number from 1"
    ):
        expert("hub/model", serving={**SERVING, "batch_size": 0})
