"""The image tokenizer: which code a patch gets, by brute force and by upstream's own vectors."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import JanusVQVAE, JanusVQVAEConfig

from policies.janus import vq
from policies.janus.policy import JanusPolicy


def pictures(count: int) -> list[Image.Image]:
    values = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in values]


def test_pixels_are_from_minus_one_to_one_with_channels_first() -> None:
    image = Image.new("RGB", (3, 2), (0, 255, 51))
    found = vq.pixels([image, image])
    assert found.shape == (2, 3, 2, 3)
    assert found[1, :, 1, 2].tolist() == pytest.approx([-1.0, 1.0, 51 / 127.5 - 1])


def test_codes_are_the_nearest_of_the_normalised_entries(
    policy: JanusPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vq, "IMAGES", 2)
    module = policy.module.model.vqmodel
    images = pictures(5)
    found = vq.encode(module, images)
    with torch.no_grad():
        raw = (
            module.quant_conv(module.encoder(vq.pixels(images)))
            .permute(0, 2, 3, 1)
            .reshape(5, 9, -1)
            .double()
            .numpy()
        )
    entries = module.quantize.embedding.weight.detach().double().numpy()
    entries = entries / np.linalg.norm(entries, axis=1, keepdims=True)
    for row, codes in zip(raw, found, strict=True):
        for latent, code in zip(row, codes, strict=True):
            unit = latent / np.linalg.norm(latent)
            distances = [float(((unit - entry) ** 2).sum()) for entry in entries]
            assert distances[code] <= min(distances) + 1e-6
    assert len({code for codes in found for code in codes}) > 1


def test_large_images_are_decoded_few_at_a_time() -> None:
    def tokenizer(side: int, levels: int) -> SimpleNamespace:
        return SimpleNamespace(
            quantize=SimpleNamespace(quant_state_dims=[side, side]),
            config=SimpleNamespace(channel_multiplier=[1] * levels),
        )

    assert vq.at_a_time(tokenizer(24, 5)) == 7
    assert vq.at_a_time(tokenizer(6, 3)) == 32
    assert vq.at_a_time(tokenizer(400, 5)) == 1


def test_decoded_bytes_are_truncated(policy: JanusPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vq, "IMAGES", 2)
    module = policy.module.model.vqmodel
    codes = [tuple(range(9)), tuple(range(9, 18)), (3,) * 9]
    with torch.no_grad():
        values = module.decode(torch.tensor(codes)).double().numpy()
    expected = np.clip((values + 1) / 2 * 255, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for image, wanted in zip(vq.decode(module, codes), expected, strict=True):
        assert image.size == (12, 12)
        assert (
            np.abs(np.asarray(image).astype(int) - wanted).max() <= 1
        )  # float32 against float64 at a whole number
        assert (np.asarray(image) == wanted).mean() > 0.99


def test_codes_equal_upstreams(conformance_dir: Path) -> None:
    folder = conformance_dir / "janus_tiny"
    config = json.loads((folder / "native_config.json").read_text(encoding="utf-8"))["vq_config"]
    module = JanusVQVAE(JanusVQVAEConfig(**config)).eval()
    upstream = load_file(folder / "checkpoint" / "model.safetensors")
    prefix = "model.vqmodel."
    weights = {
        entry["native"][0].removeprefix(prefix): upstream[entry["original"]]
        for entry in json.loads((folder / "key_mapping.json").read_text(encoding="utf-8"))
        if entry["op"] == "copy" and entry["native"][0].startswith(prefix)
    }
    module.load_state_dict(weights)
    golden = load_file(folder / "golden_got.safetensors")
    with torch.no_grad():
        found = vq.nearest(module, vq.latents(module, golden["pixel_values"]))
    assert found.tolist() == golden["vq_encode_ids"].reshape(found.shape).tolist()


def test_patches_are_cut_row_by_row() -> None:
    image = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    found = vq.patches(image, 2)
    assert found.shape == (8, 12)
    for index in range(8):
        one, row, column = index // 4, index // 2 % 2, index % 2
        assert (
            found[index].tolist()
            == image[one, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten().tolist()
        )


def test_kmeans_gives_distinct_points_their_own_cluster_where_there_is_room() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(6, 4, generator=generator)[[0, 1, 2, 3, 4, 5, 0, 3]]
    owner = vq.kmeans(points, 10, generator)
    assert len(set(owner.tolist())) == 6
    assert owner[0] == owner[6] and owner[3] == owner[7]


def test_kmeans_finds_clusters_far_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = 100 * torch.eye(3).repeat_interleave(20, 0)
    owner = vq.kmeans(middles + torch.randn(60, 3, generator=generator), 3, generator)
    assert [len(set(owner[start : start + 20].tolist())) for start in (0, 20, 40)] == [1, 1, 1]
    assert len(set(owner.tolist())) == 3
