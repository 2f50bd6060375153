"""A stage reads the external files that its key was made of, though somebody edits them meanwhile.

They are compared when the program has ended, well or not. What was made while they changed may hold both
contents, so it is removed: under the same key, once the files are restored, it would be resumed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.stages import contents


class ChangedExternalError(RuntimeError):
    """An external file is no longer as it was when the stage's key was computed. The message names it."""


@contextmanager
def guarded(paths: Sequence[str], unfinished: Path) -> Iterator[None]:
    """Compares external files and folders at the begin and at the end of the block, also if it raises.

    Args:
        paths: the stage's external files and folders.
        unfinished: the folder of what is made of them; it is removed if they have changed.

    Raises:
        ChangedExternalError: they have changed.
    """
    before = _digests(paths)
    try:
        yield
    finally:
        now = _digests(paths)
        if changed := [path for path in before if before[path] != now[path]]:
            shutil.rmtree(unfinished, ignore_errors=True)
            left = f", but delete {unfinished} yourself" if unfinished.exists() else ""
            raise ChangedExternalError(
                f"external files have changed while the stage was made: {', '.join(changed)}. The result"
                f" would not be what its key says, so it and all steps made so far are removed{left}. Run the"
                " same command again, and leave the files as they are until it has ended"
            )


def _digests(paths: Sequence[str]) -> dict[str, str | None]:
    """Path -> digest of its contents; None where it cannot be read."""
    digests: dict[str, str | None] = {}
    for path in paths:
        try:
            digests[path] = contents.digest(path)
        except (OSError, ValueError):
            digests[path] = None
    return digests
