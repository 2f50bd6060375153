"""A tiny random CLIP behind the similarity protocol, and the advice of all experts if weights are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPProcessor

from harness.experts.similarity.clip import Clip
from harness.experts.similarity.cosine import pair_cosines

torch.set_num_threads(1)
SERVING = {"batch_size": 2, "device": "cpu"}
SETTINGS = {"serving": SERVING, "dtype": "float32", "long_texts": "cut"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from mini_experts import write_clip

    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


def sample_images() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in ((28, 28), (40, 60), (50, 31))
    ]


def naive(folder, image: Image.Image, text: str) -> float:
    """One image and one text through the library, the image resized and cropped as officially."""
    model, processor = (
        CLIPModel.from_pretrained(folder).eval(),
        CLIPProcessor.from_pretrained(folder, backend="pil"),
    )
    width, height = (int(28 * length / min(image.size)) for length in image.size)
    left, top = round((width - 28) / 2), round((height - 28) / 2)
    image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 28, top + 28))
    with torch.no_grad():
        output = model(
            **processor(text=[text], images=image, return_tensors="pt", truncation=True, max_length=77)
        )
    return (output.logits_per_image / model.logit_scale.exp()).item()


def test_it_is_the_raw_cosine_of_each_pair(folder):
    images, texts = sample_images(), ["a red dog", "x", "a red dog"]
    found = Clip(model=str(folder), **SETTINGS).similarity(images, texts)
    assert found == pytest.approx(
        [naive(folder, image, text) for image, text in zip(images, texts, strict=True)], abs=1e-5
    )
    assert len({round(value, 4) for value in found}) == 3


def test_a_long_text_is_cut(folder):
    (image, *_), clip = sample_images(), Clip(model=str(folder), **SETTINGS)
    long = "dog" * 100
    assert clip.similarity([image], [long]) == pytest.approx([naive(folder, image, long)], abs=1e-5)
    assert clip.similarity([image, image], [long, long + " cat"]) == pytest.approx(
        [naive(folder, image, long)] * 2, abs=1e-5
    )


def test_a_long_text_is_unscored_where_it_shall_be(folder):
    images, texts = (
        sample_images(),
        ["dog" * 25, "dog" * 25 + "s", "x"],
    )  # letters are tokens: 75 of them and the two ends are 77
    cut = Clip(model=str(folder), **SETTINGS).similarity(images, texts)
    found = Clip(model=str(folder), **{**SETTINGS, "long_texts": "unscored"}).similarity(images, texts)
    assert found == [pytest.approx(cut[0]), None, pytest.approx(cut[2])] and cut[1] is not None
    assert Clip(model=str(folder), **{**SETTINGS, "long_texts": "unscored"}).similarity([], []) == []


def test_loading_finds_what_is_not_there(folder, tmp_path):
    Clip(model=str(folder), **SETTINGS).load()
    with pytest.raises(ValueError, match="no CLIPModel could be loaded"):
        Clip(model=str(tmp_path), **SETTINGS).load()


def test_gray_and_transparent_images_are_read_as_rgb(folder):
    clip = Clip(model=str(folder), **SETTINGS)
    grey = Image.new("L", (30, 30), 120)
    values = clip.similarity([grey, grey.convert("RGBA"), grey.convert("RGB")], ["dog"] * 3)
    assert values == pytest.approx([values[0]] * 3, abs=1e-6)


def test_equal_images_and_texts_are_embedded_once():
    asked: list[object] = []

    def embed(block):
        asked.extend(block)
        return torch.tensor([[float(len(str(item))), 1.0] for item in block])

    first, second = sample_images()[:2]
    found = pair_cosines([first, first, second], ["dog", "cats", "dog"], embed, embed, batch=1)
    assert asked == [first, second, "dog", "cats"]
    assert len(found) == 3 and found[0] != found[1]
    assert pair_cosines([], [], embed, embed, batch=1) == []


def test_features_that_are_no_numbers_are_no_similarity():
    def embed(block):
        return torch.tensor([[float("nan") if item == "bad" else 1.0, 2.0] for item in block])

    assert pair_cosines(sample_images()[:2], ["bad", "good"], embed, embed, batch=8) == [
        None,
        pytest.approx(1.0),
    ]


def test_every_image_requires_its_text(folder):
    with pytest.raises(ValueError, match="3 images and 1 texts: give one text for each image"):
        Clip(model=str(folder), **SETTINGS).similarity(sample_images(), ["dog"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"serving": {**SERVING, "batch_size": 0}},
            "clip.similarity.serving.batch_size=0: give a whole number from 1",
        ),
        (
            {"serving": {**SERVING, "device": "gpu"}},
            "clip.similarity.serving.device=gpu: allowed are auto, cpu",
        ),
        (
            {"serving": {"device": "cpu"}},
            "clip.similarity.serving has device: it takes device and batch_size",
        ),
        ({"dtype": "int8"}, "clip.similarity.dtype='int8': allowed are float32, bfloat16, float16"),
        ({"long_texts": True}, "clip.similarity.long_texts=True: allowed are cut and unscored"),
        ({"model": ""}, "clip.similarity.model='': give a hub id or a folder"),
        (
            {"model": "", "where": "benchmarks.scoring.clip"},
            "benchmarks.scoring.clip.model='': give a hub id or a folder",
        ),
        ({"model": "/nowhere/clip"}, "clip.similarity.model=/nowhere/clip: there is no such folder"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_it_is_planned(change, words):
    with pytest.raises(ValueError) as error:
        Clip(**{"model": "openai/clip-vit-large-patch14", **SETTINGS, **change})
    assert words in str(error.value)


def test_a_folder_that_is_not_whole_says_what_belongs_there(folder, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"clip\.similarity\.model=.*: no CLIPModel could be loaded.*whole folder in"
        r" transformers' layout",
    ):
        Clip(model=str(tmp_path), **SETTINGS).similarity(sample_images(), ["dog"] * 3)
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(
        ValueError, match=r"no CLIPModel could be loaded.*whole folder in transformers' layout"
    ):
        Clip(model=str(tmp_path), **SETTINGS).similarity(sample_images(), ["dog"] * 3)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(
        ValueError,
        match="the tokenizer there has 2 tokens where the model has 190: the files of the tokenizer are"
        " missing",
    ):
        Clip(model=str(tmp_path), **SETTINGS).similarity(sample_images(), ["dog"] * 3)


def test_a_hub_id_without_a_network_says_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"hf download nobody/clip --local-dir FOLDER.*clip\.similarity\.model=FOLDER"
    ):
        Clip(model="nobody/clip", **SETTINGS).similarity(sample_images(), ["dog"] * 3)


def test_half_a_model_is_refused_and_another_model_too(folder, tmp_path):
    from mini_experts import write_owlv2

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "text_projection" not in name},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(
        ValueError,
        match=r"is no whole CLIPModel: 1 of its weights are not there, such as text_projection\.weight",
    ):
        Clip(model=str(tmp_path), **SETTINGS).similarity(sample_images(), ["dog"] * 3)
    write_owlv2(tmp_path)
    with pytest.raises(ValueError, match="is of type owlv2, and a CLIPModel is wanted"):
        assert Clip(model=str(tmp_path), **SETTINGS)._model
