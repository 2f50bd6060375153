"""The cache of stages: folders named by what decides their contents, complete or resumable, never half-written.

`<root>/<name>-<key>/` is complete from the instant it exists (it gets its name by a rename);
`<root>/<name>-<key>.part/` is the same in the making and survives a kill; `<root>/<name>-<key>.lock` is held
by the process that makes it.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from harness.files import write_text
from harness.stages import locks, provenance, ranks
from harness.stages.keys import key
from harness.types import Stage

ATTEMPT_SAVE_S = 2.0
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
STORAGE_ERRORS = {*DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class Reporter(Protocol):
    """Who is told how the making of stages goes."""

    def begin(self, stage: Stage) -> None: ...

    def wait(self, stage: Stage, owner: locks.Owner | None) -> None: ...

    def progress(self, step: int, total: int, metrics: Mapping[str, float | int | None]) -> None: ...


class StorageError(OSError):
    """The disk is full or the folder cannot be written; the message says what to do."""


class DamagedStageError(ValueError):
    """A complete stage is not what was written; the message names what differs and says what to do."""


class StageStore:
    """All stages under one root folder (`outputs/stages`).

    Args:
        processes: that train together where a stage's program can be run so. They change no key: numbers are equal up to rounding.
    """

    def __init__(self, root: Path, *, processes: int = 1) -> None:
        self.root = Path(root)
        self._processes = processes

    def folder(self, stage: Stage) -> Path:
        return self.root / f"{stage.name}-{key(stage)}"

    def is_complete(self, stage: Stage) -> bool:
        """Whether it is there, whole.

        Raises:
            DamagedStageError: it is there, but somebody removed or cut one of its files.
        """
        folder = self.folder(stage)
        if not (folder / "stage.json").is_file():
            return False
        read_record(folder)
        return True

    def make(self, stage: Stage, reporter: Reporter) -> Path:
        """The folder of the stage, made now (its inputs first) where it is not there yet.

        Raises:
            DamagedStageError: it or one of its inputs is there, but not whole.
            StorageError: nothing can be written there; what was done is kept.
            Exception: whatever the program raised; its unfinished folder is kept for the next attempt.
        """
        folder = self.folder(stage)
        if self.is_complete(stage):
            return folder
        inputs = {name: self.make(source, reporter) for name, source in stage.inputs.items()}
        try:
            with locks.wait_for(
                folder.with_name(folder.name + ".lock"), lambda owner: reporter.wait(stage, owner)
            ):
                if not (folder / "stage.json").is_file():
                    reporter.begin(stage)
                    self._make(stage, folder, inputs, reporter)
        except StorageError:
            raise
        except Exception as error:
            if cause := _storage_cause(error):
                raise StorageError(storage_advice(folder, cause)) from error
            raise
        return folder

    def _make(self, stage: Stage, folder: Path, inputs: Mapping[str, Path], reporter: Reporter) -> None:
        part = folder.with_name(folder.name + ".part")
        part.mkdir(parents=True, exist_ok=True)
        attempts = _Attempts(part / "attempts.json")
        settings = json.loads(json.dumps(stage.settings))
        with self._companions(stage, settings, inputs, part):
            load_program(stage.program)(_Workspace(part, reporter, attempts), settings, dict(inputs))
        attempts.save()
        facts = {
            **describe(stage),
            "started": attempts.all[0]["started"],
            "finished": _now(),
            "seconds": round(sum(attempt["seconds"] for attempt in attempts.all), 3),
            "peak_mb": max(attempt["peak_mb"] for attempt in attempts.all),
            "attempts": attempts.all,
            "processes": 1 if stage.parallel is None else self._processes,
            "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or None,
            **provenance.record(),
            "files": _sizes(part, without={"stage.json", attempts.path.name}),
        }
        (part / "stage.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        attempts.path.unlink()
        _flush_to_disk(part)
        if folder.exists():  # only a folder whose stage.json was removed by hand
            shutil.rmtree(folder)
        part.rename(folder)
        _flush(self.root)

    def _companions(
        self, stage: Stage, settings: Mapping[str, Any], inputs: Mapping[str, Path], folder: Path
    ) -> AbstractContextManager[None]:
        """The other processes of a stage that several make, at work while the block does this one's part."""
        if self._processes == 1 or stage.parallel is None:
            return nullcontext()
        named = {name: str(source) for name, source in inputs.items()}
        work = ranks.Work(program=stage.program, settings=settings, inputs=named, folder=str(folder))
        return ranks.beside(work, self._processes)


def read_record(folder: Path) -> dict[str, Any]:
    """The stage.json of a complete stage, whose files are all there in full length.

    Raises:
        DamagedStageError: they are not, or the record cannot be read.
    """
    remedy = f"delete the folder {folder} and run the sweep's command again, which makes it anew"
    try:
        record = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        written = record.get("files", {}).items()
    except (ValueError, AttributeError) as error:
        raise DamagedStageError(f"{folder / 'stage.json'} is damaged ({error}): {remedy}") from error
    for name, size in written:
        try:
            found = (folder / name).stat().st_size
        except FileNotFoundError:
            raise DamagedStageError(
                f"{folder / name} is missing, so that stage is damaged: {remedy}"
            ) from None
        if found != size:
            raise DamagedStageError(
                f"{folder / name} is damaged, it has {found} bytes and not the {size} that were written: {remedy}"
            )
    return record


def _sizes(folder: Path, *, without: set[str]) -> dict[str, int]:
    """File -> bytes, for all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    return {name: size for name, size in sizes.items() if name not in without}


def describe(stage: Stage) -> dict[str, Any]:
    """A stage as JSON values: its inputs by key."""
    return {
        "key": key(stage),
        "name": stage.name,
        "program": stage.program,
        "settings": json.loads(json.dumps(stage.settings)),
        "inputs": {name: key(source) for name, source in stage.inputs.items()},
        "external": list(stage.external),
        "parallel": stage.parallel,
    }


def load_program(path: str) -> Callable[[Any, dict[str, Any], dict[str, Path]], None]:
    """The function behind a dotted path; only now is its module imported."""
    module, _, name = path.rpartition(".")
    program = getattr(importlib.import_module(module), name, None)
    if not callable(program):
        raise ValueError(f"the program {path!r} of a stage is no function of the module {module!r}")
    return program


class _Workspace:
    """What a program works in (`harness.protocols.Workspace`)."""

    def __init__(self, folder: Path, reporter: Reporter, attempts: _Attempts) -> None:
        self.folder = folder
        self._reporter = reporter
        self._attempts = attempts
        self._last_step: int | None = None

    def progress(
        self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None
    ) -> None:
        if metrics is not None:
            self._write({"step": step, **metrics})
        self._attempts.save_sometimes()
        self._reporter.progress(step, total, metrics or {})

    def _write(self, line: Mapping[str, float | int | None]) -> None:
        path = self.folder / "metrics.jsonl"
        step = int(line["step"] or 0)
        if self._last_step is None or step <= self._last_step:
            _drop_lines_from(path, step)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._last_step = step


class _Attempts:
    """Seconds and memory of every attempt at a stage, kept in its folder so that a kill does not lose them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        reset_peak_memory()
        self._begin = self._saved = time.monotonic()
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self.all = [*earlier, {"started": _now(), "seconds": 0.0, "peak_mb": 0.0}]
        self.save()

    def save(self) -> None:
        self._saved = time.monotonic()
        self.all[-1]["seconds"] = round(self._saved - self._begin, 3)
        self.all[-1]["peak_mb"] = peak_memory_mb()
        write_text(self.path, json.dumps(self.all))

    def save_sometimes(self) -> None:
        if time.monotonic() - self._saved > ATTEMPT_SAVE_S:
            self.save()


def peak_memory_mb() -> float:
    """Highest resident memory of this process since `reset_peak_memory`, in MB."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)


def reset_peak_memory() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:  # no such file: the peak is then that of the whole process
        return


def _drop_lines_from(path: Path, step: int) -> None:
    """Removes from a metrics file the first line of `step` or later, or cut short by a kill, and all after it."""
    if not path.exists():
        return
    kept = 0
    with path.open("rb") as file:
        for line in file:
            try:
                stop = not line.endswith(b"\n") or json.loads(line)["step"] >= step
            except ValueError:
                stop = True
            if stop:
                break
            kept += len(line)
    os.truncate(path, kept)


def _flush_to_disk(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_advice(folder: Path, error: OSError) -> str:
    remedy = (
        "Free some space there, or name another folder"
        if error.errno in DISK_FULL
        else "Name a folder that can be written"
    )
    return (
        f"cannot write {error.filename or folder}: {error.strerror or error}. {remedy} with outputs_dir=FOLDER; "
        "then run the same command again: what is done is kept"
    )


def _storage_cause(error: BaseException) -> OSError | None:
    """What the disk has to do with an error: torch and safetensors raise errors of their own where a write fails."""
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
