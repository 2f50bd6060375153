"""The folder of a study: nobody else may write what its jobs run, and Slurm and Python can read its path."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.composition.arguments import UsageError

UNUSABLE = {
    "%": "Slurm and submitit read % as the begin of a pattern",
    "\\": "Slurm drops it",
    os.pathsep: "it separates the folders that Python imports from",
}


def check_path(folder: Path) -> None:
    """Checks that scripts of jobs and import paths can hold the path of a folder.

    Raises:
        UsageError: it has a character that they would not read as it is.
    """
    path = str(folder.resolve())
    reasons = [f"{character!r} ({why})" for character, why in UNUSABLE.items() if character in path]
    if not path.isprintable():
        reasons.append("a line break or another character that cannot be printed")
    if reasons:
        raise UsageError(
            f"the folder of the study, {path!r}, has {' and '.join(reasons)} in its path:"
            " choose another outputs_dir, or work in another folder"
        )


@contextmanager
def umask(*, group: bool) -> Iterator[None]:
    """Takes the right to write from others, and maybe from the group, for what the block and its jobs make.

    Args:
        group: the group may read and write; otherwise it may read where the user's own umask lets it.
    """
    before = os.umask(0o077)
    os.umask((before & ~0o070) | 0o002 if group else before | 0o022)
    try:
        yield
    finally:
        os.umask(before)


def check_private(folder: Path, *, group: bool) -> None:
    """Checks that only this user (and root) can write a folder whose content jobs run.

    Args:
        folder: a folder that is there.
        group: the group may write it too.

    Raises:
        UsageError: others may write it, or it is somebody else's. The message says how to change that.
    """
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise UsageError(
            f"{folder} belongs to {_user(status.st_uid)}, who could change what your jobs run:"
            " choose another outputs_dir or another study.name"
        )
    writers = []
    if status.st_mode & stat.S_IWGRP and not group:
        writers.append("your group")
    if status.st_mode & stat.S_IWOTH:
        writers.append("everybody")
    if writers:
        bits = "o-w" if group else "go-w"
        allow = "" if "everybody" in writers else ". To let your group write it, set group_writable=true"
        raise UsageError(
            f"{' and '.join(writers)} can write {folder} (mode {stat.S_IMODE(status.st_mode):o}) and so"
            f" change what your jobs run. To forbid that: chmod -R {bits} {shlex.quote(str(folder))}{allow}"
        )


def _user(number: int) -> str:
    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user {number}"
