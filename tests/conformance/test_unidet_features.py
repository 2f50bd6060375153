"""The backbones give what the official ones gave with weights and pictures of a known recipe."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad
from unidet_weights import VARIANTS, distance, images, official_shapes, official_state, reference

from benchmarks.t2i_compbench.models.unidet.checkpoint import sizes_of, unidet_model
from benchmarks.t2i_compbench.models.unidet.fpn import Backbone
from benchmarks.t2i_compbench.models.unidet.model import UniDetModel

torch.set_num_threads(1)
CLOSE = 2e-5  # of the largest value, of which sums in another order make up to 1.4e-6 here
LEVELS = ("p3", "p4", "p5", "p6", "p7")
NORMS = {  # mean and deviation, as the specification states them
    "rs200": ((123.68, 116.779, 103.939), (58.393, 57.12, 57.375)),
    "r50": ((103.53, 116.28, 123.675), (1, 1, 1)),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


def batch(conformance_dir, variant: str) -> torch.Tensor:
    """The two pictures, normalised, with zeros where the second ends."""
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in NORMS[variant])
    made = [(picture - mean) / deviation for picture in images(conformance_dir, variant)]
    height, width = (max(picture.shape[side] for picture in made) for side in (1, 2))
    return torch.stack(
        [pad(picture, (0, width - picture.shape[2], 0, height - picture.shape[1])) for picture in made]
    )


def test_the_names_and_shapes_are_the_official_ones_but_for_counts(conformance_dir, variant):
    wanted = official_shapes(conformance_dir, variant)
    with torch.device("meta"):
        model = UniDetModel(sizes_of(official_state(conformance_dir, variant)))
    found = {name: [*value.shape] for name, value in model.state_dict().items()}
    assert uncounted(found) == uncounted(wanted)


def uncounted(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}


def test_the_sizes_of_the_published_detectors_are_read_from_the_tensors(conformance_dir, variant):
    sizes = sizes_of(official_state(conformance_dir, variant))
    assert sizes.variant == variant
    assert (sizes.stem, sizes.blocks) == {
        "rs200": ((64, 64, 128), (3, 24, 36, 3)),
        "r50": ((64,), (3, 4, 6, 3)),
    }[variant]
    assert (sizes.widths, sizes.outputs) == ((64, 128, 256, 512), (256, 512, 1024, 2048))
    assert (sizes.features, sizes.hidden, sizes.classes) == (256, 1024, 722)


@pytest.mark.parametrize("how", ["as_published", "as_loaded"])
def test_the_five_levels_are_those_of_the_reference(conformance_dir, variant, how):
    """With norms as they are in the files, and with norms in the convolutions, as the loader leaves them."""
    state, stated = official_state(conformance_dir, variant), reference(conformance_dir, variant)
    if how == "as_loaded":
        backbone = unidet_model(state).backbone
    else:
        with torch.device("meta"):
            backbone = Backbone(sizes_of(state)).eval()
        own = {
            name.removeprefix("backbone."): value
            for name, value in state.items()
            if name.startswith("backbone.")
        }
        backbone.load_state_dict(own, assign=True)
    images_B3HW = batch(conformance_dir, variant)
    assert distance(images_B3HW, stated["input"]) < 1e-6
    with torch.inference_mode():
        levels = backbone(images_B3HW)
    assert len(levels) == len(LEVELS) == len(stated["features"])
    for name, level_BCHW in zip(LEVELS, levels, strict=True):
        whole = stated["features"][name]
        assert distance(level_BCHW, whole) < CLOSE, name
        assert level_BCHW.double().mean().item() == pytest.approx(
            whole["mean"], abs=CLOSE * whole["absmax"]
        ), name
        assert level_BCHW.double().std().item() == pytest.approx(whole["std"], rel=CLOSE), name
        assert level_BCHW.abs().max().item() == pytest.approx(whole["absmax"], rel=CLOSE), name
