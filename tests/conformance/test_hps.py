"""The loader computes what HPSv2's own open_clip computed: pixels, features, cosines (float32).
Every `hps_*` folder is a case.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from harness.experts.similarity.cosine import pair_cosines
from harness.experts.similarity.hps import pixels_of
from harness.experts.similarity.open_clip import clip_model, read_checkpoint

ROOT = Path(
    os.environ.get("CONFORMANCE_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "conformance")
)
FOLDERS = sorted(folder for folder in ROOT.glob("hps_*") if (folder / "expected.json").is_file())

pytestmark = pytest.mark.skipif(not FOLDERS, reason=f"no hps_* goldens under {ROOT}: set CONFORMANCE_DIR")


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def folder(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model(folder: Path, expected: dict[str, Any]) -> Any:
    torch.set_num_threads(1)
    vision, text = expected["config"]["vision_cfg"], expected["config"]["text_cfg"]
    (file,) = folder.glob("*.pt")
    heads = {"vision_heads": vision["width"] // vision.get("head_width", 64), "text_heads": text["heads"]}
    return clip_model(read_checkpoint(file), **heads).eval()


@pytest.fixture(scope="module")
def pixels(folder: Path, expected: dict[str, Any]) -> list[torch.Tensor]:
    images = [Image.open(folder / name) for name in expected["images"]]
    return [pixels_of(image, expected["config"]["vision_cfg"]["image_size"]) for image in images]


def test_the_pixels_are_the_official_ones(expected, pixels):
    assert expected["pixel_probe"] and len(pixels) == len(expected["pixel_sum"])
    for probe in expected["pixel_probe"]:
        assert pixels[probe["image"]][tuple(probe["index"])].item() == pytest.approx(probe["value"], abs=1e-5)
    assert [one.double().sum().item() for one in pixels] == pytest.approx(
        expected["pixel_sum"], rel=1e-6, abs=0.01
    )


def test_features_and_cosines_are_the_official_ones(expected, model, pixels):
    ids = torch.tensor(expected["token_ids"])
    with torch.inference_mode():
        images = model.get_image_features(torch.stack(pixels)).pooler_output
        texts = model.get_text_features(ids).pooler_output
    for found, name in ((images, "image_features"), (texts, "text_features")):
        torch.testing.assert_close(
            torch.nn.functional.normalize(found, dim=-1), torch.tensor(expected[name]), atol=1e-5, rtol=0
        )
    pairs = [(row, column) for row in range(len(images)) for column in range(len(texts))]
    rows, columns = zip(*pairs, strict=True)
    found = pair_cosines(
        [pixels[row] for row in rows],  # tensors in place of pictures: told apart by identity
        [str(column) for column in columns],
        lambda block: model.get_image_features(torch.stack(list(block))).pooler_output,
        lambda block: model.get_text_features(ids[[int(name) for name in block]]).pooler_output,
        batch=4,
    )
    assert found == pytest.approx([expected["cosine"][row][column] for row, column in pairs], abs=1e-5)
    diagonal = [found[row * len(texts) + row] for row in range(min(len(images), len(texts)))]
    assert diagonal == pytest.approx(expected["score_diagonal"], abs=1e-5)
    assert model.logit_scale.item() == pytest.approx(expected["logit_scale_parameter"], abs=1e-5)


def test_the_sizes_are_read_from_the_tensors(expected, model):
    vision, text = expected["config"]["vision_cfg"], expected["config"]["text_cfg"]
    config = model.config
    assert (
        config.vision_config.image_size == vision["image_size"]
        and config.vision_config.num_hidden_layers == vision["layers"]
    )
    assert (
        config.text_config.max_position_embeddings == text["context_length"]
        and config.text_config.vocab_size == text["vocab_size"]
    )
    assert config.vision_config.hidden_act == config.text_config.hidden_act == "gelu"
