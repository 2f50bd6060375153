"""Pictures of GoT data: where their bytes lie, and how a picture and its boxes are brought to the size a policy draws."""

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
from harness.types import CANVAS, Box, PlannedObject

FITS = ("crop", "squash")


class Images(Protocol):
    """Where pictures lie by name."""

    def read(self, name: str) -> bytes:
        """The bytes of an encoded picture.

        Raises:
            ValueError: there is none of that name.
        """
        ...


class ImageFolder:
    """Pictures as files below a folder, by their path within it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"the picture {name!r} does not lie below {self._root}: give its path within that folder"
            )
        try:
            return (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ValueError(f"there is no picture {self._root / path}") from None


class _Member(NamedTuple):
    tar: int
    start: int
    size: int


class ImageTars:
    """Pictures as members of uncompressed tar files, by their name there.

    All headers are read once, when the first picture is asked for; after that every picture is one read, in any order and by
    several threads. The index takes about 300 bytes of memory a picture.
    """

    def __init__(self, tars: Sequence[Path]) -> None:
        self._tars = list(tars)
        self._lock = threading.Lock()
        self._index: dict[str, _Member] | None = None

    def read(self, name: str) -> bytes:
        found = self._places().get(_plain(name))
        if found is None:
            raise ValueError(
                f"there is no picture {name!r} in the tar files, the first of which is {self._tars[0]}"
            )
        if found.tar < 0:
            raise ValueError(f"several tar files hold a picture {name!r}: which one is meant is unclear")
        with self._tars[found.tar].open("rb") as stream:
            stream.seek(found.start)
            return stream.read(found.size)

    def _places(self) -> dict[str, _Member]:
        with self._lock:
            if self._index is None:
                self._index = {}
                for number, path in enumerate(self._tars):
                    for name, place in _members(number, path):
                        self._index[name] = place if name not in self._index else _Member(-1, 0, 0)
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
            f"{path} cannot be read as an uncompressed tar file ({error}): unpack what is compressed first"
        ) from error


def _plain(name: str) -> str:
    return str(PurePosixPath(name))


def open_image(data: bytes) -> Image.Image:
    """The picture as RGB; what is transparent becomes white.

    Raises:
        ValueError: it cannot be decoded.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if "A" in image.getbands() or "transparency" in image.info:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture may raise anything
        raise ValueError(f"the picture cannot be decoded: {error}") from error


def fit(image: Image.Image, parts: Parts, size: tuple[int, int], how: str) -> tuple[Image.Image, Parts]:
    """The picture in another size, and the chain's boxes where its objects then are.

    Args:
        image: of any size.
        parts: free text and objects with boxes.
        size: width and height in pixels.
        how: `crop` resizes until the shorter side fits and cuts the longer one equally at both ends, as Janus was trained
            (arXiv 2410.13848 and 2501.17811, training details: "short side resized, long side cropped"); `squash` resizes each side
            by itself, which leaves all boxes where they are and distorts what is not of that shape already.

    Raises:
        CutOffError: an object lies where the picture is cut off.
    """
    width, height = image.size
    seen: tuple[float, float] = width, height
    if how == "crop":
        seen = min(width, height * size[0] / size[1]), min(height, width * size[1] / size[0])
    left, top = (width - seen[0]) / 2, (height - seen[1]) / 2
    window = left, top, min(width, left + seen[0]), min(height, top + seen[1])
    resized = image.resize(size, Image.Resampling.BICUBIC, box=window)
    if seen == (width, height):
        return resized, parts
    moved = [part if isinstance(part, str) else _moved(part, width, height, window) for part in parts]
    return resized, moved


def _moved(
    thing: PlannedObject, width: int, height: int, window: tuple[float, float, float, float]
) -> PlannedObject:
    """The object within a window of the picture (left, top, right, bottom in pixels)."""
    box = thing.box
    assert box is not None
    left, top, right, bottom = window

    def along(place: int, length: int, start: float, end: float) -> int:
        return round(min(max((place * length / CANVAS - start) / (end - start), 0), 1) * CANVAS)

    x1, x2 = (along(place, width, left, right) for place in (box.x1, box.x2))
    y1, y2 = (along(place, height, top, bottom) for place in (box.y1, box.y2))
    if x1 == x2 or y1 == y2:
        raise CutOffError(f"{thing.name!r} lies outside of what is cut from the picture of {width}x{height}")
    return PlannedObject(name=thing.name, box=Box(x1, y1, x2, y2))
