"""UniDet as a detector: what it shows its network, what it makes of its answers, and what it says
where weights are missing.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mini_unidet
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from benchmarks.t2i_compbench.models.unidet import checkpoint
from benchmarks.t2i_compbench.models.unidet_detector import PUBLISHED, UniDet
from harness.types import Chain, Detections, Prompt, Sample, Tokens

torch.set_num_threads(1)
SERVING = {"device": "cpu", "batch_size": 2}
LABELS = [f"thing {number}" for number in range(722)]
SIZES = [(64, 48), (50, 50), (64, 48), (30, 60), (64, 48)]  # width, height


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both tiny detectors under the published names."""
    folder = tmp_path_factory.mktemp("unidet")
    for variant, own in PUBLISHED.items():
        mini_unidet.write_unidet(folder / own.file, variant)
    return folder


class Network(torch.nn.Module):
    """Remembers what it was shown; finds one thing in each picture, whose class and score tell the
    picture.
    """

    def __init__(self, variant: str = "rs200", classes: int = 722) -> None:
        super().__init__()
        self.sizes = SimpleNamespace(variant=variant, classes=classes)
        self.shown: list[list[torch.Tensor]] = []
        self.blind = False

    def forward(self, images):
        self.shown.append([image.clone() for image in images])
        if self.blind and any(image.mean() < 1 for image in images):
            raise FloatingPointError("scores that are not finite")
        return [self._found(image) for image in images]

    def _found(self, image):
        whole = torch.tensor([[0.0, 0.0, image.shape[2], image.shape[1]]])
        return whole, image.mean()[None] / 1000, torch.tensor([int(image.mean())])


@pytest.fixture
def network(monkeypatch):
    network = Network()
    monkeypatch.setattr(checkpoint, "load", lambda path: network)
    return network


def expert(file: Path | None, variant: str = "rs200", **change) -> UniDet:
    where = f"benchmarks.scoring.{variant}"
    settings = {
        "checkpoint": None if file is None else str(file),
        "variant": variant,
        "colors": "official",
        "serving": SERVING,
    }
    return UniDet(**{**settings, "labels": lambda: LABELS, "where": where, **change})


def sample(image: Image.Image) -> Sample:
    nothing, none = Chain(text="", objects=(), bare_text=""), Tokens(prompt=(), chain=(), image=())
    prompt = Prompt(id="p", text="a dog on the left of a cat", category="2D-spatial")
    return Sample(prompt=prompt, chain=nothing, image=image, tokens=none, logprobs=(), seed=0)


def pictures(sizes=SIZES) -> list[Sample]:
    noise = np.random.default_rng(0)
    return [
        sample(Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)))
        for width, height in sizes
    ]


def shown(image: Image.Image, frame: tuple[int, int]) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize(frame, Image.Resampling.BILINEAR)).astype(np.float32)


@pytest.mark.parametrize(
    ("variant", "colors", "order"),
    [
        ("rs200", "official", [2, 1, 0]),
        ("rs200", "corrected", [0, 1, 2]),
        ("r50", "official", [2, 1, 0]),
        ("r50", "corrected", [2, 1, 0]),
    ],
)
def test_the_network_is_shown_the_picture_in_its_frame_and_its_order_of_colors(
    folder, network, variant, colors, order
):
    network.sizes.variant = variant
    [one] = pictures([(64, 48)])
    detector = expert(folder / PUBLISHED[variant].file, variant, colors=colors)
    [found], [mirrored] = detector.detect([one]), detector.detect([one], mirrored=True)
    for [[image]], wanted in (
        ([network.shown[0]], one.image),
        ([network.shown[1]], ImageOps.mirror(one.image)),
    ):
        assert image.dtype == torch.float32
        assert np.array_equal(image.permute(1, 2, 0).numpy(), shown(wanted, (480, 360))[..., order])
    mean = network.shown[0][0].mean().item()
    assert found == Detections(
        frame=(480, 360),
        labels=(f"thing {int(mean)}",),
        boxes=((0.0, 0.0, 480.0, 360.0),),
        scores=(pytest.approx(mean / 1000),),
    )
    assert mirrored.frame == found.frame


def test_pictures_of_one_frame_go_together_and_answers_keep_their_order(folder, network):
    own = pictures()
    grey = sample(own[1].image.convert("L"))
    narrow = sample(Image.new("RGB", (1, 2000)))
    found = expert(folder / PUBLISHED["rs200"].file).detect([*own[:2], narrow, *own[2:], grey])
    assert (
        found[2] == "an image of 1 x 2000 pixels would be less than one pixel wide in a frame of 480: crop it"
    )
    frames = [one.frame for one in found if isinstance(one, Detections)]
    assert frames == [(480, 360), (479, 479), (480, 360), (240, 480), (480, 360), (479, 479)]
    assert sorted(len(images) for images in network.shown) == [1, 1, 2, 2]
    for one, answer in zip([*own, grey], [*found[:2], *found[3:]], strict=True):
        assert answer.scores[0] == pytest.approx(shown(one.image, answer.frame).mean() / 1000, rel=1e-5)


def test_a_picture_that_gives_no_numbers_is_told_and_spoils_no_other(folder, network):
    network.blind = True
    fine, odd = sample(Image.new("RGB", (50, 50), (90, 90, 90))), sample(Image.new("RGB", (50, 50)))
    found = expert(folder / PUBLISHED["rs200"].file).detect([fine, odd])
    assert found[0].scores == (pytest.approx(0.09),)
    assert found[1] == "UniDet RS200 cannot look at this image: scores that are not finite"


@pytest.mark.parametrize("variant", PUBLISHED)
def test_tiny_detectors_find_the_same_in_a_batch_and_alone(folder, variant):
    own = pictures([(64, 48), (64, 48)])
    detector = expert(folder / PUBLISHED[variant].file, variant)
    assert (detector.name, detector.given, detector.missing()) == (PUBLISHED[variant].name, True, [])
    together, alone = detector.detect(own), [detector.detect([one])[0] for one in own]
    assert detector.detect([]) == [] and any(one.labels for one in together), "else the test tells nothing"
    for one, other in zip(together, alone, strict=True):
        assert np.allclose(one.scores, other.scores, atol=1e-3), (
            "of scores alone: those of one height may change places"
        )
        assert sorted(one.scores, reverse=True) == list(one.scores) and set(one.labels) <= set(LABELS)


def test_a_file_of_another_name_is_named(folder, tmp_path):
    (tmp_path / "mine.pth").symlink_to(folder / PUBLISHED["r50"].file)
    mine = expert(tmp_path / "mine.pth", "r50")
    assert mine.name == "UniDet R50 (mine.pth)" and mine.external == (str(tmp_path / "mine.pth"),)


def test_missing_weights_are_named_with_their_place():
    rs200, r50 = expert(None), expert(None, "r50")
    assert (rs200.given, rs200.external, rs200.name) == (False, (), "UniDet RS200")
    [line], [other] = rs200.missing(), r50.missing()
    for words in (
        "UniDet RS200 needs its weights Unified_learned_OCIM_RS200_6x+2x.pth: take them from "
        "huggingface.co/shikunl/prismer, folder "
        "expert_weights",
        "size and check sum are not known",
        "set benchmarks.scoring.rs200.checkpoint=FILE or UNIDET_RS200_CHECKPOINT",
    ):
        assert words in line
    assert "Google Drive, id 1C4sgkirmgMumKXXiLOPmCKNTZAc3oVbq" in other and "UNIDET_R50_CHECKPOINT" in other
    for act in (rs200.load, lambda: rs200.detect(pictures()[:1])):
        with pytest.raises(ValueError, match="UniDet RS200 needs its weights"):
            act()


def test_other_weights_are_refused(folder, network):
    network.sizes.variant = "r50"
    with pytest.raises(
        ValueError,
        match=r"rs200\.checkpoint=.*: these are the weights of UniDet R50\. UniDet RS200 needs its weights",
    ):
        expert(folder / PUBLISHED["rs200"].file).load()
    network.sizes = SimpleNamespace(variant="rs200", classes=80)
    with pytest.raises(ValueError, match="these weights know 80 classes, and there are 722 labels"):
        expert(folder / PUBLISHED["rs200"].file).load()
    network.sizes.classes = 722
    network.register_buffer("odd", torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="the weights are damaged: odd holds values that are not finite"):
        expert(folder / PUBLISHED["rs200"].file).load()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "r101"}, "variant='r101': allowed are rs200 and r50"),
        ({"colors": "bgr"}, "colors='bgr': allowed are official and corrected"),
        ({"checkpoint": "/nowhere/x.pth"}, "checkpoint=/nowhere/x.pth: there is no such"),
        ({"serving": {**SERVING, "device": "gpu"}}, "serving.device=gpu: allowed are"),
        ({"serving": {"device": "cpu"}}, "serving has device: it takes device and batch_size"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_it_is_planned(change, words):
    with pytest.raises(ValueError) as error:
        expert(None, **change)
    assert str(error.value).startswith("benchmarks.scoring.") and f".{words}" in str(error.value)
