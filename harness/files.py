"""Files and folders: written whole or not at all, JSON lines, and the cache. Plugins use these functions too.

A reader sees a file or folder as it was before or as it is after, never in part, whatever is killed in between.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import jsonlines

PROJECT = "got-r1-harness"


def cache(name: str) -> Path:
    """`$XDG_CACHE_HOME/got-r1-harness/NAME`, by default below `~/.cache`. Its content may be deleted at any time."""
    with suppress(RuntimeError):  # there is no home directory
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PROJECT / name
    return Path(tempfile.gettempdir()) / PROJECT / name


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """Yields a temporary path beside `file`, which takes the name `file` when the block ends without an error.

    Raises:
        OSError: the file cannot be written. Nothing is left behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        yield new
        new.replace(file)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Writes a text file whole, in UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    with writing(file) as new:
        new.write_text(text, encoding="utf-8")


def swap_folder(made: Path, target: Path) -> None:
    """Renames the folder `made` to `target`; a folder that has that name already is removed.

    Raises:
        OSError: a folder cannot be renamed; the old one is then where it was.
    """
    if not target.exists():
        made.rename(target)
        return
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", suffix=".old", dir=target.parent, ignore_cleanup_errors=True
    ) as aside:
        old = Path(aside) / target.name
        target.rename(old)
        try:
            made.rename(target)
        except OSError:
            old.rename(target)
            raise


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]], mode: Literal["w", "a"] = "w") -> None:
    """Writes one JSON line per row. Mode "w" replaces the file whole, "a" appends to it."""
    if mode == "a":
        with jsonlines.open(file, "a") as stream:
            stream.write_all(rows)
        return
    with writing(file) as new, jsonlines.open(new, "w") as stream:
        stream.write_all(rows)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Returns the rows of a JSON-lines file of ours, none where there is no file.

    A last line without a line end is left out: it was cut off, or is being written.

    Raises:
        ValueError: another line is damaged.
    """
    if not file.is_file():
        return []
    rows = []
    for number, line in enumerate(
        file.read_bytes().split(b"\n")[:-1], start=1
    ):  # not splitlines: text may hold other line separators
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"line {number} of {file} is damaged ({error}). Delete the folder {file.parent} and run the sweep's command again"
                " to make it again"
            ) from error
    return rows
