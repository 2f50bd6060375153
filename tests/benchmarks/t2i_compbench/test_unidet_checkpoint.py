"""Files of UniDet, tiny and random: what is read from them, and that all others are refused by name."""

from __future__ import annotations

import pickle
from dataclasses import replace

import mini_unidet
import pytest
import torch
from mini_unidet import SIZES, unidet_state
from unidet_weights import VARIANTS

from benchmarks.t2i_compbench.models.unidet.checkpoint import load, read_checkpoint, sizes_of, unidet_model
from benchmarks.t2i_compbench.models.unidet.model import UniDetModel

torch.set_num_threads(1)
STEM, LATERAL = "backbone.bottom_up.stem.conv1.weight", "backbone.fpn_lateral3.weight"


@pytest.fixture(params=VARIANTS)
def variant(request) -> str:
    return request.param


def outcome(model: UniDetModel) -> list[torch.Tensor]:
    with torch.inference_mode():
        return model.backbone(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))


def test_a_training_checkpoint_is_read_without_its_constants(tmp_path, variant):
    mini_unidet.write_unidet(tmp_path / "tiny.pth", variant)
    model = load(tmp_path / "tiny.pth")
    assert model.sizes == SIZES[variant] and not model.training
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert not any(value.is_meta or value.requires_grad for value in model.parameters())
    assert all(
        a.equal(b) for a, b in zip(outcome(model), outcome(unidet_model(unidet_state(variant))), strict=True)
    )


@pytest.mark.parametrize("under", [None, "model"])
def test_the_tensors_stand_under_model_or_alone_in_the_file(tmp_path, variant, under):
    state = unidet_state(variant)
    torch.save({under: state} if under else state, tmp_path / "tiny.pth")
    assert read_checkpoint(tmp_path / "tiny.pth").keys() == state.keys()
    assert load(tmp_path / "tiny.pth").sizes == SIZES[variant]


def test_half_precision_is_loaded_as_single(tmp_path, variant):
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in unidet_state(variant).items()
    }
    torch.save({"model": state}, tmp_path / "tiny.pth")
    model = load(tmp_path / "tiny.pth")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


def test_a_model_is_made_without_writing_to_the_tensors_it_is_made_of(variant):
    state, before = unidet_state(variant), unidet_state(variant)
    outcome(unidet_model(state))
    assert all(value.equal(before[name]) and not value.requires_grad for name, value in state.items())


def test_counts_of_batches_may_be_there_or_not(variant):
    state = unidet_state(variant)
    bare = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(bare) < len(state)
    assert all(
        a.equal(b) for a, b in zip(outcome(unidet_model(bare)), outcome(unidet_model(state)), strict=True)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": (1, 2, 12, 1)},
        {"widths": (2, 4, 10, 8)},
        {"outputs": (10, 12, 14, 18)},
        {"features": 4},
        {"hidden": 20},
        {"classes": 5},
    ],
)
def test_sizes_are_read_from_the_tensors(variant, change):
    wanted = replace(SIZES[variant], **change)
    state = UniDetModel(wanted).state_dict()
    assert sizes_of(state) == wanted
    assert unidet_model(state).sizes == wanted


class Dangerous:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read as PyTorch weights"),
        (b"<!DOCTYPE html>", "cannot be read as PyTorch weights"),  # what a failed download leaves
        (pickle.dumps(Dangerous(), protocol=2), "cannot be read as PyTorch weights"),
        (
            {"state_dict": {"a": torch.zeros(1)}, "epoch": 1},
            "holds state_dict, epoch, and no `model` of tensors",
        ),
        ({"model": {"a": 1}}, "holds model, and no `model` of tensors"),
        ([torch.zeros(1)], "holds list, and no `model`"),
    ],
)
def test_a_file_of_something_else_is_refused_by_its_path(tmp_path, capsys, content, words):
    file = tmp_path / "odd.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError) as error:
        load(file)
    assert words in str(error.value) and str(file) in str(error.value)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {STEM: None},
            "there is no backbone.bottom_up.stem of RS200 or R50; there is "
            "backbone.bottom_up.stem.conv1.norm",
        ),
        (
            {LATERAL: None},
            "not the weights of UniDet R50: .* 1 missing, such as backbone.fpn_lateral3.weight",
        ),
        ({"roi_heads.mask_head.weight": torch.zeros(1)}, "1 unknown, such as roi_heads.mask_head.weight"),
        ({"backbone.fpn_output3.weight": None}, "backbone.fpn_output3.weight is missing"),
        ({"roi_heads.box_predictor.0.cls_score.weight": torch.tensor(1.0)}, "cls_score.weight is missing"),
        (
            {LATERAL: torch.zeros(8, 3, 1, 1)},
            r"fpn_lateral3.weight is \[8, 3, 1, 1\] in place of \[8, 12, 1, 1\]",
        ),
        (
            {"backbone.bottom_up.stem.conv1_1.weight": torch.zeros(4, 3, 3, 3)},
            "backbone.bottom_up.stem.conv1_2.weight is missing",
        ),
    ],
)
def test_weights_that_are_not_a_unidets_are_refused_by_name(change, words):
    state = {name: value for name, value in {**unidet_state("r50"), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        unidet_model(state)


@pytest.mark.parametrize("state", [{}, {"visual.proj": torch.zeros(1)}])
def test_weights_of_another_model_are_refused(state):
    with pytest.raises(
        ValueError, match=r"these are not the weights of a UniDet: .* there is (nothing|visual\.proj)"
    ):
        unidet_model(state)
