"""The contracts of `harness.protocols`: every member is documented, and none can decide a number."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from harness import protocols
from harness.composition import groups
from harness.stages import sources

FILES = sorted((Path(__file__).parents[1] / "harness" / "protocols").glob("*.py"))
ROLES = [file for file in FILES if file.name != "__init__.py"]
CLASSES = [
    pytest.param(node, id=node.name)
    for file in ROLES
    for node in ast.parse(file.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
]


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_constant(node: ast.AST | None) -> bool:
    """Whether an expression is missing, a literal, or an empty collection."""
    if isinstance(node, ast.Dict):
        return not node.keys
    if isinstance(node, ast.List | ast.Tuple):
        return not node.elts
    return node is None or isinstance(node, ast.Constant)


def is_trivial(node: ast.stmt) -> bool:
    """Whether a statement of a method is a docstring, returns a constant or raises NotImplementedError."""
    if isinstance(node, ast.Return):
        return is_constant(node.value)
    if isinstance(node, ast.Raise) and node.exc is not None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return is_docstring(node)


@pytest.mark.parametrize("file", ROLES, ids=lambda file: file.stem)
def test_a_file_holds_imports_and_classes_only(file: Path) -> None:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        assert (
            typing_only or is_docstring(node) or isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef)
        )


@pytest.mark.parametrize("made", CLASSES)
def test_members_are_constants_and_methods_without_work(made: ast.ClassDef) -> None:
    for node in made.body:
        if isinstance(node, ast.AnnAssign):
            assert is_constant(node.value), ast.unparse(node)
        elif isinstance(node, ast.FunctionDef):
            assert all(map(is_trivial, node.body)), ast.unparse(node)
        else:
            assert is_docstring(node), ast.unparse(node)


@pytest.mark.parametrize("made", CLASSES)
def test_every_member_has_a_docstring(made: ast.ClassDef) -> None:
    assert ast.get_docstring(made)
    for node, following in zip(made.body, [*made.body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef):
            assert ast.get_docstring(node), node.name
        elif isinstance(node, ast.AnnAssign):
            assert following is not None and is_docstring(following), ast.unparse(node)


def test_the_package_offers_every_role() -> None:
    assert sorted(protocols.__all__) == sorted(parameter.id for parameter in CLASSES)


def named_modules(made: type) -> set[str]:
    """The modules of a class's dotted paths."""
    paths = [getattr(made, name, None) for name in ("sizes", "races", "real_size")]
    return {path.rpartition(".")[0] for path in paths if path}


def test_estimates_and_races_are_in_no_key() -> None:
    """They are named by dotted paths, so that an edit of them retrains and rescores nothing."""
    classes = [*groups.classes("policies").values(), *groups.classes("benchmarks").values()]
    named = set().union(*map(named_modules, classes))
    assert "policies.janus.sizes" in named and "policies.janus.bench" in named
    roots = [f"{made.__module__}.{made.__qualname__}" for made in classes]
    programs = ["policies.janus.policy", "harness.evaluation.score.score", "harness.trainers.sft.train"]
    assert not named & set(sources.closure([*roots, *programs]))
