"""`data=got`: GoT training data from files (paper section 3, stage 1: LAHR-GoT, JourneyDB-GoT and FLUX-GoT).

A source is a set of annotation files and the place of its pictures. Its files are read in the order of their names,
and several sources in turn, a record of each, so that any number of first records holds all of them.
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
from harness.types import Prompt, Record

COLUMNS = ("prompt", "chain", "image")


class GotData:
    """Records in files.

    Args:
        sources: name -> `shards`, `images` and `columns`. `shards` are annotation files (JSON arrays, JSON lines, parquet), as a path or
            a pattern or a list of those; null leaves the source out. `images` is a folder, or tar files as a path or a pattern or a
            list of those, that hold the pictures by the names in the annotation; null where parquet files hold the pictures
            themselves. `columns` says what the annotation calls prompt, chain and image.
        fit: how a picture is brought to the policy's size, see `harness.data.images.fit`.
        max_bad_share: of the records, those that may be faulty; more stop the run.
    """

    endless = False

    def __init__(self, *, sources: Mapping[str, Mapping[str, Any]], fit: str, max_bad_share: float) -> None:
        settings.choice("data.fit", fit, FITS)
        self.max_bad_share = settings.share("data.max_bad_share", max_bad_share)
        self._sources = [
            _Source(name, fit, **source) for name, source in sources.items() if source["shards"] is not None
        ]
        if not self._sources:
            names = " or ".join(f"data.sources.{name}.shards" for name in sources)
            raise ValueError(
                f"data=got reads files and none are named: give {names}, and where the pictures are; or start from a checkpoint that "
                "writes chains already, with sft.steps=0"
            )

    @property
    def external(self) -> tuple[str, ...]:
        """Annotation files, which count by content."""
        return tuple(
            str(path) for source in self._sources if source.images is not None for path in source.shards
        )

    @property
    def listing(self) -> tuple[tuple[str, int], ...]:
        """Name and size of the files that hold pictures: they count by these, as reading terabytes for a hash would take hours."""
        return tuple(
            (path.name, path.stat().st_size) for source in self._sources for path in source.picture_files
        )

    def count(self, limit: int | None) -> int:
        """How many records the files hold, good and bad, at most `limit`: all annotation files are read, and no picture.

        Raises:
            ValueError: they hold fewer than `limit`.
        """
        found = sum(1 for _ in islice(self._all(), limit))
        if limit is not None and found < limit:
            raise ValueError(
                f"sft.records={limit}, but the files of data=got hold {found}: lower it, or give null for all of them"
            )
        return found

    def entries(self, seed: int | None, count: int) -> Iterator[GotEntry]:
        """The first `count` records, not read yet; the seed is of no effect."""
        return islice(self._all(), count)

    def _all(self) -> Iterator[GotEntry]:
        streams = [source.entries() for source in self._sources]
        while streams:
            going_on = []
            for stream in streams:
                if (entry := next(stream, None)) is not None:
                    going_on.append(stream)
                    yield entry
            streams = going_on


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
        """The record with its picture in a size and its boxes to match.

        Raises:
            CutOffError: see `harness.data.images.fit`.
            ValueError: the record is faulty; says why.
            OSError: the storage is at fault and not the record.
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
                f"no column {self.columns[role]!r} for the {role} (data.sources.{self.category}.columns), there are: {names}"
            )
        return value

    def _text(self, role: str) -> str:
        value = self._column(role)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"the {role} in column {self.columns[role]!r} is no text: {str(value)[:40]!r}")
        value.encode()  # a lone surrogate is a ValueError too
        return value


class _Source:
    """Annotation files with the place of their pictures; settings as in `GotData`."""

    def __init__(self, name: str, fit: str, *, shards: Any, images: Any, columns: Mapping[str, str]) -> None:
        self._name, self._fit = name, fit
        if set(columns) != set(COLUMNS) or not all(isinstance(column, str) for column in columns.values()):
            raise ValueError(
                f"data.sources.{name}.columns={dict(columns)}: name the columns of {', '.join(COLUMNS)}"
            )
        self._columns = dict(columns)
        annotation = f"annotation files ({', '.join(SUFFIXES)}), * stands for any name"
        self.shards = _files(f"data.sources.{name}.shards", shards, SUFFIXES, annotation)
        self.images: Images | None = None
        self.picture_files: list[Path] = []
        setting = f"data.sources.{name}.images"
        if images is None:
            if text := [path for path in self.shards if path.suffix != ".parquet"]:
                raise ValueError(
                    f"{setting}=null means that the pictures lie in parquet files, and {text[0]} is none: give a folder or tar files"
                )
            self.picture_files = self.shards
        elif isinstance(images, str) and Path(images).expanduser().is_dir():
            self.images = ImageFolder(Path(images).expanduser())
        else:
            self.picture_files = _files(
                setting,
                images,
                (".tar",),
                "a folder that holds pictures, or .tar files, * stands for any name",
            )
            self.images = ImageTars(self.picture_files)

    def entries(self) -> Iterator[GotEntry]:
        wanted, embedded = (
            list(self._columns.values()),
            self._columns["image"] if self.images is None else None,
        )
        for shard in self.shards:
            for row in rows(shard, wanted, embedded):
                place = f"{shard}:{row.number}"
                yield GotEntry(
                    place=place,
                    row=row,
                    columns=self._columns,
                    read=self._read,
                    category=self._name,
                    fit=self._fit,
                )

    def _read(self, value: Any) -> bytes:
        """The picture that an image column means."""
        if self.images is None:
            return value()
        if not isinstance(value, str):
            raise ValueError(
                f"the column {self._columns['image']!r} holds no name of a picture: {str(value)[:40]!r}"
            )
        return self.images.read(value)


def _files(setting: str, patterns: Any, suffixes: Sequence[str], wanted: str) -> list[Path]:
    """The files that paths and patterns mean, sorted and each once.

    Raises:
        ValueError: one of them means no file, or a file with another suffix.
    """
    found: set[Path] = set()
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        path = Path(pattern).expanduser()
        matches = [path] if path.exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute
        if not matches:
            raise ValueError(f"{setting}={pattern}: there is no such file. Give {wanted}")
        if strange := [
            match for match in sorted(matches) if not match.is_file() or match.suffix not in suffixes
        ]:
            raise ValueError(f"{setting}={pattern}: {strange[0]} is none of those. Give {wanted}")
        found.update(matches)
    return sorted(found)
