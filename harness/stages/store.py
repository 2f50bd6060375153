"""The cache of stages: folders named by their key, complete or resumable, never half-written.

`<root>/<name>-<key>/` is complete from the instant it exists, because it gets its name by a rename.
`<root>/<name>-<key>.part/` is the same folder while the stage runs. It survives a kill. It becomes `.part2`,
`.part3`, ... when another process takes over from one that may still run. `stage.json` is written when all
else is on the disk, and what the program resumes from is removed after the rename.
`<root>/<name>-<key>.lock` is held by the process that makes the stage.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from harness.files import flush, swap_folder, writing
from harness.processes import threads
from harness.stages import external, loaded, locks, program, provenance, sources
from harness.stages.generations import fence, remove_unfinished, unfinished_folder
from harness.stages.keys import key, roots
from harness.stages.program import ATTEMPTS, Attempts, ReportingWorkspace, resume_files
from harness.stages.ranks import ProgramCall, Ranks
from harness.types import Stage

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
STORAGE_ERRORS = {*DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class Reporter(Protocol):
    """Receives news of the stages that are made."""

    def begin(self, stage: Stage) -> None: ...

    def wait(self, stage: Stage, owner: locks.Owner | None) -> None: ...

    def progress(self, step: int, total: int, metrics: Mapping[str, float | int | None]) -> None: ...


class StorageError(OSError):
    """The disk is full or the folder cannot be written. The message says what to do."""


class DamagedStageError(ValueError):
    """A file of a complete stage is not as it was written. The message names it and says what to do."""


class StageStore:
    """All stages under one root folder (`outputs/stages`).

    Args:
        ranks: those that make a stage together, where its program can run so. They change no key: numbers are
            equal up to rounding.
    """

    def __init__(self, root: Path, *, ranks: Ranks | None = None) -> None:
        self.root = Path(root)
        self._ranks = ranks or Ranks()

    def folder(self, stage: Stage) -> Path:
        """The folder that the stage has when it is complete."""
        return self.root / f"{stage.name}-{key(stage)}"

    def is_complete(self, stage: Stage) -> bool:
        """Whether the stage is there with all its files.

        Raises:
            DamagedStageError: the stage is there, but a file was removed or cut.
        """
        folder = self.folder(stage)
        if not (folder / "stage.json").is_file():
            return False
        read_record(folder)
        return True

    def make(self, stage: Stage, reporter: Reporter) -> Path:
        """Makes the stage, and its inputs first, unless it is there; returns its folder.

        Once the program has ended, only an error that leaves the stage unfinished is raised.

        Raises:
            DamagedStageError: the stage or one of its inputs is there, but damaged.
            ChangedExternalError: external files have changed meanwhile; the unfinished folder is removed.
            LostError: another process makes the stage now, which took this one for dead.
            StorageError: the folder cannot be written; finished work is kept.
            Exception: the program raised it; its unfinished folder is kept for the next attempt.
        """
        folder = self.folder(stage)
        if self.is_complete(stage):
            _drop_resume_files(folder)  # a kill came between the rename and this
            return folder
        inputs = {name: self.make(source, reporter) for name, source in stage.inputs.items()}
        lock = folder.with_name(folder.name + ".lock")
        began = time.monotonic()
        try:
            with locks.wait_for(
                lock, lambda owner: reporter.wait(stage, owner), partial(fence, folder)
            ) as ours:
                program.outside.exclude(time.monotonic() - began)
                if (folder / "stage.json").is_file():
                    remove_unfinished(folder)
                else:
                    reporter.begin(stage)
                    self._run(stage, folder, inputs, reporter, ours)
        except (StorageError, locks.LostError):
            raise
        except locks.NoLocksError as error:
            raise StorageError(str(error)) from error
        except Exception as error:
            if cause := _storage_cause(error):
                raise StorageError(storage_advice(folder, cause)) from error
            raise
        return folder

    def _run(
        self, stage: Stage, folder: Path, inputs: Mapping[str, Path], reporter: Reporter, lock: locks.Lock
    ) -> None:
        """Makes the stage in its unfinished folder, and gives the folder its name."""
        unfinished = unfinished_folder(folder)
        lock.confirm()  # so this name is older than any fence
        if self.folder(stage) != folder:  # while this waited for the lock, or made the inputs
            raise external.ChangedExternalError(
                f"external files of the stage {stage.name} have changed since this job began"
                f" ({', '.join(stage.external)}): run the same command again to make the stage of the files"
                " as they are now"
            )
        unfinished.mkdir(parents=True, exist_ok=True)
        if not _is_written(unfinished):
            self._write(stage, unfinished, inputs, reporter, lock)
        lock.confirm()
        swap_folder(unfinished, folder)  # `folder` exists only if somebody removed its stage.json
        _drop_resume_files(folder)
        with suppress(OSError):  # the stage is complete
            remove_unfinished(folder)
            flush(self.root)

    def _write(
        self, stage: Stage, unfinished: Path, inputs: Mapping[str, Path], reporter: Reporter, lock: locks.Lock
    ) -> None:
        """Runs the program and writes `stage.json`, after all other files are on the disk."""
        attempts = Attempts(unfinished / ATTEMPTS)
        settings = json.loads(json.dumps(stage.settings))
        workspace = ReportingWorkspace(unfinished, reporter, attempts, lock)
        with external.guarded(stage.external, unfinished), loaded.guarded(roots(stage)):
            left = [ATTEMPTS, *resume_files(stage.program)]
            with self._other_ranks(stage, settings, inputs, unfinished):
                program.run(stage.program, workspace, settings, dict(inputs))
        lock.confirm()
        attempts.save()
        program.outside.end()
        record = {
            **describe(stage),
            **attempts.summary(),
            "processes": self._ranks.makers(stage),
            "threads": threads(),
            **_origin(),
            "resume_files": left,
            "files": _sizes(unfinished, without={"stage.json", *left}),
        }
        _flush_to_disk(unfinished)
        with writing(unfinished / "stage.json", durable=True) as new:
            new.write_text(json.dumps(record, indent=1), encoding="utf-8")
        flush(unfinished)

    def _other_ranks(
        self, stage: Stage, settings: Mapping[str, Any], inputs: Mapping[str, Path], folder: Path
    ) -> AbstractContextManager[None]:
        """The other ranks of a stage that several processes make, running while the block runs rank 0."""
        if self._ranks.makers(stage) == 1:
            return nullcontext()
        call = ProgramCall(
            program=stage.program,
            settings=settings,
            inputs={name: str(source) for name, source in inputs.items()},
            folder=str(folder),
            sources=sources.digests(roots(stage)),
        )
        return self._ranks.together(call)


def describe(stage: Stage) -> dict[str, Any]:
    """A stage as JSON values, its inputs by key."""
    return {
        "key": key(stage),
        "name": stage.name,
        "program": stage.program,
        "settings": json.loads(json.dumps(stage.settings)),
        "inputs": {name: key(source) for name, source in stage.inputs.items()},
        "external": list(stage.external),
        "parallel": stage.parallel,
        "halves": stage.halves,
    }


def read_record(folder: Path) -> dict[str, Any]:
    """The `stage.json` of a complete stage, after a check that all its files have their full length.

    Raises:
        DamagedStageError: a file is missing or cut, or the record cannot be read.
    """
    remedy = f"delete the folder {folder} and run the sweep's command again to make it from scratch"
    try:
        record = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        sizes = record.get("files", {}).items()
    except (ValueError, AttributeError) as error:
        raise DamagedStageError(f"{folder / 'stage.json'} is damaged ({error}): {remedy}") from error
    for name, size in sizes:
        file = folder / name
        try:
            size_now = file.stat().st_size
        except FileNotFoundError:
            raise DamagedStageError(f"{file} is missing, so the stage is damaged: {remedy}") from None
        if size_now != size:
            raise DamagedStageError(
                f"{file} is damaged: it has {size_now} bytes, but {size} were written. To mend it, {remedy}"
            )
    return record


def _is_written(unfinished: Path) -> bool:
    """Whether an earlier attempt has ended the program here and only the rename is missing.

    A record that does not fit the files is removed: the program is to run again.
    """
    record = unfinished / "stage.json"
    if not record.is_file():
        return False
    try:
        read_record(unfinished)
    except DamagedStageError:
        record.unlink()
        return False
    return True


def _drop_resume_files(folder: Path) -> None:
    """Removes from a complete stage what its program would have resumed from, where that can be removed."""
    with suppress(OSError, ValueError):
        record = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        for name in record.get("resume_files", []):
            if (folder / name).is_dir():
                shutil.rmtree(folder / name, ignore_errors=True)
            else:
                (folder / name).unlink(missing_ok=True)


def _origin() -> dict[str, Any]:
    """Where the result comes from. It decides no number, so no error here fails the stage."""
    try:
        return provenance.record()
    except Exception as error:  # a command that hangs, a package whose metadata is damaged
        print(f"warning: stage.json says no commit, versions or hardware: {error}", file=sys.stderr)
        return {"commit": None, "dirty": None, "versions": {}, "hardware": None}


def storage_advice(folder: Path, error: OSError) -> str:
    """The message of a `StorageError`: which file, which error, what to do."""
    if error.errno in DISK_FULL:
        remedy = "Free some space there, or name another folder"
    else:
        remedy = "Name a folder that can be written"
    return (
        f"cannot write {error.filename or folder}: {error.strerror or error}. {remedy} with"
        " outputs_dir=FOLDER; then run the same command again: finished work is kept"
    )


def _storage_cause(error: BaseException) -> OSError | None:
    """The error of the disk behind an error: torch and safetensors raise their own where a write fails."""
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return error
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in DISK_FULL:
            return link
        if os.strerror(errno.ENOSPC) in str(link):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link = link.__cause__ or link.__context__
    return None


def _sizes(folder: Path, *, without: set[str]) -> dict[str, int]:
    """File -> bytes, for all files below a folder but those named, and those in the folders named."""
    sizes = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not without.intersection([name.as_posix(), *map(str, name.parents)]):
            sizes[name.as_posix()] = path.stat().st_size
    return sizes


def _flush_to_disk(folder: Path) -> None:
    """Flushes the files and folders below a folder. Links lead to files that were there before."""
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            flush(path)
