"""Which source code decides a result: the modules a program imports, found by reading them, never by importing.

A module counts through its syntax tree without comments, docstrings and layout, so that only edits that
could change a number change the digest. Data files that lie beside a module (rubrics, prompt lists) count
by their bytes; YAML does not, because its values arrive as settings.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import site
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from harness import files

OURS = frozenset({"harness", "policies", "rewards", "benchmarks", "ablations"})
PLUGINS = "got_r1.plugins"  # the entry point group of third-party packages
NOT_DATA = {".py", ".pyc", ".yaml", ".yml", ".md"}
LARGE = (
    64 * 2**20
)  # bytes from which a file's digest is remembered between processes: weights take minutes to read
DIGEST_DIGITS = 64


@cache
def plugin_packages() -> dict[str, str]:
    """Entry point name -> package, for every installed package that declares itself in `got_r1.plugins`."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=PLUGINS)}


@cache
def locate(module: str) -> Path | None:
    """The file of a module (of a package: its `__init__.py`, or the folder where it has none), or None."""
    top, *rest = module.split(".")
    found = [Path(place) for place in _top_level(top)]
    for name in rest:
        found = [place / name for place in found if place.is_dir()]
        found = [
            path
            for place in found
            for path in (place, place.with_suffix(".py"))
            if path.is_dir() or path.is_file()
        ]
    for path in found:
        if path.is_file():
            return path
        if path.is_dir():
            return path / "__init__.py" if (path / "__init__.py").is_file() else path
    return None


def digest(roots: Iterable[str]) -> str:
    """Hash of everything that the given dotted paths (modules or things in them) can run, as far as it is ours.

    Read once per process, as Python itself reads its modules once.
    """
    return _digest(tuple(sorted(set(roots))))


@cache
def _digest(roots: tuple[str, ...]) -> str:
    sha = hashlib.sha256()
    files: set[Path] = set()
    for module, path in sorted(closure(roots, OURS | _plugin_tops(roots)).items()):
        sha.update(f"{module} {_parse(path)[0]}\n".encode())
        files.update(_data_files(path.parent))
    for path in sorted(files, key=lambda path: (path.parent.name, path.name)):
        sha.update(f"{path.parent.name}/{path.name} {file_digest(path)}\n".encode())
    return sha.hexdigest()


def closure(roots: Iterable[str], own: Iterable[str] = OURS) -> dict[str, Path]:
    """Module -> file, for the roots and everything they import directly or not, within the top-level packages `own`."""
    own = frozenset(own)
    found: dict[str, Path] = {}
    open_ends = list(roots)
    while open_ends:
        parts = open_ends.pop().split(".")
        if parts[0] not in own:
            continue
        for depth in range(1, len(parts) + 1):
            module = ".".join(parts[:depth])
            if module in found:
                continue
            path = locate(module)
            if path is None:  # a name within the module before it
                break
            if path.is_file():
                found[module] = path
                open_ends.extend(_imports(module, path))
    return found


def packages(target: str) -> set[str]:
    """Top-level packages that the module of a dotted path, and the modules of ours it imports, import from elsewhere."""
    own = OURS | _plugin_tops((target,))
    return {
        name.partition(".")[0]
        for module, path in closure([target], own).items()
        for name in _imports(module, path)
    } - own


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


def file_digest(path: Path) -> str:
    """Hash of the bytes of a file; a large one is read again only if its place, size or time of change differs."""
    stat = path.stat()
    return _file_digest(path, stat.st_mtime_ns, stat.st_size)


@cache
def _file_digest(path: Path, mtime_ns: int, size: int) -> str:
    if size < LARGE:
        return _content(path)
    known = files.cache("digests") / hashlib.sha256(f"{path.resolve()} {size} {mtime_ns}".encode()).hexdigest()
    with suppress(OSError, ValueError):
        if len(digest := known.read_text(encoding="ascii")) == DIGEST_DIGITS:
            return digest
    digest = _content(path)
    with suppress(OSError):  # a home that cannot be written: it is read again next time
        known.parent.mkdir(parents=True, exist_ok=True)
        new = known.with_suffix(f".{os.getpid()}")
        new.write_text(digest, encoding="ascii")
        new.replace(known)
    return digest


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _top_level(name: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(spec.submodule_search_locations)
    return (spec.origin,) if spec.origin else ()


def _plugin_tops(roots: Iterable[str]) -> set[str]:
    """Top-level packages outside the project whose source counts: declared plugins, and code that is not installed."""
    declared = {package.split(".")[0] for package in plugin_packages().values()}
    return {top for top in (root.split(".")[0] for root in roots) if top in declared or not _is_library(top)}


def _is_library(top: str) -> bool:
    path = locate(top)
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {
        site.getusersitepackages()
    }
    return path is None or any(path.is_relative_to(library) for library in libraries)


@cache
def _data_files(folder: Path) -> frozenset[Path]:
    """Data beside a module: in its folder, and below it in folders that hold no code."""
    found: set[Path] = set()
    for path in folder.iterdir():
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir():
            if not any(path.glob("*.py")):
                found |= _data_files(path)
        elif path.suffix not in NOT_DATA:
            found.add(path)
    return frozenset(found)


def _imports(module: str, path: Path) -> list[str]:
    """What a module imports, as absolute dotted names (for `from a import b`: both `a` and `a.b`)."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = []
    for base, level, aliases in _parse(path)[1]:
        if level:
            parents = package.split(".")[: len(package.split(".")) - level + 1]
            base = ".".join([*parents, base] if base else parents)
        names.append(base)
        names.extend(f"{base}.{alias}" for alias in aliases)
    return names


@cache
def _parse(path: Path) -> tuple[str, tuple[tuple[str, int, tuple[str, ...]], ...]]:
    """Digest of the meaning of a file, and its imports as (module, relative level, names)."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{path} cannot be read as Python: {error}") from error
    sha = hashlib.sha256(repr(_plain(tree)).encode())
    return sha.hexdigest(), tuple(_import_statements(tree))


def _plain(node: Any) -> Any:
    """A syntax tree without positions, docstrings and what differs between Python versions."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    ):
        fields["body"] = node.body[1:]
    kept = {
        name: value
        for name, value in fields.items()
        if value not in (None, []) and name not in ("ctx", "kind", "type_comment")
    }
    return type(node).__name__, [(name, _plain(value)) for name, value in kept.items()]


def _import_statements(node: ast.AST) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Imports at any depth, except those for type checkers only."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, 0, ()) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or "", node.level, tuple(alias.name for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for child in node.orelse:
            yield from _import_statements(child)
    else:
        for part in ast.iter_child_nodes(node):
            yield from _import_statements(part)
