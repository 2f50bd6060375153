"""Folders in the working directory with the names of our packages, when the project is installed editable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.stages import sources

ROOT = Path(__file__).resolve().parents[2]
TARGETS = [
    "rewards.judged.judge_scores",
    "policies.janus.recipe.Janus",
    "benchmarks.geneval.benchmark.GenEval",
]
# as the finder of an editable install: it comes last, and knows the packages and their children
SCRIPT = f"""
import json, sys
from importlib.machinery import PathFinder
class Editable:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top, _, child = name.partition(".")
        if top in {sorted(sources.OURS)} and "." not in child:
            return PathFinder.find_spec(name, [{str(ROOT)!r} + ("/" + top if child else "")])
sys.meta_path = [one for one in sys.meta_path if "editable" not in str(one).lower()] + [Editable]
import policies.janus.recipe, rewards.judged
from harness.stages import sources
print(json.dumps(sources.digests({TARGETS})))
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT]
    environment = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_folders_without_modules_of_ours_change_no_key(tmp_path: Path) -> None:
    for name in sources.OURS:
        (tmp_path / name).mkdir()
    (tmp_path / "rewards" / "mine.yaml").touch()
    (tmp_path / "rewards" / "mine.py").touch()
    (tmp_path / "rewards" / "rubrics").mkdir()
    ended = run(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == sources.digests(TARGETS)


@pytest.mark.parametrize(
    "name", ["policies/__init__.py", "benchmarks.py", "benchmarks/geneval/x", "rewards/judged.py"]
)
def test_a_package_or_module_that_hides_ours_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    ended = run(tmp_path)
    assert ended.returncode == 1
    hidden = str(tmp_path / name).removesuffix("/__init__.py").removesuffix("/x")
    assert f"{hidden} hides the module of this name in {ROOT}" in ended.stderr.replace("\\n", "")
