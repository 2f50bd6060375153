"""Writes files and folders whole or not at all, and reads texts and JSON lines.

A reader sees a file or folder as it was before or as it is after, never a part, also when the writer is
killed. Plugins use this module too.
"""

from __future__ import annotations

import codecs
import ctypes
import errno
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from glob import escape
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import jsonlines

from harness.processes import is_alive

ABANDONED_S = 3600
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # the file system cannot flush this
OTHER_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # those of UTF-32 begin alike
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of renameat2(2)

Row = TypeVar("Row")


@contextmanager
def writing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path that takes the name `file` when the block ends without an error.

    What a killed process has left of an earlier attempt is removed first.

    Args:
        file: the file to write; its folder is made where it is missing.
        durable: flush the content to the disk before the rename, so that it survives a power cut.

    Raises:
        OSError: the file cannot be written. Nothing is left behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(file)
    new = _temporary(file)
    try:
        yield new
        if durable:
            flush(new)
        new.replace(file)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush the content of a file, or the names in a folder, to the disk, where the file system can do that.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def write_text(file: Path, text: str) -> None:
    """Write a text file whole, in UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    with writing(file) as new:
        new.write_text(text, encoding="utf-8")


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """Yield a new, empty folder that takes the name `folder` when the block ends without an error.

    A folder that has the name already is removed, and so is what a killed process has left behind.

    Raises:
        OSError: a folder cannot be made or renamed. The old one is then where it was, and nothing is left
            behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    new = _temporary(folder)
    new.mkdir()
    try:
        yield new
        swap_folder(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def swap_folder(made: Path, target: Path) -> None:
    """Rename the folder `made` to `target`; a folder that has that name already is removed.

    Linux exchanges the two names in one step. Elsewhere there is no `target` for the moment between two
    renames.

    Raises:
        OSError: a folder cannot be renamed; the old one is then where it was.
    """
    if not target.exists():
        made.rename(target)
    elif _exchange(made, target):
        shutil.rmtree(made, ignore_errors=True)
    else:
        old = made.with_name(f"{made.name}.old")
        target.rename(old)
        try:
            made.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def write_rows(
    file: Path, rows: Iterable[Mapping[str, Any]], mode: Literal["w", "a"] = "w", *, ascii_only: bool = False
) -> None:
    """Write one JSON line per row.

    Args:
        file: a JSON-lines file, in UTF-8.
        rows: what to write.
        mode: "w" replaces the file whole; "a" appends all rows in one piece.
        ascii_only: escape other letters. Required where a row holds a path, which need not be UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    dumps = partial(json.dumps, ensure_ascii=ascii_only)
    if mode == "w":
        with writing(file) as new, jsonlines.open(new, "w", dumps=dumps) as stream:
            stream.write_all(rows)
        return
    text = StringIO()
    jsonlines.Writer(text, dumps=dumps).write_all(rows)
    with file.open("ab") as lines:
        lines.write(text.getvalue().encode())


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file that this project has written, none where there is no file.

    A last line without a line end is left out: it was cut off, or is being written.

    Raises:
        ValueError: another line is damaged.
    """
    if not file.is_file():
        return []
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            rows.append(_row(line))
        except ValueError as error:
            raise ValueError(
                f"line {number} of {file} is damaged ({error}). Delete the folder {file.parent} and run the"
                " sweep's command again to make it again"
            ) from error
    return rows


def read_user_text(file: Path, *, remedy: str = "") -> str:
    """Return the text of a file that a user gives, without byte order mark; lines end in a line feed.

    Args:
        file: in UTF-8.
        remedy: the last sentence of an error.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text in UTF-8; names the file.
    """
    with open_user_text(file, remedy=remedy) as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _other_encoding(file, str(error), remedy) from error
    if "\0" in text:
        raise _other_encoding(file, "it holds zero bytes, as UTF-16 does", remedy)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def open_user_text(file: Path, *, remedy: str = "") -> BinaryIO:
    """Return a text file of a user as a stream of bytes that begins behind its byte order mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has the mark of another encoding than UTF-8; names the file.
    """
    stream = file.open("rb")
    start = stream.read(len(codecs.BOM_UTF8))
    for mark, name in OTHER_MARKS.items():
        if start.startswith(mark):
            stream.close()
            raise _other_encoding(file, f"it is {name}", remedy)
    if start != codecs.BOM_UTF8:
        stream.seek(0)
    return stream


def _other_encoding(file: Path, reason: str, remedy: str) -> ValueError:
    return ValueError(f"{file} is not UTF-8 text ({reason}): convert it to UTF-8. {remedy}".rstrip())


def read_user_rows(
    file: Path, read: Callable[[dict[str, Any]], Row], *, kind: str = "a valid row", remedy: str = ""
) -> Iterator[tuple[int, Row]]:
    """Yield (line number from 1, row) of a JSON-lines file that a user gives. Empty lines are skipped.

    Args:
        file: in UTF-8; the last line may lack its line end.
        read: makes a row of a line's JSON object. It may raise ValueError, TypeError, KeyError or
            OverflowError.
        kind: the row as errors name it, such as "a prompt of GenEval".
        remedy: the last sentence of an error.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8, or a line is no such row; names the file, the line and the problem.
    """
    lines = read_user_text(file, remedy=remedy).split("\n")  # not splitlines: JSON may hold other separators
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = read(_row(line))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            problem = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"line {number} of {file} is not {kind}: {problem}. {remedy}".rstrip()) from None
        yield number, row


def truncate_rows(file: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Cut a JSON-lines file before its first row that is damaged, incomplete, or not to be kept.

    Args:
        file: the file; nothing happens where there is none.
        keep: whether a row stays. It may raise KeyError or TypeError for a row of another form, which is
            cut too.
    """
    if not file.is_file():
        return
    kept = 0
    with file.open("rb") as stream:
        for line in stream:
            try:
                whole = line.endswith(b"\n") and keep(_row(line))
            except (ValueError, KeyError, TypeError):
                whole = False
            if not whole:
                break
            kept += len(line)
    os.truncate(file, kept)


def unfinished(file: Path, count: int, size: int) -> range:
    """Cut a JSON-lines file of batches to its whole batches, and return where the missing ones start.

    Args:
        file: has one row per item; it need not exist.
        count: the number of items.
        size: the number of items of a batch; the last one may have fewer.
    """
    rows = read_rows(file)
    done = len(rows) if len(rows) == count else len(rows) // size * size
    write_rows(file, rows[:done])
    return range(done, count, size)


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text that may come from anywhere.

    Raises:
        ValueError: it is none, or Python cannot read it since it is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _row(line: str | bytes) -> dict[str, Any]:
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    return row


def _temporary(path: Path) -> Path:
    """A path beside `path` that no other process or thread uses."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{threading.get_ident()}.new")


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes left beside `path`; restore a folder that they moved."""
    prefix = f".{path.name}."
    for left in path.parent.glob(f"{escape(prefix)}*"):
        words = left.name.removeprefix(prefix).removesuffix(".old").split(".")
        with suppress(OSError):  # another process removes it too
            if len(words) != 4 or words[-1] != "new" or not _is_abandoned(left, *words[:2]):
                continue
            if left.name.endswith(".old") and not path.exists():
                left.rename(path)
            elif left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def _is_abandoned(left: Path, host: str, process: str) -> bool:
    """Whether the writer is gone: a dead process here, or one elsewhere that wrote nothing for an hour."""
    if host == _host() and process.isdecimal():
        return not is_alive(int(process))
    return time.time() - left.stat().st_mtime > ABANDONED_S


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step; return False where the system or file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second)
    return bool(rename(*names, _RENAME_EXCHANGE) == 0)
