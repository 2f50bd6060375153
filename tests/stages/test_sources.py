from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.stages import sources

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "__init__.py": "",
    "top.py": "from harness import types\nfrom . import near\nfrom .deep.inner import Thing\n\ndef run():\n    import plugin.late\n",
    "near.py": "import json\n",
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
    """Sources are read once per process; here every test and every edit reads them anew."""
    _forget()
    yield
    _forget()


def _forget():
    for cached in (sources.locate, sources._digest, sources._top_level, sources._data_files, sources._parse):
        cached.cache_clear()


def _digest(*roots):
    _forget()
    return sources.digest(roots)


def test_the_closure_follows_imports_wherever_they_stand_but_not_those_for_type_checkers(plugin):
    found = sources.closure(["plugin.top.run"], own={"plugin", "harness"})
    names = {"plugin", "plugin.top", "plugin.near", "plugin.deep", "plugin.deep.inner", "plugin.late"}
    assert set(found) == names | {"harness", "harness.types"}
    assert "plugin.top" not in sys.modules


def test_an_edit_counts_and_a_comment_does_not(plugin):
    before = _digest("plugin.top.run")
    (plugin / "deep" / "inner.py").write_text('class Thing:\n    """Another text."""\n\n    size = (1)\n')
    assert _digest("plugin.top.run") == before
    (plugin / "deep" / "inner.py").write_text("class Thing:\n    size = 2\n")
    assert _digest("plugin.top.run") != before


def test_what_is_not_imported_does_not_count(plugin):
    before = _digest("plugin.top.run")
    (plugin / "other.py").write_text("x = 1")
    (plugin / "typed.py").write_text("x = 1")
    (plugin / "deep" / "note.md").write_text("something")
    assert _digest("plugin.top.run") == before


def test_data_beside_a_module_counts(plugin):
    before = _digest("plugin.near")
    (plugin / "rubrics" / "one.txt").write_text("How bad?")
    assert _digest("plugin.near") != before


def test_a_library_counts_by_name_only():
    assert sources.digest(["json.JSONDecoder"]) == sources.digest(["collections.OrderedDict"])


def test_a_file_that_is_no_python_is_named(plugin):
    (plugin / "near.py").write_text("def (")
    with pytest.raises(ValueError, match=r"near\.py cannot be read as Python"):
        sources.digest(["plugin.near"])


def test_targets_are_found_at_any_depth():
    settings = {"_target_": "a.A", "parts": [{"judge": {"_target_": "b.B"}}, 3], "name": "_target_"}
    assert list(sources.targets(settings)) == ["a.A", "b.B"]


def test_the_parts_of_the_shipped_study_do_not_depend_on_the_machine_or_the_report():
    found = sources.closure(["harness.evaluation.draw.sample", "harness.evaluation.score.score"])
    for module in (
        "harness.report",
        "harness.launch",
        "harness.stages.store",
        "harness.study.planning",
        "harness.study.cell",
    ):
        assert module not in found


def test_planning_imports_no_torch():
    code = "import sys, harness.launch.run, harness.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file that counts as large, and the folder in which digests of such are remembered."""
    monkeypatch.setattr(sources, "LARGE", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "weights").write_bytes(b"a" * 10)
    return tmp_path / "weights", tmp_path / "cache" / "got-r1-harness" / "digests"


def _digest_in_a_new_process(file):
    sources._file_digest.cache_clear()
    return sources.file_digest(file)


def test_a_large_file_is_read_once_for_all_processes(weights, monkeypatch):
    file, memory = weights
    digest = _digest_in_a_new_process(file)
    assert digest == hashlib.sha256(b"a" * 10).hexdigest() and len(list(memory.iterdir())) == 1
    monkeypatch.setattr(sources, "_content", lambda path: pytest.fail("read again"))
    assert _digest_in_a_new_process(file) == digest
    (file.parent / "link").symlink_to(file)
    assert _digest_in_a_new_process(file.parent / "link") == digest


def test_a_large_file_that_was_changed_is_read_again(weights):
    file, _ = weights
    digest = _digest_in_a_new_process(file)
    file.write_bytes(b"b" * 10)
    os.utime(file, ns=(0, 1))
    assert _digest_in_a_new_process(file) != digest


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", None], ids=["cut", "noise", "unwritable"])
def test_a_lost_memory_of_digests_does_no_harm(weights, damage):
    file, memory = weights
    digest = _digest_in_a_new_process(file)
    (known,) = memory.iterdir()
    if damage is None:
        shutil.rmtree(memory)
        memory.write_text("in the way")
    else:
        known.write_bytes(damage)
    assert _digest_in_a_new_process(file) == digest


def test_a_small_file_leaves_nothing_behind(weights):
    file, memory = weights
    file.write_bytes(b"a" * 9)
    _digest_in_a_new_process(file)
    assert not memory.exists()
