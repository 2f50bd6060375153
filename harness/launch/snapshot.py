"""The code that jobs run, frozen: `<study folder>/code/<digest>/`, which comes first on their import path.

A job may start hours after its submission and imports a module only when it needs it. From a snapshot it
runs the code of the plan, whatever happens to the checkout meanwhile. Our packages are copied whole. Of a
user's package, which may hold gigabytes, the Python files and the declared data files are copied, and all
else is linked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.composition.arguments import UsageError
from harness.files import writing_folder
from harness.stages import contents, provenance, sources
from harness.stages.keys import roots
from harness.study.cell import with_inputs
from harness.types import Stage

CODE = "code"
DIGITS = 12
BYTE_CODE = "__pycache__"
PYC_HEADER = 16  # bytes: magic number, flags, time of change and size of the source file (PEP 552)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A folder of frozen code. `digest` is a hash of its files, `bytes` their size."""

    folder: Path
    digest: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.bytes / 1e6:.1f} MB frozen in {self.folder}"


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a snapshot holds, by names within it: files to copy, and files and folders to link."""

    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, Path] = field(default_factory=dict)


def freeze(study_folder: Path, stages: Iterable[Stage]) -> Snapshot:
    """Copies the code of the stages and their inputs, unless the folder holds it already.

    Raises:
        UsageError: the files change meanwhile, or two of them need the same name.
    """
    code = study_folder.resolve() / CODE
    content = _content(stages, study_folder.resolve().parents[1])
    digest = _digest(content.files, content.links)
    snapshot = Snapshot(
        folder=code / digest,
        digest=digest,
        bytes=sum(file.stat().st_size for file in content.files.values()),
    )
    if not _holds(snapshot.folder, content, digest):
        with writing_folder(snapshot.folder) as new:
            _write(content, snapshot, new)
            if not _holds(new, content, digest):
                raise UsageError(
                    "source files changed while they were copied for the jobs: run the same command again"
                )
    return snapshot


def remove_old(study_folder: Path) -> None:
    """Removes all snapshots of a study whose jobs are over."""
    shutil.rmtree(study_folder / CODE, ignore_errors=True)


def _content(stages: Iterable[Stage], outputs: Path) -> Content:
    """The content of a snapshot: our packages, and what of others the stages can run."""
    paths: list[str] = []
    for stage in with_inputs(stages).values():
        paths += roots(stage)
    tops = sources.own_packages(paths)
    content = Content()
    for name, file in sources.files(sources.closure(paths, tops)):
        _add(content.files, name, file)
    for top in sorted(tops):
        location = sources.locate(top)
        if location is None:
            continue
        if location.is_file() and location.name != "__init__.py":
            _add(content.files, f"{top}.py", location)
            continue
        folder = location.parent if location.is_file() else location
        for file in _files(folder, outputs):
            if top in sources.OURS or file.suffix == ".py":
                _add(content.files, f"{top}/{file.relative_to(folder).as_posix()}", file)
        _link_others(content, top, folder, outputs)
    return content


def _add(files: dict[str, Path], name: str, file: Path) -> None:
    """Adds a file.

    Raises:
        UsageError: another file has its name.
    """
    other = files.setdefault(name, file)
    if not other.samefile(file) and contents.file_digest(other) != contents.file_digest(file):
        raise UsageError(f"{other} and {file} would be the same file {name} for the jobs: rename one of them")


def _files(folder: Path, outputs: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones, byte code, virtual environments and our own outputs."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if _is_part(here / name, outputs))
        for name in sorted(names):
            if not name.startswith(".") and (here / name).is_file():
                yield here / name


def _is_part(path: Path, outputs: Path) -> bool:
    """Whether a file or folder of a package is a part of it."""
    hidden = path.name.startswith(".") or path.name == BYTE_CODE
    return not (hidden or (path / "pyvenv.cfg").exists() or path.resolve() == outputs)


def _link_others(content: Content, top: str, folder: Path, outputs: Path) -> None:
    """Adds links to what stands beside the copied files of a package, such as weights."""
    folders = {top}
    for name in content.files:
        folders.update(map(str, PurePosixPath(name).parents))
    for name in sorted(name for name in folders if PurePosixPath(name).parts[:1] == (top,)):
        source = folder / PurePosixPath(name).relative_to(top)
        for path in sorted(source.iterdir()) if source.is_dir() else ():
            beside = f"{name}/{path.name}"
            if beside not in content.files and beside not in folders and _is_part(path, outputs):
                content.links[beside] = path.absolute()


def _digest(files: Mapping[str, Path], links: Mapping[str, Path]) -> str:
    """Hash of the files' names and bytes, and of the links' names and targets.

    Raises:
        OSError: a file cannot be read.
    """
    facts = {name: contents.file_digest(file) for name, file in files.items()}
    facts |= {name: str(target) for name, target in links.items()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:DIGITS]


def _holds(folder: Path, content: Content, digest: str) -> bool:
    """Whether a folder is a whole snapshot with this content."""
    try:
        links = {name: (folder / name).readlink() for name in content.links}
        whole = (folder / provenance.SNAPSHOT).is_file()
        return whole and _digest({name: folder / name for name in content.files}, links) == digest
    except OSError:
        return False


def _write(content: Content, snapshot: Snapshot, folder: Path) -> None:
    """Copies and links everything, with `snapshot.json`: where the code comes from."""
    for name, file in content.files.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy(file, copy)
        if file.suffix == ".py":
            _copy_byte_code(file, copy)
    for name, target in content.links.items():
        (folder / name).symlink_to(target)
    commit, dirty = provenance.commit()
    facts = {
        "commit": commit,
        "dirty": dirty,
        "digest": snapshot.digest,
        "files": len(content.files),
        "bytes": snapshot.bytes,
    }
    (folder / provenance.SNAPSHOT).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _copy(file: Path, copy: Path) -> None:
    """Copies a file with its time of change, by which Python knows the byte code of a module."""
    shutil.copyfile(file, copy)
    stat = file.stat()
    os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _copy_byte_code(module: Path, copy: Path) -> None:
    """Copies the byte code of a module, if it is there and was made of the module that was copied."""
    if sys.pycache_prefix is not None:  # it does not lie beside its module
        return
    compiled = Path(importlib.util.cache_from_source(str(module)))
    try:
        stat, header = copy.stat(), compiled.read_bytes()[:PYC_HEADER]
        if compiled.stat().st_mtime_ns < stat.st_mtime_ns:  # the header has whole seconds only
            return
    except OSError:
        return
    numbers = (0, int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
    made_of = b"".join(number.to_bytes(4, "little") for number in numbers)
    if header == importlib.util.MAGIC_NUMBER + made_of:
        (copy.parent / BYTE_CODE).mkdir(exist_ok=True)
        shutil.copyfile(compiled, copy.parent / BYTE_CODE / compiled.name)
