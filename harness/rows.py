"""JSON-lines files: whole rows are written, and read back whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jsonlines


def write(file: Path, rows: Iterable[Mapping[str, Any]], mode: Literal["w", "a"] = "w") -> None:
    """Writes one line per row, anew or behind those that are there."""
    with jsonlines.open(file, mode) as stream:
        stream.write_all(rows)


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a file, none where there is no file; a last line that was cut off or is still being written is left out.

    Raises:
        ValueError: another line is damaged.
    """
    if not file.is_file():
        return []
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):  # not splitlines: text may hold other line separators
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"line {number} of {file} is damaged ({error}): delete the folder {file.parent} and run the sweep's command again, "
                "which makes it anew"
            ) from error
    return rows
