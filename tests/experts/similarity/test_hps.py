"""HPS v2.1 end to end on a tiny random file in the official layout; the goldens are in tests/conformance."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from harness.experts.similarity import open_clip
from harness.experts.similarity.hps import HpsV21, clean, pixels_of
from harness.experts.similarity.open_clip import clip_model, read_checkpoint

torch.set_num_threads(1)
FILE = "HPS_v2.1_compressed.pt"
HEADS = {"vision_heads": 4, "text_heads": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from mini_experts import write_hps

    folder = tmp_path_factory.mktemp("hps")
    write_hps(folder)
    return folder


@pytest.fixture(scope="module")
def state(folder):
    return read_checkpoint(folder / FILE)


def expert(folder, **change) -> HpsV21:
    settings = {
        "model": str(folder),
        "file": FILE,
        "tokenizer": str(folder),
        **HEADS,
        "dtype": "float32",
        "serving": {"batch_size": 2, "device": "cpu"},
    }
    return HpsV21(**{**settings, **change})


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def test_the_names_and_shapes_of_the_real_one_are_those_of_a_vit_h():
    """686 names in the official file, 910 in transformers' model."""
    tower = {"num_attention_heads": 16, "hidden_act": "gelu", "projection_dim": 1024}
    vision = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "patch_size": 14,
        "image_size": 224,
    }
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    with torch.device("meta"):
        wanted = CLIPModel(
            CLIPConfig(projection_dim=1024, vision_config={**tower, **vision}, text_config={**tower, **text})
        ).state_dict()
    names = open_clip._names(32, 24)
    assert len(names) == 686 and len(wanted) == 910
    assert {target for targets in names.values() for target in targets} == set(wanted)


def test_a_text_is_cleaned_cut_and_pooled_at_its_end(folder, state):
    image = noise(40, 40)
    hps = expert(folder)
    plain, curly, entities, loud = hps.similarity(
        [image] * 4,
        ['a "dog" & cat', "a “dog” & cat", "a &quot;dog&quot; &amp;amp; cat", ' A  "DOG"\n& cat '],
    )
    assert plain == curly == entities == loud
    long, longer, other = hps.similarity([image] * 3, ["dog" * 30, "dog" * 40, "dog" * 24 + "cat"])
    assert long == longer != other
    model = clip_model(state, **HEADS).eval()
    letters = [
        hps._tokenizer.convert_tokens_to_ids(piece)
        for piece in ("<|startoftext|>", "d", "o", "g</w>", "<|endoftext|>")
    ]
    with torch.no_grad():
        text = model.get_text_features(torch.tensor([letters])).pooler_output
        drawn = model.get_image_features(pixels_of(image, 28)[None]).pooler_output
    assert hps.similarity([image], ["Dog"]) == pytest.approx(
        torch.nn.functional.cosine_similarity(text, drawn).tolist(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("It’s  ‘so’", "it's 'so'"),
        ("a&nbsp;b &amp;lt;c", "a b <c"),
        ("\tOne\n Two ", "one two"),
        ("", ""),
        ("“naïve”", '"naïve"'),
    ],
)
def test_cleaning(text, cleaned):
    assert clean(text) == cleaned


@pytest.mark.parametrize(("height", "width"), [(28, 28), (28, 20), (13, 28), (60, 44), (10, 7), (500, 1)])
def test_pixels_are_centered_on_black(height, width):
    white = Image.new("RGB", (width, height), "white")
    pixels = pixels_of(white, 28)
    assert pixels.shape == (3, 28, 28)
    black = pixels_of(Image.new("RGB", (28, 28)), 28)
    empty = (pixels == black).all(0)
    rows, columns = (~empty).any(1).nonzero().flatten(), (~empty).any(0).nonzero().flatten()
    scale = 28 / max(height, width)
    assert (len(rows), len(columns)) == (max(1, round(height * scale)), max(1, round(width * scale)))
    assert int(rows[0]) == (28 - len(rows)) // 2 and int(columns[0]) == (28 - len(columns)) // 2


def test_an_image_of_the_right_size_keeps_its_pixels():
    image = noise(28, 28)
    back = pixels_of(image, 28) * torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    back = (back + torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]) * 255
    assert torch.equal(back.round().byte().permute(1, 2, 0), torch.from_numpy(np.array(image)))


def test_halves_of_the_file_are_named(state):
    less = {name: value for name, value in state.items() if name not in ("visual.proj", "ln_final.bias")}
    with pytest.raises(
        ValueError,
        match=r"not the weights of an open_clip ViT: \d+ names fit; 2 missing, such as visual\.proj,"
        r" ln_final\.bias",
    ):
        clip_model(less, **HEADS)
    holey = {name: value for name, value in state.items() if ".resblocks.1." not in name}
    with pytest.raises(ValueError, match=r"missing, such as visual\.transformer\.resblocks\.1\."):
        clip_model(holey, **HEADS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra.weight": torch.zeros(1)}, "1 unknown, such as extra.weight"),
        (
            {"visual.proj": torch.zeros(3, 3)},
            "the shapes of these weights are not those of one open_clip ViT",
        ),
        (
            {"visual.conv1.weight": torch.zeros(3)},
            "the shapes of these weights are not those of one open_clip ViT",
        ),
    ],
)
def test_foreign_weights_are_refused(state, change, words):
    with pytest.raises(ValueError) as error:
        clip_model({**state, **change}, **HEADS)
    assert words in str(error.value)


def test_heads_must_divide_the_width(state):
    with pytest.raises(ValueError, match="text_heads=5 do not divide the text tower's width 32"):
        clip_model(state, vision_heads=4, text_heads=5)


class Dangerous:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not weights at all", "cannot be read as PyTorch weights"),
        (b"", "cannot be read as PyTorch weights"),
        (pickle.dumps(Dangerous(), protocol=2), "cannot be read as PyTorch weights"),
        ({"model": {"a": torch.zeros(1)}}, "holds model, and no `state_dict` of tensors"),
        ({"state_dict": {"a": 1}}, "no `state_dict` of tensors"),
        ([torch.zeros(1)], "holds list, and no `state_dict`"),
        ({"state_dict": {"a": torch.zeros(1)}}, "missing, such as visual.class_embedding"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path(folder, tmp_path, capsys, content, words):
    file = tmp_path / "odd.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError) as error:
        expert(folder, model=str(tmp_path), file="odd.pt").similarity([noise(9, 9)], ["dog"])
    assert words in str(error.value) and str(file) in str(error.value)
    assert "never run" not in capsys.readouterr().out


def test_a_folder_without_the_file_is_refused_when_it_is_planned(tmp_path):
    with pytest.raises(
        ValueError, match=r"hps\.similarity\.model=.*: there is no HPS_v2\.1_compressed\.pt in this folder"
    ):
        expert(tmp_path)


def test_missing_weights_say_which_file_from_where_and_where_to(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError) as error:
        expert(folder, model="xswu/HPSv2").similarity([noise(9, 9)], ["dog"])
    for words in (
        "HPS_v2.1_compressed.pt",
        "hf download xswu/HPSv2",
        "--local-dir FOLDER",
        "hps.similarity.model=FOLDER",
    ):
        assert words in str(error.value)


def test_a_tokenizer_that_is_not_there_or_not_clips_is_refused(folder, tmp_path):
    from mini_experts import clip_tokenizer

    with pytest.raises(ValueError, match=r"hps\.similarity\.tokenizer=/nowhere: there is no such folder"):
        expert(folder, tokenizer="/nowhere")
    for count in (2, 193):
        with pytest.raises(
            ValueError,
            match=rf"hps\.similarity\.tokenizer=.*: the tokenizer there has {count} tokens where the model"
            " has 190",
        ):
            expert(folder, tokenizer=str(tmp_path)).similarity([noise(9, 9)], ["dog"])
        more = {**clip_tokenizer().get_vocab(), "one": 190, "two": 191, "three": 192}
        CLIPTokenizer(vocab=more, merges=[]).save_pretrained(tmp_path)
