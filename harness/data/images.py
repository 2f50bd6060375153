"""Images of GoT data: read from a folder or tar files, and resized with their boxes to the policy's size."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from PIL import Image

from harness.data.chains import Parts
from harness.data.records import CutOffError
from harness.paths import user_path
from harness.types import CANVAS, Box, PlannedObject

FITS = ("crop", "squash")


class Images(Protocol):
    """Encoded images by name."""

    def read(self, name: str) -> bytes:
        """Return the bytes of an encoded image.

        Raises:
            ValueError: no image has that name.
        """
        ...


class ImageFolder:
    """Images as files below a folder, named by their path within it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        path = user_path(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"the image {name!r} does not lie below {self._root}: give its path within that folder"
            )
        try:
            return (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ValueError(f"there is no image {self._root / path}") from None


class _Member(NamedTuple):
    tar: int  # index of the file; -1 when several files hold the name
    start: int
    size: int


class ImageTars:
    """Images as members of uncompressed tar files, named by their path there.

    The first call of `read` reads all headers. After that each image takes one read, in any order and from
    several threads. The index takes about 300 bytes of memory per image.
    """

    def __init__(self, tars: Sequence[Path]) -> None:
        self._tars = list(tars)
        self._lock = threading.Lock()
        self._index: dict[str, _Member] | None = None

    def read(self, name: str) -> bytes:
        member = self._members().get(_plain(name))
        if member is None:
            raise ValueError(f"there is no image {name!r} in the tar files ({self._tars[0]} and any others)")
        if member.tar < 0:
            raise ValueError(f"several tar files hold an image {name!r}: give each image its own name")
        with self._tars[member.tar].open("rb") as stream:
            stream.seek(member.start)
            return stream.read(member.size)

    def _members(self) -> dict[str, _Member]:
        with self._lock:
            if self._index is None:
                self._index = {}
                for number, path in enumerate(self._tars):
                    for name, member in _members(number, path):
                        self._index[name] = member if name not in self._index else _Member(-1, 0, 0)
            return self._index


def _members(number: int, path: Path) -> Iterator[tuple[str, _Member]]:
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # the library would keep them all
                if member.isfile():
                    yield _plain(member.name), _Member(number, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise OSError(
            f"{path} cannot be read as an uncompressed tar file ({error}): decompress it first"
        ) from error


def _plain(name: str) -> str:
    return str(PurePosixPath(name))


def open_image(data: bytes) -> Image.Image:
    """Decode an image as RGB; transparent pixels become white.

    Raises:
        ValueError: the image cannot be decoded.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if "A" in image.getbands() or "transparency" in image.info:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # a damaged image may raise anything
        raise ValueError(f"the image cannot be decoded: {error}") from error


def fit(image: Image.Image, parts: Parts, size: tuple[int, int], how: str) -> tuple[Image.Image, Parts]:
    """Resize an image, and move the chain's boxes to where their objects are afterwards.

    Args:
        image: of any size.
        parts: free text and objects with boxes.
        size: width and height in pixels.
        how: `crop` resizes until the shorter side fits and cuts the longer one equally at both ends, as Janus
            was trained (arXiv 2410.13848 and 2501.17811, training details: "short side resized, long side
            cropped"). `squash` resizes each side by itself, which keeps all boxes and distorts other shapes.

    Raises:
        CutOffError: the crop removes an object.
    """
    width, height = image.size
    kept: tuple[float, float] = width, height
    if how == "crop":
        kept = min(width, height * size[0] / size[1]), min(height, width * size[1] / size[0])
    left, top = (width - kept[0]) / 2, (height - kept[1]) / 2
    window = left, top, min(width, left + kept[0]), min(height, top + kept[1])
    resized = image.resize(size, Image.Resampling.BICUBIC, box=window)
    if kept == (width, height):
        return resized, parts
    moved = [part if isinstance(part, str) else _moved(part, width, height, window) for part in parts]
    return resized, moved


def _moved(
    planned: PlannedObject, width: int, height: int, window: tuple[float, float, float, float]
) -> PlannedObject:
    """The object within a window of the image (left, top, right, bottom in pixels)."""
    box = planned.box
    assert box is not None
    left, top, right, bottom = window
    x1, x2 = (_within(x * width / CANVAS, left, right) for x in (box.x1, box.x2))
    y1, y2 = (_within(y * height / CANVAS, top, bottom) for y in (box.y1, box.y2))
    if x1 == x2 or y1 == y2:
        raise CutOffError(
            f"{planned.name!r} lies in the part of the image of {width}x{height} that the crop removes"
        )
    return PlannedObject(name=planned.name, box=Box(x1, y1, x2, y2))


def _within(pixel: float, start: float, end: float) -> int:
    """The position of a pixel between `start` and `end`, from 0 to CANVAS."""
    return round(min(max((pixel - start) / (end - start), 0), 1) * CANVAS)
