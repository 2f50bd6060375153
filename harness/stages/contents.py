"""Digests of the contents of files and folders. Large files are read once, not once per process."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path

from harness import paths
from harness.files import write_text

# bytes: digests of files from this size on are cached, because weights take minutes to read
LARGE = 64 * 2**20
DIGEST_DIGITS = 64


def digest(path: str | Path) -> str:
    """Hash of a file's bytes, or of all files of a folder with their names within it.

    Raises:
        ValueError: there is no such file or folder.
    """
    root = Path(path)
    if root.is_file():
        return file_digest(root)
    if not root.is_dir():
        raise ValueError(
            f"{root} does not exist: give the path of an existing file or folder, or fetch it first"
        )
    members = sorted(file for file in root.rglob("*") if file.is_file())
    return _folder_digest(root, tuple((file, file.stat().st_mtime_ns) for file in members))


def file_digest(path: Path) -> str:
    """Hash of a file's bytes. A large file is read again only if its path, size or time of change differs."""
    stat = path.stat()
    return _file_digest(path, stat.st_mtime_ns, stat.st_size)


@cache
def _folder_digest(root: Path, members: tuple[tuple[Path, int], ...]) -> str:
    sha = hashlib.sha256()
    for file, _ in members:
        sha.update(f"{file.relative_to(root).as_posix()} {file_digest(file)}\n".encode())
    return sha.hexdigest()


@cache
def _file_digest(path: Path, mtime_ns: int, size: int) -> str:
    if size < LARGE:
        return _read(path)
    identity = hashlib.sha256(f"{path.resolve()} {size} {mtime_ns}".encode()).hexdigest()
    cached = paths.cache("digests") / identity
    with suppress(OSError, ValueError):
        text = cached.read_text(encoding="ascii")
        if len(text) == DIGEST_DIGITS:
            return text
    text = _read(path)
    with suppress(OSError):  # the cache cannot be written: the next process reads the file again
        write_text(cached, text)
    return text


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
