"""A stage runs the code that its key was made of, though somebody edits the files meanwhile.

Python imports a module when it is first needed, which may be hours after the key was computed. So each module
that counts is compared with the key when it is imported, and code of another key never runs. Data files are
read without our knowledge; they and all modules are compared once more when the program has ended.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from harness.stages import sources

NAMED = 3


class ChangedSourceError(RuntimeError):
    """A source file is no longer as it was when the stage's key was computed. The message names it."""

    def __init__(self, files: Sequence[str]) -> None:
        more = [f"and {len(files) - NAMED} more"] if len(files) > NAMED else []
        named = ", ".join([*files[:NAMED], *more])
        super().__init__(
            f"source files have changed since this job began: {named}. The stage would not be what its key"
            " says, so it is not completed. What was made so far is kept. Restore the files and run the same"
            " command again to resume, or run it with the files as they are now to make the stage again"
        )


@contextmanager
def guarded(roots: Sequence[str], expected: Mapping[str, str] | None = None) -> Iterator[None]:
    """Compares what the dotted paths can run at the begin, at each import, and at the end of the block.

    Args:
        roots: as of `sources.digests`.
        expected: the digests that it must have; None for those of this process's keys.

    Raises:
        ChangedSourceError: a file has another digest. If the block raises too, its error goes first.
    """
    modules = sources.modules(roots)
    expected = sources.digests(roots) if expected is None else expected
    _check(sources.digests_now(modules), expected)
    guard = _Guard(modules, expected)
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)
    _check(sources.digests_now(modules), expected)


class _Guard(MetaPathFinder):
    """Finds no module, but refuses one of these that has not the expected digest when it is imported."""

    def __init__(self, modules: Mapping[str, Path], expected: Mapping[str, str]) -> None:
        self._modules, self._expected = modules, expected

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self._modules:
            now = sources.digests_now({fullname: self._modules[fullname]})
            _check(now, {file: self._expected.get(file, "") for file in now})
        return None


def _check(now: Mapping[str, str], expected: Mapping[str, str]) -> None:
    changed = [file for file in sorted({**expected, **now}) if expected.get(file) != now.get(file)]
    if changed:
        raise ChangedSourceError(changed)
