"""Finds the source code that decides a result, by reading modules and never by importing them.

Each module that a program imports, directly or not, counts by its syntax tree (see `harness.stages.syntax`).
A data file counts by its bytes, if a module declares it: `DATA_FILES = ("rubrics/*.txt",)`, relative to
the module's folder. YAML does not count, because its values arrive as settings. The contracts in
`harness.protocols` do not count.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import site
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from harness.stages import contents, syntax

ROOT = Path(contents.__file__).resolve().parents[2]  # of our packages
OURS = frozenset({"harness", "policies", "rewards", "benchmarks", "ablations"})
# These decide no number: roles of plugins, checks that return a setting unchanged or refuse it, hints for
# errors, devices, and other processes. So a new optional member or a new check must not retrain anything.
NOT_COUNTED = frozenset(
    {"harness.protocols", "harness.settings", "harness.names", "harness.devices", "harness.processes"}
)
LIBRARIES = frozenset({"site-packages", "dist-packages"})
PLUGINS = "got_r1.plugins"  # the entry point group of third-party packages


@cache
def plugin_packages() -> dict[str, str]:
    """Entry point name -> package, for every installed package that declares itself in `got_r1.plugins`."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=PLUGINS)}


@cache
def locate(module: str) -> Path | None:
    """The file of a module (of a package: its `__init__.py`, or the folder where it has none), or None.

    Raises:
        ValueError: a package or module of the user's hides one of ours.
    """
    top, *names = module.split(".")
    candidates = _first_package([Path(location) for location in _top_level(top)])
    for name in names:
        found = []
        for folder in candidates:
            found += [folder / name, folder / f"{name}.py"]
        candidates = _first_package(found)
    for path in candidates:
        return path / "__init__.py" if (path / "__init__.py").is_file() else path
    return None


def _first_package(paths: Sequence[Path]) -> list[Path]:
    """The first module or package with an `__init__.py`, as Python chooses; else all folders together."""
    for path in paths:
        if path.is_file() or (path / "__init__.py").is_file():
            return [path]
    return [path for path in paths if path.is_dir()]


def digests(roots: Iterable[str]) -> dict[str, str]:
    """File -> digest, for everything of ours that the given dotted paths (modules or names in them) can run.

    Names are such as `rewards/judged.py`, wherever the package is installed.
    Each is read once per process, as Python itself reads its modules once.

    Raises:
        ValueError: a module is no Python or hides one of ours, or its `DATA_FILES` is not as it must be.
    """
    return dict(_digests(tuple(sorted(set(roots)))))


def digest(roots: Iterable[str]) -> str:
    """One hash of all `digests`.

    Raises:
        ValueError: see `digests`.
    """
    return _digest(tuple(sorted(set(roots))))


@cache
def _digest(roots: tuple[str, ...]) -> str:
    return hashlib.sha256(repr(_digests(roots)).encode()).hexdigest()


@cache
def _digests(roots: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    by_file: dict[str, str] = {}
    for module, path in modules(roots).items():
        by_file |= _of_module(module, path, syntax.read_module(module, path))
    return tuple(sorted(by_file.items()))


def _of_module(module: str, path: Path, source: syntax.Module) -> dict[str, str]:
    """File -> digest for a module and its data files."""
    data = {name: contents.file_digest(file) for name, file in _data_of(module, path, source).items()}
    return {_file_name(module, path): source.digest, **data}


def _data_of(module: str, path: Path, source: syntax.Module) -> dict[str, Path]:
    """Name -> file for the data files of a module."""
    found = {}
    for pattern in source.data_files:
        for data in data_files(path, pattern):
            name = PurePosixPath(_file_name(module, path)).parent / data.relative_to(path.parent).as_posix()
            found[str(name)] = data
    return found


def files(modules: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Pairs of name and file, for modules and their data files, with the names of `digests`."""
    for module, path in modules.items():
        yield _file_name(module, path), path
        yield from _data_of(module, path, syntax.read_module(module, path)).items()


def modules(roots: Iterable[str]) -> dict[str, Path]:
    """Module -> file, for the modules among the `digests` of the given dotted paths."""
    roots = list(roots)
    return closure(roots, OURS | _plugin_tops(roots))


def digests_now(modules: Mapping[str, Path]) -> dict[str, str]:
    """File -> digest for modules and their data files, as they are now; a file that cannot be read: ""."""
    by_file: dict[str, str] = {}
    for module, path in modules.items():
        try:
            by_file |= _of_module(module, path, syntax.read_now(module, path))
        except (OSError, ValueError):
            by_file[_file_name(module, path)] = ""
    return by_file


def _file_name(module: str, path: Path) -> str:
    name = module.replace(".", "/")
    return f"{name}/__init__.py" if path.name == "__init__.py" else f"{name}.py"


def data_files(module_file: Path, pattern: str) -> list[Path]:
    """The files that one pattern of a module's `DATA_FILES` matches, sorted.

    Raises:
        ValueError: there is none.
    """
    matches = sorted(file for file in module_file.parent.glob(pattern) if file.is_file())
    if not matches:
        raise ValueError(
            f"{module_file}: the pattern {pattern!r} of {syntax.DECLARATION} matches no file in"
            f" {module_file.parent}. Correct the pattern, or restore the file"
        )
    return matches


def closure(roots: Iterable[str], tops: Iterable[str] = OURS) -> dict[str, Path]:
    """Module -> file, for the roots and everything they import, within the top-level packages `tops`.

    The contracts are left out, with all that only they import.
    """
    tops = frozenset(tops)
    modules: dict[str, Path] = {}
    pending = list(roots)
    while pending:
        names = pending.pop().split(".")
        if names[0] not in tops:
            continue
        for depth in range(1, len(names) + 1):
            module = ".".join(names[:depth])
            if module in NOT_COUNTED:
                break
            if module in modules:
                continue
            path = locate(module)
            if path is None:  # the rest names something within the module before
                break
            if path.is_file():
                modules[module] = path
                pending.extend(syntax.read_module(module, path).imports)
    return modules


def packages(target: str) -> set[str]:
    """Top-level packages outside the project that the closure of a dotted path imports."""
    ours = OURS | _plugin_tops((target,))
    imported: set[str] = set()
    for module, path in closure([target], ours).items():
        imported.update(name.partition(".")[0] for name in syntax.read_module(module, path).imports)
    return imported - ours


def own_packages(roots: Iterable[str]) -> set[str]:
    """Ours, and the other top-level packages that the dotted paths can run, without installed libraries.

    These may be more than those that count: what a plugin imports from another package is among them.
    """
    roots = list(roots)
    tops = {*OURS, *_plugin_tops(roots)}
    while True:
        imported: set[str] = set()
        for module, path in closure(roots, tops).items():
            imported.update(name.partition(".")[0] for name in syntax.read_module(module, path).imports)
        more = {top for top in imported - tops if not _is_library(top) and not _is_in_libraries(top)}
        if not more:
            return tops
        tops |= more


def targets(settings: Any) -> Iterator[str]:
    """Every `_target_` within nested settings."""
    if isinstance(settings, Mapping):
        if isinstance(settings.get("_target_"), str):
            yield settings["_target_"]
        for value in settings.values():
            yield from targets(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from targets(value)


@cache
def _top_level(name: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return ()
    locations = tuple(spec.submodule_search_locations or filter(None, [spec.origin]))
    if name not in OURS or ROOT / name in [Path(location).resolve() for location in locations]:
        return locations
    # An editable install finds our modules after a folder of this name in the working directory.
    for location in map(Path, locations):
        if hidden := _hidden(location, ROOT / name):
            raise ValueError(
                f"{hidden} hides the module of this name in {ROOT / name}: rename yours, or run the command"
                " in another folder"
            )
    return (*locations, str(ROOT / name))


def _hidden(theirs: Path, ours: Path) -> Path | None:
    """What Python imports in place of our package or of one of its modules; None for nothing."""
    if theirs.is_file() or (theirs / "__init__.py").is_file():
        return theirs
    modules = {file.relative_to(ours).parts[0].removesuffix(".py") for file in ours.rglob("*.py")}
    for path in sorted(theirs.iterdir()):
        is_module = path.suffix == ".py" or path.is_dir()
        if is_module and path.name.removesuffix(".py") in modules:
            return path
    return None


def _plugin_tops(roots: Iterable[str]) -> set[str]:
    """Top-level packages outside the project that count: declared plugins, and code that is not installed."""
    declared = {package.split(".")[0] for package in plugin_packages().values()}
    tops = {root.split(".")[0] for root in roots}
    return {top for top in tops if top in declared or not _is_library(top)}


def _is_library(top: str) -> bool:
    path = locate(top)
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    libraries.add(site.getusersitepackages())
    return path is None or any(path.is_relative_to(library) for library in libraries)


def _is_in_libraries(top: str) -> bool:
    """Whether a package lies in a folder of libraries, also of another environment on the import path."""
    path = locate(top)
    return path is not None and not LIBRARIES.isdisjoint(path.parts)
