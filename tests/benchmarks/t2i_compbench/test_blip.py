"""BLIP-VQA on tiny random files of both layouts; that it equals the official modules is tested in
tests/conformance.
"""

from __future__ import annotations

import pickle
from functools import cache
from itertools import chain

import mini_scorers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import BlipConfig, BlipForQuestionAnswering

from benchmarks.t2i_compbench.models import blip, blip_original
from benchmarks.t2i_compbench.models.blip import BlipVqa
from benchmarks.t2i_compbench.models.blip_original import blip_model
from harness.experts.pixels import normalised_3HW, squeezed, unit_3HW

torch.set_num_threads(1)
SERVING = {"device": "cpu", "batch_size": 2}
QUESTIONS = [
    ["a red dog?", "the cat?"],
    [],
    ["a?", "yes?", "a blue vase with a long neck, on a table?"],
    [""],
    ["a red dog?"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip")
    mini_scorers.write_blip(folder / "tiny.pth")
    mini_scorers.write_blip_copy(folder / "copy")
    mini_scorers.write_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def state():
    return mini_scorers.blip_state()


@cache
def small_model():
    return blip_model(mini_scorers.blip_state(), image_size=96).eval()


def expert(folder, checkpoint="", **change) -> BlipVqa:
    return BlipVqa(
        **{
            "checkpoint": str(checkpoint or folder / "tiny.pth"),
            "tokenizer": str(folder / "tokenizer"),
            "serving": SERVING,
            **change,
        }
    )


def pictures(count: int = len(QUESTIONS)) -> list[Image.Image]:
    noise = np.random.default_rng(3)
    small = [Image.fromarray(noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(count)]
    return [image.resize((40 + 9 * place, 70), Image.Resampling.NEAREST) for place, image in enumerate(small)]


def naive(model, tokenizer, image: Image.Image, question: str) -> float:
    """One image, one question, the whole softmax."""
    ids = tokenizer(question, truncation=True, max_length=35, return_tensors="pt").input_ids
    ids[0, 0] = 30523
    with torch.no_grad():
        pixels = normalised_3HW(unit_3HW(squeezed(image, model.config.vision_config.image_size)))
        seen = model.vision_model(pixels[None]).last_hidden_state
        asked = model.text_encoder(ids, encoder_hidden_states=seen).last_hidden_state
        first = (
            model.text_decoder(torch.tensor([[30522]]), encoder_hidden_states=asked).logits[0, 0].softmax(0)
        )
    return (first[2748] / (first[2748] + first[2053])).item()


@pytest.mark.parametrize("checkpoint", ["tiny.pth", "copy"])
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_many_questions_at_once_are_answered_as_one_by_one(folder, checkpoint, batch):
    vqa, images = (
        expert(folder, folder / checkpoint, serving={"device": "cpu", "batch_size": batch}),
        pictures(),
    )
    found = vqa.yes(images, QUESTIONS)
    wanted = [
        [naive(vqa._model, vqa._tokenizer, image, one) for one in few]
        for image, few in zip(images, QUESTIONS, strict=True)
    ]
    assert list(chain(*found)) == pytest.approx(list(chain(*wanted)), abs=1e-5)
    assert [len(few) for few in found] == [2, 0, 3, 1, 1] and len(
        {round(value, 4) for value in chain(*found)}
    ) == 7


@settings(deadline=None, max_examples=20)
@given(
    st.lists(
        st.lists(st.lists(st.integers(1000, 3000), max_size=6), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    )
)
def test_a_question_does_not_see_those_beside_it(questions):
    model, ids = small_model(), [[[101, *question, 102] for question in few] for few in questions]
    pixels = torch.randn(len(ids), 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together = blip.answers(model, pixels, ids)
        alone = [
            [blip.answers(model, pixels[row : row + 1], [[one]])[0][0] for one in few]
            for row, few in enumerate(ids)
        ]
    assert list(chain(*together)) == pytest.approx(list(chain(*alone)), abs=1e-5)


def test_images_without_questions_are_not_looked_at_and_the_others_once(folder, monkeypatch):
    seen: list[Image.Image] = []
    monkeypatch.setattr(blip, "squeezed", lambda image, side: seen.append(image) or squeezed(image, side))
    images = pictures()
    vqa = expert(folder)
    vqa.yes(images, QUESTIONS)
    assert seen == [images[0], images[2], images[3], images[4]]
    assert vqa.yes(images[:2], [[], []]) == [[], []] and vqa.yes([], []) == [] and len(seen) == 4


def test_nothing_is_loaded_where_nothing_is_asked(folder):
    assert BlipVqa(checkpoint=None, tokenizer=str(folder / "tokenizer"), serving=SERVING).yes(
        pictures(2), [[], []]
    ) == [[], []]


def test_a_long_question_is_cut_to_35_tokens(folder):
    vqa, (image,) = expert(folder), pictures(1)
    long, longer, short = vqa.yes([image], [["a " * 33, "a " * 32 + "a red dog?", "a " * 32]])[0]
    assert long == longer != short


def test_pictures_of_any_kind_are_asked_about(folder):
    vqa, (image,) = expert(folder), pictures(1)
    odd = [
        Image.new("CMYK", (1, 1)),
        image.convert("L"),
        image.convert("RGBA"),
        image.convert("P"),
        Image.new("RGB", (3000, 2)),
    ]
    assert all(0 < value < 1 for (value,) in vqa.yes(odd, [["a dog?"]] * len(odd)))


def test_every_image_needs_its_questions(folder):
    with pytest.raises(ValueError, match="5 images and 1 lists of questions: give one list for each image"):
        expert(folder).yes(pictures(), [["a dog?"]])


def test_the_name_says_which_layout_without_loading(folder):
    tokenizer = {"tokenizer": "google-bert/bert-base-uncased", "serving": SERVING}
    assert BlipVqa(checkpoint=str(folder / "tiny.pth"), **tokenizer).name == "BLIP-VQA (tiny.pth)"
    assert BlipVqa(checkpoint=None, **tokenizer).name == "BLIP-VQA"
    for copy in (str(folder / "copy"), "somebody/blip-vqa"):
        assert BlipVqa(checkpoint=copy, **tokenizer).name == "BLIP-VQA (hub copy, approximate)"


def test_the_original_runs_at_480_pixels_and_a_copy_at_its_own(folder):
    original, copy = expert(folder), expert(folder, folder / "copy")
    assert (original._model.config.vision_config.image_size, copy._model.config.vision_config.image_size) == (
        480,
        96,
    )


def test_a_copy_is_run_with_blips_heads_and_norms_whatever_its_configuration_leaves_out(folder):
    theirs, ours = BlipConfig.from_pretrained(folder / "copy"), expert(folder, folder / "copy")._model
    assert (theirs.vision_config.layer_norm_eps, theirs.text_config.num_attention_heads) == (1e-5, 8)
    for name, module in ours.named_modules():
        if isinstance(module, torch.nn.LayerNorm):
            assert module.eps == (1e-6 if name.startswith("vision_model") else 1e-12), name
        assert getattr(module, "num_heads", getattr(module, "num_attention_heads", 1)) == 1, name
    found = expert(folder, folder / "copy").yes(pictures(1), [["a dog?"]])
    assert found[0] == pytest.approx(
        [naive(small_model(), expert(folder)._tokenizer, pictures(1)[0], "a dog?")], abs=1e-5
    )


def test_what_is_missing_says_which_file_from_where_and_what_to_set(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert expert(folder).missing() == expert(folder, folder / "copy").missing() == []
    none = BlipVqa(checkpoint=None, tokenizer="google-bert/bert-base-uncased", serving=SERVING)
    first, second = none.missing()
    for words in (
        "model_base_vqa_capfilt_large.pth",
        blip.ORIGINAL,
        "benchmarks.scoring.vqa.checkpoint=FILE",
        "BLIP_VQA_CHECKPOINT",
        "approximation",
    ):
        assert words in first
    assert (
        "benchmarks.scoring.vqa.tokenizer=google-bert/bert-base-uncased" in second and "hf download" in second
    )
    for ask in (none.load, lambda: none.yes(pictures(1), [["a dog?"]])):
        with pytest.raises(ValueError) as error:
            ask()
        assert str(error.value) == first
    (told,) = expert(folder, "somebody/blip-vqa").missing()
    assert "benchmarks.scoring.vqa.checkpoint=somebody/blip-vqa" in told
    with pytest.raises(ValueError, match="hf download somebody/blip-vqa"):
        expert(folder, "somebody/blip-vqa").load()
    with pytest.raises(ValueError, match=r"is not BERT-base-uncased's tokenizer.*hf download somebody/bert"):
        expert(folder, tokenizer="somebody/bert").load()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"checkpoint": "/nowhere/model.pth"},
            "benchmarks.scoring.vqa.checkpoint=/nowhere/model.pth: there is no such file or folder",
        ),
        (
            {"checkpoint": "weights/model.pth"},
            "benchmarks.scoring.vqa.checkpoint=weights/model.pth: there is no such file or folder",
        ),
        ({"checkpoint": "a/b/c"}, "benchmarks.scoring.vqa.checkpoint=a/b/c: there is no such file or folder"),
        (
            {"checkpoint": "model_base"},
            "benchmarks.scoring.vqa.checkpoint=model_base: there is no such file or folder",
        ),
        ({"tokenizer": "/nowhere"}, "benchmarks.scoring.vqa.tokenizer=/nowhere: there is no such folder"),
        ({"serving": {"device": "cpu", "batch_size": 0}}, "benchmarks.scoring.vqa.serving.batch_size=0"),
        ({"serving": {"device": "tpu", "batch_size": 1}}, "benchmarks.scoring.vqa.serving.device=tpu"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_it_is_planned(folder, change, words):
    with pytest.raises(ValueError) as error:
        expert(folder, **change)
    assert words in str(error.value)


def test_another_tokenizer_is_refused(folder, tmp_path):
    import mini_experts

    mini_experts.bert_tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(
        ValueError, match=r"is not BERT-base-uncased's tokenizer: there yes is 100 \(and 2748 in BLIP\)"
    ):
        expert(folder, tokenizer=str(tmp_path / "other")).load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"benchmarks\.scoring\.vqa\.tokenizer="):
        expert(folder, tokenizer=str(tmp_path / "empty")).load()


class Dangerous:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read as PyTorch weights"),
        (b"not weights at all", "cannot be read as PyTorch weights"),
        (pickle.dumps(Dangerous(), protocol=2), "cannot be read as PyTorch weights"),
        (
            {"state_dict": {"a": torch.zeros(1)}, "epoch": 1},
            "holds state_dict, epoch, and no `model` of tensors",
        ),
        ({"model": {"a": 1}}, "no `model` of tensors"),
        ([torch.zeros(1)], "holds list, and no `model`"),
        ({"model": {"visual.proj": torch.zeros(1)}}, "1 unknown, such as visual.proj"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path_and_the_right_one(folder, tmp_path, capsys, content, words):
    file = tmp_path / "odd.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError) as error:
        expert(folder, checkpoint=file).load()
    assert words in str(error.value) and str(file) in str(error.value) and blip.ORIGINAL in str(error.value)
    assert "never run" not in capsys.readouterr().out


def test_the_names_of_the_original_are_those_of_the_library_and_none_is_left_out():
    """Base size; the library's model holds the two tied tensors beside them."""
    with torch.device("meta"):
        wanted = BlipForQuestionAnswering(BlipConfig()).state_dict()
    names = blip_original._names(12, 12)
    assert set(names.values()) | set(blip_original._TIED) == set(wanted) and len(set(names.values())) == len(
        names
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"visual_encoder.blocks.0.attn.qkv.bias": None},
            "1 missing, such as visual_encoder.blocks.0.attn.qkv.bias",
        ),
        (
            {"text_decoder.cls.predictions.bias": None, "text_encoder.pooler.dense.bias": torch.zeros(64)},
            "1 missing, such as text_decoder.cls",
        ),
        (
            {"text_encoder.pooler.dense.bias": torch.zeros(64)},
            "1 unknown, such as text_encoder.pooler.dense.bias",
        ),
        (
            {"visual_encoder.pos_embed": torch.zeros(1, 12, 64)},
            "the shapes of these weights are not those of one BLIP",
        ),
        (
            {"visual_encoder.patch_embed.proj.weight": torch.zeros(3)},
            "the shapes of these weights are not those of one BLIP",
        ),
        (
            {"text_encoder.encoder.layer.1.output.dense.weight": torch.zeros(3, 3)},
            "the shapes of these weights are not those of one BLIP",
        ),
        (
            {"text_encoder.embeddings.word_embeddings.weight": torch.zeros(30522, 64)},
            "the vocabulary has 30522 words, and 30524 are needed",
        ),
        (
            {"text_decoder.cls.predictions.decoder.bias": torch.ones(30524)},
            "are the same numbers in a BLIP, and differ here",
        ),
    ],
)
def test_weights_that_are_not_a_blips_are_refused_by_name(state, change, words):
    changed = {name: value for name, value in {**state, **change}.items() if value is not None}
    with pytest.raises(ValueError) as error:
        blip_model(changed, image_size=480)
    assert words in str(error.value)


def test_heads_must_divide_the_width(state):
    with pytest.raises(ValueError, match="the text tower's width 64 is no multiple of 48"):
        blip_model(state, image_size=480, text_head=48)


def test_positions_and_what_is_stored_twice_may_be_there_or_not(state):
    more = {
        **state,
        "text_encoder.embeddings.position_ids": torch.arange(64),
        "text_decoder.bert.embeddings.position_ids": torch.arange(64),
    }
    less = {name: value for name, value in state.items() if name not in blip_original._TIED}
    first, second = (blip_model(one, image_size=480).state_dict() for one in (more, less))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_table_of_positions_of_another_grid_is_resized_bicubically(state):
    table = blip_model(state, image_size=672).vision_model.embeddings.position_embedding
    theirs = state["visual_encoder.pos_embed"]
    grid = theirs[0, 1:].reshape(10, 10, 64).permute(2, 0, 1)[None]
    wanted = torch.nn.functional.interpolate(grid, size=(14, 14), mode="bicubic", align_corners=False)[0]
    assert table.shape == (1, 197, 64) and torch.equal(table[0, 0], theirs[0, 0])
    for row, column in ((0, 0), (3, 11), (13, 13)):
        assert torch.allclose(table[0, 1 + 14 * row + column], wanted[:, row, column], atol=1e-6)
    assert torch.equal(blip_model(state, image_size=480).vision_model.embeddings.position_embedding, theirs)


def test_damaged_weights_are_not_scored(state, folder, tmp_path):
    bad = {**state, "visual_encoder.norm.bias": torch.full((64,), float("nan"))}
    torch.save({"model": bad}, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match="the weights give no finite probabilities"):
        expert(folder, checkpoint=tmp_path / "nan.pth").yes(pictures(1), [["a dog?"]])
