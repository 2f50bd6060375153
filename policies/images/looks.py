"""What a look into every file tells of a set of pictures: each is opened and decoded once, by a few threads."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from harness.types import Prompt
from policies.images.findings import (
    ANIMATED,
    BAD_CHAIN,
    EQUAL,
    LARGE,
    LEAST,
    MODE,
    MOST,
    ODD_SIZE,
    TINY,
    UNREADABLE,
    Finding,
    Kind,
)
from policies.images.folder import Picture, Shelf
from policies.images.names import within

FEWEST, MOST_THREADS = 2, 8  # PIL lets other threads run while it decodes
LARGE_PIXELS = 16 * 2**20  # larger pictures are decoded one at a time, which bounds the memory
DEEP = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_one_large = threading.Lock()

Owned = Sequence[tuple[Prompt, Picture]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a file is: size in pixels, mode as PIL calls it, digest (None where it was not asked for); or why it is no good."""

    size: tuple[int, int] = (0, 0)
    mode: str = "RGB"
    digest: str | None = None
    fault: tuple[Kind, str] | None = None


def check_files(
    folder: Path,
    pictures: Owned,
    found: Mapping[str, Shelf],
    *,
    mixed_sizes: bool,
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """What is wrong with the files.

    Args:
        folder: what files are named within.
        pictures: each with the prompt that it belongs to.
        found: category -> its shelf, whose pictures are of one size.
        mixed_sizes: whether they need not be.
        progress: is told how many are done, of how many.
    """
    looks = _look_at_all(pictures, progress)
    findings = [
        *_faults(folder, looks),
        *_modes(folder, looks),
        *_chains(folder, pictures),
        *_equal(folder, pictures, looks),
    ]
    return findings if mixed_sizes else [*findings, *_odd_sizes(folder, pictures, found, looks)]


def _look_at_all(pictures: Owned, progress: Callable[[int, int], None]) -> dict[Picture, Look]:
    lengths = [_length(picture.image) for _, picture in pictures]
    often = {
        length for length, times in Counter(lengths).items() if times > 1
    }  # only files of equal length can be equal
    pool = ThreadPoolExecutor(max(FEWEST, min(MOST_THREADS, os.cpu_count() or 1)))
    looks = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            found = pool.map(
                look, [picture.image for _, picture in pictures], [length in often for length in lengths]
            )
            for done, ((_, picture), one) in enumerate(zip(pictures, found, strict=True), start=1):
                looks[picture] = one
                progress(done, len(pictures))
        finally:
            pool.shutdown(cancel_futures=True)
    return looks


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def look(path: Path, digest: bool) -> Look:
    """Opens and decodes a file, as far as its header lets it."""
    try:
        with Image.open(path) as image:
            size, mode = image.size, image.mode
            if fault := _header(image):
                return Look(size=size, fault=fault)
            with _one_large if size[0] * size[1] > LARGE_PIXELS else nullcontext():
                image.load()
                if mode != "RGB":
                    image.convert("RGB")
        with path.open("rb") as file:
            return Look(
                size=size,
                mode=mode,
                digest=hashlib.file_digest(file, "blake2b").hexdigest() if digest else None,
            )
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return Look(fault=(LARGE, str(error)))
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        return Look(fault=(UNREADABLE, str(error) or type(error).__name__))


def _header(image: Image.Image) -> tuple[Kind, str] | None:
    width, height = image.size
    if max(width, height) > MOST:
        return LARGE, f"{width} x {height}"
    if min(width, height) < LEAST:
        return TINY, f"{width} x {height}"
    frames = getattr(image, "n_frames", 1)
    return (ANIMATED, f"{frames} frames") if frames > 1 else None


def _faults(folder: Path, looks: Mapping[Picture, Look]) -> Iterator[Finding]:
    for picture, one in looks.items():
        if one.fault:
            kind, reason = one.fault
            yield Finding(kind=kind, text=f"{within(folder, picture.image)}: {reason}", pictures=(picture,))


def _modes(folder: Path, looks: Mapping[Picture, Look]) -> Iterator[Finding]:
    for picture, one in looks.items():
        if one.mode != "RGB":
            deep = ", of which all above 255 becomes white" if one.mode in DEEP else ""
            yield Finding(kind=MODE, text=f"{within(folder, picture.image)}: {one.mode}{deep}")


def _chains(folder: Path, pictures: Owned) -> Iterator[Finding]:
    for _, picture in pictures:
        if isinstance(picture.chain, Path) and picture.chain.is_file():
            try:
                picture.chain.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError) as error:
                yield Finding(
                    kind=BAD_CHAIN, text=f"{within(folder, picture.chain)}: {error}", pictures=(picture,)
                )


def _odd_sizes(
    folder: Path, pictures: Owned, found: Mapping[str, Shelf], looks: Mapping[Picture, Look]
) -> Iterator[Finding]:
    sound = [
        (id(found[prompt.category]), picture) for prompt, picture in pictures if not looks[picture].fault
    ]
    for own in _grouped(sound).values():
        usual, _ = Counter(looks[picture].size for picture in own).most_common(1)[0]
        for picture in own:
            if (size := looks[picture].size) != usual:
                text = f"{within(folder, picture.image)}: {size[0]} x {size[1]}, most are {usual[0]} x {usual[1]}"
                yield Finding(kind=ODD_SIZE, text=text, pictures=(picture,))


def _equal(folder: Path, pictures: Owned, looks: Mapping[Picture, Look]) -> Iterator[Finding]:
    """Copies. Prompts of one text may share them: with the official seeds they are drawn alike."""
    digests = [
        (looks[picture].digest, (prompt.id, picture)) for prompt, picture in pictures if looks[picture].digest
    ]
    for group in _grouped(digests).values():
        alone = len({picture.text for _, picture in group}) == 1
        first = dict(reversed(group))
        copies = [picture for prompt, picture in group if not alone or first[prompt] is not picture]
        if copies:
            shown = [within(folder, picture.image) for _, picture in group[:3]]
            more = [f"{len(group) - 3} more"] if len(group) > 3 else []
            yield Finding(kind=EQUAL, text=" = ".join([*shown, *more]), pictures=tuple(copies))


def _grouped(pairs: Sequence[tuple[Hashable, T]]) -> dict[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return groups
