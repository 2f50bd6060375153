"""`data=got`: GoT training data from files (paper section 3, stage 1: LAHR-GoT, JourneyDB-GoT and FLUX-GoT).

A source is a set of annotation files with its images. Its files are read in the order of their names. Several
sources take turns, one record each, so the first N records come from all of them.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness import settings
from harness.chain import END, without_control_tokens
from harness.data import chains
from harness.data.files import SUFFIXES, Row, rows
from harness.data.images import FITS, ImageFolder, Images, ImageTars, fit, open_image
from harness.paths import user_path
from harness.types import Prompt, Record

COLUMNS = ("prompt", "chain", "image")


class GotData:
    """Records in files.

    Args:
        sources: name -> `shards`, `images` and `columns`.
            `shards`: annotation files (JSON arrays, JSON lines, parquet), as a path, a pattern or a list of
            these. null leaves the source out.
            `images`: a folder, or tar files as a path, a pattern or a list of these. They hold the images by
            the names in the annotation. null when parquet files hold the images themselves.
            `columns`: the annotation's names for prompt, chain and image.
        fit: how an image is resized to the policy's size, see `harness.data.images.fit`.
        max_bad_share: share of the records that may be faulty; a larger share stops the run.
    """

    endless = False

    def __init__(self, *, sources: Mapping[str, Mapping[str, Any]], fit: str, max_bad_share: float) -> None:
        settings.choice("data.fit", fit, FITS)
        self.max_bad_share = settings.share("data.max_bad_share", max_bad_share)
        self._sources = []
        for name, source in sources.items():
            if source["shards"] is not None:
                self._sources.append(_Source(name, fit, **source))
        if not self._sources:
            names = " or ".join(f"data.sources.{name}.shards" for name in sources)
            raise ValueError(
                f"data=got reads files and none are named: give {names}, and the images that belong to them; "
                "or start from a checkpoint that writes chains already, with sft.steps=0"
            )

    @property
    def external(self) -> tuple[str, ...]:
        """Paths of the annotation files, which count by content."""
        paths: list[str] = []
        for source in self._sources:
            if source.images is not None:
                paths += [str(path) for path in source.shards]
        return tuple(paths)

    @property
    def listing(self) -> tuple[tuple[str, int], ...]:
        """Name and size of the files that hold images. Hashing terabytes would take hours."""
        files: list[tuple[str, int]] = []
        for source in self._sources:
            files += [(path.name, path.stat().st_size) for path in source.image_files]
        return tuple(files)

    def count(self, limit: int | None) -> int:
        """Count the records of the files, good and bad, up to `limit`. This reads annotations and no image.

        Raises:
            ValueError: the files hold fewer than `limit` records.
        """
        total = sum(1 for _ in islice(self._all(), limit))
        if limit is not None and total < limit:
            raise ValueError(
                f"sft.records={limit}, but the files of data=got hold {total}: lower it, "
                "or set null to use all of them"
            )
        return total

    def entries(self, seed: int | None, count: int) -> Iterator[GotEntry]:
        """Yield the first `count` records, not loaded yet; the seed has no effect."""
        return islice(self._all(), count)

    def _all(self) -> Iterator[GotEntry]:
        streams = [source.entries() for source in self._sources]
        while streams:
            unfinished = []
            for stream in streams:
                entry = next(stream, None)
                if entry is not None:
                    unfinished.append(stream)
                    yield entry
            streams = unfinished


@dataclass(frozen=True, kw_only=True)
class GotEntry:
    """A row of an annotation file (`harness.protocols.Entry`)."""

    place: str
    row: Row
    columns: Mapping[str, str]
    read: Callable[[Any], bytes]
    category: str
    fit: str

    def load(self, size: tuple[int, int]) -> Record:
        """Return the record with its image resized to `size` and its boxes moved to match.

        Raises:
            CutOffError: see `harness.data.images.fit`.
            ValueError: the record is faulty; says why.
            OSError: the storage is at fault, not the record.
        """
        if self.row.fault is not None:
            raise ValueError(self.row.fault)
        parts: chains.Parts = chains.read(self._text("chain"))
        prompt = self._text("prompt").strip()
        if END in prompt or without_control_tokens(prompt) != prompt:
            raise ValueError(
                f"the prompt holds a token of the grammar, or another control token: {prompt[:80]!r}"
            )
        image, parts = fit(open_image(self.read(self._column("image"))), parts, size, self.fit)
        return Record(
            prompt=Prompt(id=self.place, text=prompt, category=self.category),
            chain=chains.write(parts),
            image=image,
        )

    def _column(self, role: str) -> Any:
        value = self.row.columns.get(self.columns[role])
        if value is None:
            names = ", ".join(sorted(self.row.columns)) or "none"
            raise ValueError(
                f"no column {self.columns[role]!r} for the {role} (data.sources.{self.category}.columns). "
                f"The row has: {names}"
            )
        return value

    def _text(self, role: str) -> str:
        value = self._column(role)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"the {role} in column {self.columns[role]!r} is not text: {str(value)[:40]!r}")
        value.encode()  # a lone surrogate is a ValueError too
        return value


class _Source:
    """Annotation files with their images; settings as in `GotData`."""

    def __init__(self, name: str, fit: str, *, shards: Any, images: Any, columns: Mapping[str, str]) -> None:
        self._name, self._fit = name, fit
        if set(columns) != set(COLUMNS) or not all(isinstance(column, str) for column in columns.values()):
            raise ValueError(
                f"data.sources.{name}.columns={dict(columns)}: give one column name for each of "
                f"{', '.join(COLUMNS)}"
            )
        self._columns = dict(columns)
        annotation = f"annotation files ({', '.join(SUFFIXES)}); * matches any name"
        self.shards = _files(f"data.sources.{name}.shards", shards, SUFFIXES, annotation)
        self.images: Images | None = None
        self.image_files: list[Path] = []
        setting = f"data.sources.{name}.images"
        if images is None:
            others = [path for path in self.shards if path.suffix != ".parquet"]
            if others:
                raise ValueError(
                    f"{setting}=null means that parquet files hold the images, and {others[0]} is no parquet "
                    "file: give a folder or tar files"
                )
            self.image_files = self.shards
        elif isinstance(images, str) and user_path(images).is_dir():
            self.images = ImageFolder(user_path(images))
        else:
            wanted = "a folder that holds images, or .tar files; * matches any name"
            self.image_files = _files(setting, images, (".tar",), wanted)
            self.images = ImageTars(self.image_files)

    def entries(self) -> Iterator[GotEntry]:
        embedded = self._columns["image"] if self.images is None else None
        for shard in self.shards:
            for row in rows(shard, list(self._columns.values()), embedded):
                yield GotEntry(
                    place=f"{shard}:{row.number}",
                    row=row,
                    columns=self._columns,
                    read=self._read,
                    category=self._name,
                    fit=self._fit,
                )

    def _read(self, value: Any) -> bytes:
        """Return the encoded image that a value of the image column refers to."""
        if self.images is None:
            return value()
        if not isinstance(value, str):
            raise ValueError(
                f"the column {self._columns['image']!r} holds no image name: {str(value)[:40]!r}"
            )
        return self.images.read(value)


def _files(setting: str, patterns: Any, suffixes: Sequence[str], wanted: str) -> list[Path]:
    """Return the files that match paths and patterns, sorted and each once.

    Raises:
        ValueError: a pattern matches no file, or a file with another suffix.
    """
    files: set[Path] = set()
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        path = user_path(pattern)
        matches = [path]
        if not path.exists():
            matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - absolute
        if not matches:
            raise ValueError(f"{setting}={pattern}: there is no such file. Give {wanted}")
        for match in matches:
            if not match.is_file() or match.suffix not in suffixes:
                raise ValueError(f"{setting}={pattern}: {match} is none of those. Give {wanted}")
        files.update(matches)
    return sorted(files)
