"""Reads a module's text without importing it: the digest of its meaning, its imports, its data files.

The digest is over the syntax tree, without these parts, which cannot change a number:

- comments, layout, docstrings and other texts that stand alone as a statement;
- the arguments and the cause of a raised error, and the message of an `assert`. The condition that leads to
  the error counts, and so does the error's class;
- statements that only call `print` or `warnings.warn` and call nothing else;
- annotations of arguments, results and variables. Those in a class body count: a dataclass needs them;
- what stands under `if TYPE_CHECKING:`.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DECLARATION = "DATA_FILES"  # the constant in which a module names the data files that it reads beside itself
MESSAGE_CALLS = ("print", "warnings.warn")
TYPE_CHECKING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
WITH_EFFECT = (
    ast.Call,
    ast.NamedExpr,
    ast.Await,
    ast.Yield,
    ast.YieldFrom,
    ast.Starred,
    ast.comprehension,
)


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module as it stands in its file.

    `imports` are the imported names, absolute and dotted: for `from a import b` both `a` and `a.b`.
    `data_files` are the glob patterns of its `DATA_FILES`, relative to the module's folder.
    """

    digest: str
    imports: tuple[str, ...]
    data_files: tuple[str, ...]


@cache
def read_module(name: str, path: Path) -> Module:
    """The module `name` in the file `path`, read once per process, as Python itself reads it once.

    Raises:
        ValueError: the file is no Python, or its `DATA_FILES` is no tuple of patterns.
    """
    return read_now(name, path)


def read_now(name: str, path: Path) -> Module:
    """The module as its file is now; equal content is parsed once.

    Raises:
        ValueError: see `read_module`.
    """
    return _parse(name, path, path.read_bytes())


@cache
def _parse(name: str, path: Path, content: bytes) -> Module:
    try:
        tree = ast.parse(content)  # bytes: reads the mark and the encoding as Python does
    except SyntaxError as error:
        raise ValueError(f"{path} cannot be read as Python: {error}") from error
    tree = _Essentials().visit(tree)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Module(
        digest=hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(),
        imports=tuple(_imports(tree, package)),
        data_files=_data_files(tree, path),
    )


class _Essentials(ast.NodeTransformer):
    """Removes from a syntax tree the parts that cannot change a number (see the module's docstring)."""

    def __init__(self) -> None:
        self._in_class_body = False

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) or _only_gives_a_message(node.value):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in TYPE_CHECKING else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return self.generic_visit(ast.Raise(exc=error, cause=None))

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self.generic_visit(ast.Assert(test=node.test, msg=None))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._visit_body(node, in_class_body=True)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._visit_body(node, in_class_body=False)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._visit_body(node, in_class_body=False)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(arg=node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self._in_class_body:
            return self.generic_visit(node)
        if node.value is not None:
            return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))
        return ast.AnnAssign(target=node.target, annotation=ast.Constant(None), simple=node.simple)

    def _visit_body(self, node: ast.AST, *, in_class_body: bool) -> ast.AST:
        outer, self._in_class_body = self._in_class_body, in_class_body
        self.generic_visit(node)
        self._in_class_body = outer
        return node


def _only_gives_a_message(node: ast.expr) -> bool:
    """Whether an expression calls `print` or `warnings.warn`, and nothing in its arguments has an effect."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in MESSAGE_CALLS:
        return False
    effects = [child for child in ast.walk(node) if isinstance(child, WITH_EFFECT)]
    return effects == [node]


def _plain(node: Any) -> Any:
    """A syntax tree as nested tuples, without positions and fields that differ between Python versions."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if value not in (None, []) and name not in ("ctx", "kind", "type_comment"):
            fields.append((name, _plain(value)))
    return type(node).__name__, fields


def _imports(tree: ast.AST, package: str) -> list[str]:
    """Absolute names of all imports at any depth; `package` is where relative ones start."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            names.append(base)
            names.extend(f"{base}.{alias.name}" for alias in node.names)
    return names


def _absolute(module: str, level: int, package: str) -> str:
    if level == 0:
        return module
    parents = package.split(".")
    parents = parents[: len(parents) - level + 1]
    return ".".join([*parents, module] if module else parents)


def _data_files(tree: ast.Module, path: Path) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [DECLARATION]:
            return _patterns(node.value, path)
    return ()


def _patterns(node: ast.expr, path: Path) -> tuple[str, ...]:
    try:
        patterns: Any = ast.literal_eval(node)
    except ValueError:
        patterns = None
    if not isinstance(patterns, Sequence) or isinstance(patterns, str) or not all(map(_is_below, patterns)):
        raise ValueError(
            f"{path}: {DECLARATION} must be a literal tuple of glob patterns relative to the module's folder,"
            f' such as ("rubrics/*.txt",), got {ast.unparse(node)}'
        )
    return tuple(patterns)


def _is_below(pattern: object) -> bool:
    if not isinstance(pattern, str) or not pattern:
        return False
    return not Path(pattern).is_absolute() and ".." not in Path(pattern).parts
