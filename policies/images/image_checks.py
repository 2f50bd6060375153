"""The checks of image files: each is opened and decoded once, by a few threads."""

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

from harness.files import read_user_text
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
from policies.images.folder import ImageFile, ImageGroup
from policies.images.name_checks import within

LEAST_THREADS, MOST_THREADS = 2, 8  # PIL lets other threads run while it decodes
LARGE_PIXELS = 16 * 2**20  # larger images are decoded one at a time, which bounds the memory
DEEP = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_one_large = threading.Lock()

PromptImages = Sequence[tuple[Prompt, ImageFile]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Size in pixels, PIL's mode, and digest (None where it was not asked for) of a file; or its fault."""

    size: tuple[int, int] = (0, 0)
    mode: str = "RGB"
    digest: str | None = None
    fault: tuple[Kind, str] | None = None


def check_files(
    folder: Path,
    images: PromptImages,
    groups: Mapping[str, ImageGroup],
    *,
    mixed_sizes: bool,
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """Return the findings about the files.

    Args:
        folder: the folder that paths are shown relative to.
        images: the images, each with its prompt.
        groups: category -> its group, whose images must have one size.
        mixed_sizes: whether sizes may differ.
        progress: receives how many images are done, of how many.
    """
    facts = _read_facts(images, progress)
    findings = [
        *_faults(folder, facts),
        *_modes(folder, facts),
        *_chains(folder, images),
        *_copies(folder, images, facts),
    ]
    return findings if mixed_sizes else [*findings, *_odd_sizes(folder, images, groups, facts)]


def _read_facts(images: PromptImages, progress: Callable[[int, int], None]) -> dict[ImageFile, ImageFacts]:
    paths = [image.path for _, image in images]
    lengths = list(map(_length, paths))
    times = Counter(lengths)
    digest = [times[length] > 1 for length in lengths]  # only files of equal length can be equal
    pool = ThreadPoolExecutor(max(LEAST_THREADS, min(MOST_THREADS, os.cpu_count() or 1)))
    facts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            results = pool.map(read_facts, paths, digest)
            for done, ((_, image), result) in enumerate(zip(images, results, strict=True), start=1):
                facts[image] = result
                progress(done, len(images))
        finally:
            pool.shutdown(cancel_futures=True)
    return facts


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def read_facts(path: Path, digest: bool) -> ImageFacts:
    """Open and decode a file, unless its header shows a fault already."""
    try:
        with Image.open(path) as image:
            size, mode = image.size, image.mode
            fault = _header_fault(image)
            if fault:
                return ImageFacts(size=size, fault=fault)
            with _one_large if size[0] * size[1] > LARGE_PIXELS else nullcontext():
                image.load()
                if mode != "RGB":
                    image.convert("RGB")
        return ImageFacts(size=size, mode=mode, digest=_digest(path) if digest else None)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return ImageFacts(fault=(LARGE, str(error)))
    except Exception as error:  # decoders raise many types for damaged files
        return ImageFacts(fault=(UNREADABLE, str(error) or type(error).__name__))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _header_fault(image: Image.Image) -> tuple[Kind, str] | None:
    width, height = image.size
    if max(width, height) > MOST:
        return LARGE, f"{width} x {height}"
    if min(width, height) < LEAST:
        return TINY, f"{width} x {height}"
    frames = getattr(image, "n_frames", 1)
    return (ANIMATED, f"{frames} frames") if frames > 1 else None


def _faults(folder: Path, facts: Mapping[ImageFile, ImageFacts]) -> Iterator[Finding]:
    for image, known in facts.items():
        if known.fault:
            kind, reason = known.fault
            yield Finding(kind=kind, text=f"{within(folder, image.path)}: {reason}", images=(image,))


def _modes(folder: Path, facts: Mapping[ImageFile, ImageFacts]) -> Iterator[Finding]:
    for image, known in facts.items():
        if known.mode != "RGB":
            deep = ", of which all above 255 becomes white" if known.mode in DEEP else ""
            yield Finding(kind=MODE, text=f"{within(folder, image.path)}: {known.mode}{deep}")


def _chains(folder: Path, images: PromptImages) -> Iterator[Finding]:
    for _, image in images:
        if isinstance(image.chain, Path) and image.chain.is_file():
            try:
                read_user_text(image.chain)
            except (ValueError, OSError) as error:
                reason = error.__cause__ or error  # without the file's name, which stands here already
                yield Finding(
                    kind=BAD_CHAIN, text=f"{within(folder, image.chain)}: {reason}", images=(image,)
                )


def _odd_sizes(
    folder: Path,
    images: PromptImages,
    groups: Mapping[str, ImageGroup],
    facts: Mapping[ImageFile, ImageFacts],
) -> Iterator[Finding]:
    valid = [(id(groups[prompt.category]), image) for prompt, image in images if not facts[image].fault]
    for group in _grouped(valid).values():
        usual, _ = Counter(facts[image].size for image in group).most_common(1)[0]
        for image in group:
            size = facts[image].size
            if size != usual:
                sizes = f"{size[0]} x {size[1]}, most are {usual[0]} x {usual[1]}"
                yield Finding(kind=ODD_SIZE, text=f"{within(folder, image.path)}: {sizes}", images=(image,))


def _copies(folder: Path, images: PromptImages, facts: Mapping[ImageFile, ImageFacts]) -> Iterator[Finding]:
    """Yield equal files. Prompts of one text may have them: the official seeds are those of every prompt."""
    digests = []
    for prompt, image in images:
        if facts[image].digest:
            digests.append((facts[image].digest, (prompt.id, image)))
    for group in _grouped(digests).values():
        one_text = len({image.text for _, image in group}) == 1
        first = dict(reversed(group))
        copies = [image for prompt_id, image in group if not one_text or first[prompt_id] is not image]
        if copies:
            shown = [within(folder, image.path) for _, image in group[:3]]
            more = [f"{len(group) - 3} more"] if len(group) > 3 else []
            yield Finding(kind=EQUAL, text=" = ".join([*shown, *more]), images=tuple(copies))


def _grouped(pairs: Sequence[tuple[Hashable, T]]) -> dict[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
