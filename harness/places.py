"""Where things lie that are kept between runs and are no part of a study."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

OURS = "got-r1-harness"


def cache(name: str) -> Path:
    """`$XDG_CACHE_HOME/got-r1-harness/NAME`, by default below `~/.cache`: what is there may be deleted, and is fetched or made anew."""
    with suppress(RuntimeError):  # no home
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / OURS / name
    return Path(tempfile.gettempdir()) / OURS / name
