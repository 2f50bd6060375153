"""The unfinished folder of a stage: `<name>-<key>.part`, then `.part2`, `.part3` after each fencing.

Nobody can end a process on a machine that does not answer. So the folder gets another name before another
process works in it: whatever the first one still writes then has no place, and fails.
"""

from __future__ import annotations

import shutil
from pathlib import Path

PART = ".part"


def unfinished_folder(folder: Path) -> Path:
    """Return the unfinished folder of the stage whose complete folder is `folder`; it need not exist."""
    return _named(folder, max(_generations(folder), default=1))


def fence(folder: Path) -> None:
    """Gives the unfinished folder of a stage its next name; makes it, where there is none yet.

    The caller must be the only one that may take over the stage's lock.
    """
    unfinished = unfinished_folder(folder)
    following = _named(folder, max(_generations(folder), default=1) + 1)
    if unfinished.exists():
        unfinished.rename(following)
    else:
        following.mkdir(parents=True)


def remove_unfinished(folder: Path) -> None:
    """Removes what a fence, or a process that lost the lock, has made although the stage is complete."""
    for generation in _generations(folder):
        shutil.rmtree(_named(folder, generation), ignore_errors=True)


def _generations(folder: Path) -> list[int]:
    start = f"{folder.name}{PART}"
    try:
        names = [path.name for path in folder.parent.iterdir() if path.name.startswith(start)]
    except FileNotFoundError:
        return []
    numbers = [name.removeprefix(start) or "1" for name in names]
    return [int(number) for number in numbers if number.isascii() and number.isdecimal()]


def _named(folder: Path, generation: int) -> Path:
    return folder.with_name(f"{folder.name}{PART}{generation if generation > 1 else ''}")
