from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from harness.stages import sources, syntax

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "policies", "rewards", "benchmarks", "ablations")
NO_DATA = {".py", ".pyc", ".yaml", ".md"}  # YAML arrives as settings
TOP = """from harness import types
from harness.protocols import Judge
from . import near
from .deep.inner import Thing

def run():
    import plugin.late
"""
FILES = {
    "__init__.py": "",
    "top.py": TOP,
    "near.py": "import json\nDATA_FILES = ('rubrics/*.txt',)\n",
    "late.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import plugin.typed\n",
    "typed.py": "",
    "other.py": "",
    "deep/__init__.py": "",
    "deep/inner.py": "class Thing:\n    'A thing.'\n    size = 1  # of it\n",
    "rubrics/one.txt": "How good?",
    "deep/note.md": "nothing",
}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    for name, text in FILES.items():
        path = tmp_path / "plugin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "plugin"


@pytest.fixture(autouse=True)
def fresh():
    """Sources are read once per process. Here every test and every edit reads them again."""
    _forget()
    yield
    _forget()


def _forget():
    for cached in (sources.locate, sources._digest, sources._digests, sources._top_level, syntax.read_module):
        cached.cache_clear()


def _digests(*roots):
    _forget()
    return sources.digests(roots)


def test_the_closure_follows_imports_wherever_they_stand_but_not_those_for_type_checkers(plugin):
    modules = sources.closure(["plugin.top.run"], {"plugin", "harness"})
    names = {"plugin", "plugin.top", "plugin.near", "plugin.deep", "plugin.deep.inner", "plugin.late"}
    assert set(modules) == names | {"harness", "harness.types"}
    assert "plugin.top" not in sys.modules


def test_an_edit_counts_and_a_comment_does_not(plugin):
    before = _digests("plugin.top.run")
    (plugin / "deep" / "inner.py").write_text('class Thing:\n    """Another text."""\n\n    size = (1)\n')
    assert _digests("plugin.top.run") == before
    (plugin / "deep" / "inner.py").write_text("class Thing:\n    size = 2\n")
    after = _digests("plugin.top.run")
    assert {file for file in after if after[file] != before[file]} == {"plugin/deep/inner.py"}


def test_what_is_not_imported_does_not_count(plugin):
    before = _digests("plugin.top.run")
    (plugin / "other.py").write_text("x = 1")
    (plugin / "typed.py").write_text("x = 1")
    (plugin / "deep" / "note.md").write_text("something")
    assert _digests("plugin.top.run") == before


@pytest.mark.parametrize(
    "root", ["protocols.Policy", "protocols.trainer.Trainer", "settings.choice", "names"]
)
def test_roles_checks_of_settings_and_hints_do_not_count(root):
    assert set(sources.digests([f"harness.{root}"])) <= {"harness/__init__.py"}
    assert not [file for file in sources.digests(["rewards.judged.judge_scores"]) if "protocols" in file]


def test_declared_data_counts_and_a_file_beside_it_does_not(plugin):
    before = _digests("plugin.top")
    assert "plugin/rubrics/one.txt" in before
    (plugin / "training.log").write_text("step 1")
    (plugin / "rubrics" / "notes").write_text("to do")
    assert _digests("plugin.top") == before
    (plugin / "rubrics" / "one.txt").write_text("How bad?")
    after = _digests("plugin.top")
    assert {file for file in after if after[file] != before[file]} == {"plugin/rubrics/one.txt"}
    (plugin / "rubrics" / "two.txt").write_text("How far?")
    assert set(_digests("plugin.top")) - set(before) == {"plugin/rubrics/two.txt"}


def test_a_pattern_that_matches_nothing_is_refused(plugin):
    (plugin / "near.py").write_text("DATA_FILES = ('rubrics/*.json',)")
    with pytest.raises(
        ValueError, match=r"near\.py: the pattern 'rubrics/\*\.json' of DATA_FILES matches no"
    ):
        _digests("plugin.near")


def test_a_library_counts_by_name_only():
    assert sources.digests(["json.JSONDecoder"]) == sources.digests(["collections.OrderedDict"]) == {}


def test_a_file_that_is_no_python_is_named(plugin):
    (plugin / "near.py").write_text("def (")
    with pytest.raises(ValueError, match=r"near\.py cannot be read as Python"):
        sources.digests(["plugin.near"])


def test_targets_are_found_at_any_depth():
    settings = {"_target_": "a.A", "parts": [{"judge": {"_target_": "b.B"}}, 3], "name": "_target_"}
    assert list(sources.targets(settings)) == ["a.A", "b.B"]


def _shipped_modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_every_data_file_in_the_packages_is_declared_by_a_module_that_reads_beside_itself():
    declared: set[Path] = set()
    for path in _shipped_modules():
        patterns = syntax.read_module("any", path).data_files
        assert not patterns or "__file__" in path.read_text(encoding="utf-8"), (
            f"{path} reads no file beside it"
        )
        for pattern in patterns:
            declared.update(sources.data_files(path, pattern))
    data = set()
    for package in PACKAGES:
        files = [path for path in (ROOT / package).rglob("*") if path.is_file()]
        files = [path for path in files if "__pycache__" not in path.parts]
        data.update(path for path in files if path.suffix not in NO_DATA)
    reports = set((ROOT / "harness" / "report" / "templates").iterdir())  # of the report, which is no stage
    reports.add(ROOT / "benchmarks" / "shapes" / "calibration.json")
    assert declared == data - reports


def test_only_modules_that_declare_data_files_read_beside_themselves():
    """Every use of `__file__` in the packages is for declared data or for a file that no stage reads."""
    others = {
        "harness/composition/groups.py",  # where Hydra finds YAML
        "harness/stages/provenance.py",  # the checkout
        "benchmarks/t2i_compbench/fetch.py",  # the YAML of its settings
        "benchmarks/shapes/levels.py",  # the agreement of simulated experts, for reports
    }
    readers = set()
    for path in _shipped_modules():
        names = [node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)]
        if "__file__" in names and not syntax.read_module("any", path).data_files:
            readers.add(path.relative_to(ROOT).as_posix())
    assert readers <= others


def test_stages_import_nothing_of_the_rooms_above_them():
    rooms = set()
    for path in sorted((ROOT / "harness" / "stages").glob("*.py")):
        imports = syntax.read_module(f"harness.stages.{path.stem}", path).imports
        rooms.update(name.split(".")[1] for name in imports if name.startswith("harness."))
    assert rooms == {"stages", "devices", "files", "paths", "processes", "secrets", "settings", "types"}


def test_planning_imports_no_torch():
    code = "import sys, harness.launch.run, harness.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
