"""Paths: those that users write, and the folder of caches."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

PROJECT = "got-r1-harness"
MOST_NAME_BYTES = 255  # of a file or folder, on the file systems in use


def cache(name: str) -> Path:
    """Return `$XDG_CACHE_HOME/got-r1-harness/NAME`, by default below `~/.cache`. It may be deleted."""
    with suppress(RuntimeError, ValueError):  # there is no home directory
        return user_path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PROJECT / name
    return Path(tempfile.gettempdir()) / PROJECT / name


def user_path(text: str | Path) -> Path:
    """Return the path that a user has written, where `~` and `~NAME` at its beginning are home folders.

    Raises:
        ValueError: there is no such home folder, or no file can have this path.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: {error} Give the path from / on") from None
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > MOST_NAME_BYTES or "\0" in str(path):
        why = "holds a null character" if "\0" in str(path) else f"has a name of {longest} bytes"
        raise ValueError(f"the path {str(path)[:60]!r}... {why}, which no file has: correct the path")
    return path
