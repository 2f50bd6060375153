"""Pictures found by name, decoded, and brought to size with their boxes."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from harness.data.images import ImageFolder, ImageTars, fit, open_image
from harness.data.records import CutOffError
from harness.types import Box, PlannedObject


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def write_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def test_a_folder_gives_what_lies_below_it_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "b.png").write_bytes(b"1")
    (tmp_path / "out.png").write_bytes(b"2")
    images = ImageFolder(tmp_path / "in")
    assert images.read("a/b.png") == images.read("./a/b.png") == b"1"
    for name in ("a/c.png", "a", "a/b.png/c"):
        with pytest.raises(ValueError, match="there is no image"):
            images.read(name)
    for name in ("../out.png", str(tmp_path / "out.png"), "a/../../out.png"):
        with pytest.raises(ValueError, match="does not lie below"):
            images.read(name)


def test_tar_members_are_read_by_name_in_any_order_by_several_threads(tmp_path: Path) -> None:
    long = "deep/" * 40 + "x.png"
    tars = [
        write_tar(tmp_path / f"{t}.tar", {f"./{t}/{n}.png": f"{t}-{n}".encode() * n for n in range(1, 30)})
        for t in range(3)
    ]
    tars.append(write_tar(tmp_path / "9.tar", {long: b"long", "both.png": b"a"}))
    tars.append(write_tar(tmp_path / "8.tar", {"both.png": b"b"}))
    images = ImageTars(tars)
    names = [(t, n) for n in range(29, 0, -1) for t in range(3)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: images.read(f"{pair[0]}/{pair[1]}.png"), names))
    assert found == [f"{t}-{n}".encode() * n for t, n in names]
    assert images.read(long) == b"long"
    with pytest.raises(ValueError, match=r"no image 'x\.png' in the tar files"):
        images.read("x.png")
    with pytest.raises(ValueError, match=r"several tar files hold an image 'both\.png'"):
        images.read("both.png")


def test_a_tar_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    """It is no fault of a single record."""
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.png"), io.BytesIO())
    with pytest.raises(OSError, match=r"a\.tar cannot be read as an uncompressed tar"):
        ImageTars([tmp_path / "a.tar"]).read("x.png")


@pytest.mark.parametrize(
    ("mode", "color"),
    [("L", 7), ("RGB", (1, 2, 3)), ("P", 3), ("CMYK", (1, 2, 3, 4)), ("I;16", 900), ("1", 1)],
)
def test_pictures_of_any_mode_become_rgb(mode: str, color: int | tuple[int, ...]) -> None:
    image = open_image(encoded(Image.new(mode, (5, 4), color), "TIFF"))
    assert (image.mode, image.size) == ("RGB", (5, 4))


def test_what_is_transparent_becomes_white() -> None:
    see_through = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    see_through.putpixel((1, 0), (0, 0, 0, 0))
    assert list(open_image(encoded(see_through)).tobytes()) == [200, 0, 0, 255, 255, 255]
    assert open_image(encoded(Image.new("LA", (1, 1), (9, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_damaged_pictures_are_refused() -> None:
    whole = encoded(Image.effect_noise((64, 64), 50), "JPEG")
    for data in (
        b"",
        b"no picture",
        whole[:100],
        whole[: len(whole) // 2],
        encoded(Image.effect_noise((64, 64), 50))[:900],
    ):
        with pytest.raises(ValueError, match="cannot be decoded"):
            open_image(data)


def scene(width: int, height: int, box: Box) -> Image.Image:
    """A white rectangle in its box, on black."""
    image = Image.new("RGB", (width, height))
    corners = [
        (box.x1 * width / 1000, box.y1 * height / 1000),
        (box.x2 * width / 1000 - 1, box.y2 * height / 1000 - 1),
    ]
    ImageDraw.Draw(image).rectangle([round(value) for corner in corners for value in corner], fill="white")
    return image


@pytest.mark.parametrize("how", ["crop", "squash"])
@pytest.mark.parametrize("size", [(48, 48), (60, 30)])
@pytest.mark.parametrize(("width", "height"), [(200, 200), (400, 200), (200, 400), (300, 200), (48, 48)])
def test_the_box_stays_around_its_object(how: str, size: tuple[int, int], width: int, height: int) -> None:
    box = Box(400, 350, 650, 600)
    image, parts = fit(scene(width, height, box), ["A ", PlannedObject(name="thing", box=box)], size, how)
    assert image.size == size and parts[0] == "A "
    moved = parts[1].box
    seen = image.convert("L").point(lambda value: 255 * (value > 127)).getbbox()
    wanted = [
        moved.x1 * size[0] / 1000,
        moved.y1 * size[1] / 1000,
        moved.x2 * size[0] / 1000,
        moved.y2 * size[1] / 1000,
    ]
    assert seen == pytest.approx(wanted, abs=1.01), (seen, wanted)
    if how == "squash":
        assert moved == box


def test_an_object_that_is_cut_in_two_keeps_what_is_seen() -> None:
    things = [
        PlannedObject(name="left", box=Box(0, 0, 500, 1000)),
        PlannedObject(name="middle", box=Box(400, 100, 600, 200)),
    ]
    _, parts = fit(Image.new("RGB", (200, 100)), things, (10, 10), "crop")
    assert [part.box for part in parts] == [Box(0, 0, 500, 1000), Box(300, 100, 700, 200)]


@pytest.mark.parametrize("box", [Box(0, 0, 250, 1000), Box(751, 0, 1000, 1000), Box(0, 0, 100, 100)])
def test_an_object_that_is_cut_off_is_told(box: Box) -> None:
    thing = PlannedObject(name="cat", box=box)
    with pytest.raises(
        CutOffError, match=r"'cat' lies in the part of the image of 200x100 that the crop removes"
    ):
        fit(Image.new("RGB", (200, 100)), [thing], (10, 10), "crop")
    assert fit(Image.new("RGB", (200, 100)), [thing], (10, 10), "squash")[1] == [thing]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([(24, 24), (7, 5)]),
    st.sampled_from(["crop", "squash"]),
)
def test_pictures_of_any_shape_fit(width: int, height: int, size: tuple[int, int], how: str) -> None:
    image, parts = fit(
        Image.new("RGB", (width, height)), [PlannedObject(name="all", box=Box(0, 0, 1000, 1000))], size, how
    )
    assert image.size == size
    assert parts[0].box == Box(0, 0, 1000, 1000)
