"""What counts of a module's text: every pair of texts here is either the same for a key, or not."""

from __future__ import annotations

import itertools

import pytest

from harness.stages.syntax import read_module

NUMBERS = itertools.count()


@pytest.fixture
def digest(tmp_path):
    def read(text: str) -> str:
        path = tmp_path / f"module_{next(NUMBERS)}.py"
        path.write_text(text)
        return read_module(path.stem, path).digest

    return read


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = (1)  # the first\n\n"),
        ("def f():\n    'Text.'\n    return 1", "def f():\n    return 1"),
        ("class A:\n    size = 1\n    'Its size.'", "class A:\n    size = 1"),
        ("def f(x):\n    raise ValueError('no')", "def f(x):\n    raise ValueError(f'{x} is no number')"),
        ("raise ValueError", "raise ValueError('no') from error"),
        ("raise errors.Unreadable(path)", "raise errors.Unreadable(path, 'cut')"),
        ("assert x > 0", "assert x > 0, f'{x} is too small'"),
        ("x = 1\nprint('done')", "x = 1"),
        ("print('a', file=sys.stderr)", "print(f'{x} of {y}', file=sys.stderr, flush=True)"),
        ("warnings.warn('old')", "warnings.warn('new', stacklevel=2)"),
        ("def f(x, *y, z=1, **k): ...", "def f(x: int, *y: str, z: float = 1, **k: Any) -> None: ..."),
        ("async def f(x): pass", "async def f(x: int) -> None: pass"),
        ("def f():\n    x = 1\n    return x", "def f():\n    x: int = 1\n    return x"),
        ("def f():\n    self.x: int", "def f():\n    self.x: float"),
        ("x = {}", "x: dict[str, int] = {}"),
        ("class A:\n    def f(self, x): pass", "class A:\n    def f(self, x: int) -> int: pass"),
        ("import a", "import a\nif TYPE_CHECKING:\n    import b"),
        ("import a", "if typing.TYPE_CHECKING:\n    import b\nelse:\n    import a"),
    ],
)
def test_these_edits_do_not_count(digest, one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 'a'", "x = 'b'"),
        ("if x > 0: raise ValueError('no')", "if x > 1: raise ValueError('no')"),
        ("raise ValueError('no')", "raise KeyError('no')"),
        ("assert x > 0, 'no'", "assert x > 1, 'no'"),
        ("print(next(rows))", "pass"),
        ("print(*rows)", "pass"),
        ("print([row for row in rows])", "pass"),
        ("print(x := 1)", "pass"),
        ("x = print('a')", "x = print('b')"),
        ("log.print('a')", "log.print('b')"),
        ("class A:\n    size: int = 1", "class A:\n    size: float = 1"),
        ("class A:\n    size: int", "class A:\n    size: ClassVar[int]"),
        ("class A:\n    if x:\n        size: int", "class A:\n    if x:\n        size: float"),
        ("def f(x=1): pass", "def f(x=2): pass"),
        ("def f(x): pass", "def f(x, y): pass"),
        ("@cache\ndef f(): pass", "def f(): pass"),
        ("import a", "import b"),
        ("if x:\n    y = 1", "if x:\n    pass"),
        ("if not TYPE_CHECKING:\n    x = 1", "if not TYPE_CHECKING:\n    x = 2"),
    ],
)
def test_these_edits_count(digest, one, other):
    assert digest(one) != digest(other)


def test_imports_are_absolute_and_found_at_any_depth(tmp_path):
    path = tmp_path / "inner.py"
    path.write_text(
        "from . import near\nfrom ..far import Thing\n\ndef run():\n    import late.module as late\n"
    )
    assert set(read_module("top.mid.inner", path).imports) == {
        "top.mid",
        "top.mid.near",
        "top.far",
        "top.far.Thing",
        "late.module",
    }
    package = tmp_path / "__init__.py"
    package.write_text("from . import near")
    assert set(read_module("top.mid", package).imports) == {"top.mid", "top.mid.near"}


def test_data_files_are_declared_by_patterns(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('DATA_FILES: tuple[str, ...] = ("rubrics/*.txt", "sources.json")\n')
    assert read_module("module", path).data_files == ("rubrics/*.txt", "sources.json")


@pytest.mark.parametrize(
    "value",
    [
        "files()",
        '"rubrics/*.txt"',
        "(1,)",
        '("",)',
        '("../other.txt",)',
        '("/etc/hosts",)',
        "3",
        "('a' + x,)",
    ],
)
def test_a_declaration_that_is_no_tuple_of_patterns_is_refused(tmp_path, value):
    path = tmp_path / f"module_{next(NUMBERS)}.py"
    path.write_text(f"DATA_FILES = {value}\n")
    with pytest.raises(
        ValueError, match=r"module_\d+\.py: DATA_FILES must be a literal tuple of glob patterns"
    ):
        read_module("module", path)
