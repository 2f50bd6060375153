"""Jobs run the code of the plan, from a folder that no edit of the checkout reaches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.composition.arguments import UsageError
from harness.launch import snapshot
from harness.launch.environment import job_environment
from harness.launch.snapshot import freeze, remove_old
from harness.stages import provenance, sources, syntax
from harness.stages.keys import key
from harness.types import Stage

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "policies", "rewards", "benchmarks", "ablations", "hydra_plugins")
FILES = {
    "frozen_plugin/__init__.py": "",
    "frozen_plugin/judged.py": "import beside\nDATA_FILES = ('rubrics/*.txt',)\ndef run(*given): ...\n",
    "frozen_plugin/never.py": "",
    "frozen_plugin/rubrics/one.txt": "How good?",
    "frozen_plugin/rubrics/notes.md": "to do",
    "frozen_plugin/weights/large.bin": "weights",
    "frozen_plugin/compiled.so": "machine code",
    "frozen_plugin/.git/HEAD": "",
    "frozen_plugin/venv/pyvenv.cfg": "",
    "frozen_plugin/venv/lib/library.py": "",
    "beside.py": "import json\n",
    "other.py": "",
}
KEYS = """
import json, sys
from pathlib import Path
from harness.launch.job import read_spec
from harness.stages import keys, provenance, sources
stage = read_spec(Path(sys.argv[1]))[1]
files = [str(file) for file in sources.modules(keys.roots(stage)).values()]
print(json.dumps({"files": files, "record": provenance.record(), "path": sys.path}))
"""


def _forget() -> None:
    """As a new process, which reads the sources again."""
    for cached in (sources.locate, sources._digest, sources._digests, sources._top_level, syntax.read_module):
        cached.cache_clear()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path with a plugin package and a module beside it."""
    for name, text in FILES.items():
        (tmp_path / "world" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "world" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "world"))
    _forget()
    yield tmp_path / "world"
    _forget()


STAGE = Stage(name="mine", program="frozen_plugin.judged.run", settings={"part": {"_target_": "json.loads"}})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "studies" / "mine"


def _names(folder: Path) -> set[str]:
    paths = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix() for path in paths if path.is_file() or path.is_symlink()}


def test_our_packages_are_copied_whole_and_nothing_else_of_ours(study):
    frozen = freeze(study, [Stage(name="x", program="harness.evaluation.score.score", settings={})])
    tracked = subprocess.run(
        ["git", "ls-files", *sources.OURS], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    names = _names(frozen.folder)
    assert {name for name in tracked if (ROOT / name).is_file()} <= names
    assert {name.partition("/")[0] for name in names} == {*sources.OURS, "snapshot.json"}
    assert not [path for path in frozen.folder.rglob("*") if path.is_symlink()]
    facts = json.loads((frozen.folder / "snapshot.json").read_text())
    assert facts["digest"] == frozen.digest == frozen.folder.name
    assert (facts["commit"], facts["dirty"]) == provenance.commit()
    assert facts["files"] == len(names) - 1
    assert (
        facts["bytes"]
        == frozen.bytes
        == sum((frozen.folder / name).stat().st_size for name in names)
        - (frozen.folder / "snapshot.json").stat().st_size
    )


def test_of_a_users_package_python_and_declared_data_are_copied_and_the_rest_is_linked(world, study):
    folder = freeze(study, [STAGE]).folder
    plugin = {name for name in _names(folder) if name.partition("/")[0] not in {*sources.OURS}}
    assert plugin == {
        *("frozen_plugin/__init__.py", "frozen_plugin/judged.py", "frozen_plugin/never.py"),
        *("frozen_plugin/rubrics/one.txt", "frozen_plugin/rubrics/notes.md"),
        *("frozen_plugin/weights", "frozen_plugin/compiled.so", "beside.py", "snapshot.json"),
    }
    links = {path.name for path in (folder / "frozen_plugin").rglob("*") if path.is_symlink()}
    assert links == {"notes.md", "weights", "compiled.so"}
    assert (folder / "frozen_plugin" / "weights" / "large.bin").read_text() == "weights"


def test_equal_code_has_one_folder_and_edited_code_another(world, study):
    first = freeze(study, [STAGE])
    marked = first.folder / "harness" / "__pycache__" / "marked"
    marked.parent.mkdir(exist_ok=True)
    marked.touch()
    _forget()
    assert freeze(study, [STAGE]) == first and marked.exists(), "it was not copied again"
    (world / "beside.py").write_text("import os\n")
    _forget()
    second = freeze(study, [STAGE])
    assert second.folder != first.folder and first.folder.exists()
    assert (first.folder / "beside.py").read_text() == "import json\n"
    assert sorted(path.name for path in (study / "code").iterdir()) == sorted([first.digest, second.digest])
    remove_old(study)
    assert not (study / "code").exists() and (world / "frozen_plugin" / "weights" / "large.bin").exists()


@pytest.mark.parametrize("damage", ["harness/types.py", "snapshot.json", "frozen_plugin/weights"])
def test_a_damaged_snapshot_is_made_again(world, study, damage):
    folder = freeze(study, [STAGE]).folder
    (folder / damage).unlink()
    assert freeze(study, [STAGE]).folder == folder
    assert (folder / damage).exists()


def test_code_that_changes_while_it_is_copied_is_refused(world, study, monkeypatch):
    copy = snapshot._copy

    def edit(file: Path, target: Path) -> None:
        copy(file, target)
        if file.name == "judged.py":
            target.write_text("edited")

    monkeypatch.setattr(snapshot, "_copy", edit)
    with pytest.raises(UsageError, match="changed while they were copied"):
        freeze(study, [STAGE])
    assert list((study / "code").iterdir()) == []


def test_byte_code_is_copied_where_python_would_use_it(world, study):
    plugin = world / "frozen_plugin"
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(plugin)], check=True)
    os.utime(plugin / "judged.py", (1, 1))  # its byte code is of another file
    os.utime(plugin / "__pycache__" / f"never.{sys.implementation.cache_tag}.pyc", (1, 1))
    folder = freeze(study, [STAGE]).folder / "frozen_plugin"
    names = {path.name.partition(".")[0] for path in (folder / "__pycache__").iterdir()}
    assert names == {"__init__"}, "never.py may have been written since, within a second"
    assert (folder / "judged.py").stat().st_mtime == 1


def test_two_files_of_the_same_name_are_refused(world, study, tmp_path, monkeypatch):
    (tmp_path / "more").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    (world / "words.txt").write_text("one")
    (tmp_path / "more" / "words.txt").write_text("two")
    (world / "beside.py").write_text("DATA_FILES = ('words.txt',)")
    (tmp_path / "more" / "frozen_more.py").write_text("DATA_FILES = ('words.txt',)")
    both = Stage(name="y", program="frozen_more.run", settings={}, inputs={"start": STAGE})
    with pytest.raises(UsageError, match="would be the same file words"):
        freeze(study, [both])


@pytest.mark.parametrize("place", ["a folder on the path", "an installed package"])
def test_a_job_computes_the_planned_keys_from_the_snapshot_alone(world, study, place, tmp_path, monkeypatch):
    """Also where the package is declared as a plugin and installed, and whatever is edited afterwards."""
    from harness.launch.job import write_spec

    if place == "an installed package":
        metadata = world / "frozen_plugin-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: frozen-plugin\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[got_r1.plugins]\nfrozen = frozen_plugin\n")
    score = Stage(name="scores", program="harness.evaluation.score.score", settings={}, inputs={"x": STAGE})
    planned = key(score)
    write_spec(study / "cell", tmp_path / "stages", score)
    frozen = freeze(study, [score])
    (world / "frozen_plugin" / "judged.py").write_text("edited = 1")
    (world / "beside.py").unlink()
    with job_environment(1, frozen.folder):
        done = subprocess.run(
            [sys.executable, "-c", KEYS, str(study / "cell")], cwd=ROOT, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(frozen.folder) for file in told["files"])
    assert len(told["files"]) > 10 and str(world) in told["path"][1:]
    assert told["record"]["code"] == frozen.digest
    assert (told["record"]["commit"], told["record"]["dirty"]) == provenance.commit()
    _forget()
    assert key(score) != planned


@pytest.mark.slow
def test_edits_of_the_checkout_change_nothing_for_jobs_that_run(sweeps, finished, tmp_path):
    """One job trains, then scores in two processes; the code of the scores is edited while it trains."""
    sweeps.checkout, sweeps.toy = tmp_path / "checkout", tmp_path / "toy"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, sweeps.checkout / package)
    shutil.copytree(ROOT / "tests" / "toy", sweeps.toy)
    edits = {
        sweeps.toy / "toy_parts.py": ("Score(value=value if one.prompt.category", "Score(value=0.5 if one"),
        sweeps.checkout / "harness" / "evaluation" / "score.py": (
            "from __future__ import annotations\n",
            "from __future__ import annotations\nraise RuntimeError('edited')\n",
        ),
    }
    original = {file: file.read_text() for file in edits}
    words = ("arms=full", "resources.processes=2")
    sweeps.hold.touch()
    first = sweeps.start(*words)
    sweeps.until(lambda: (sweeps.status("full")["step"] or 0) >= 1)
    for file, (text, edited) in edits.items():
        assert text in original[file]
        file.write_text(original[file].replace(text, edited))
    sweeps.hold.unlink()
    out, errors = first.communicate(timeout=180)
    assert first.returncode == 0, errors
    assert "code: 2." in out and f"MB frozen in {sweeps.outputs}/studies/toy/code/" in out
    assert sweeps.scores("full") == finished.scores("full")
    assert sweeps.stage("full", "scores").name == finished.stage("full", "scores").name
    record = json.loads((sweeps.stage("full", "scores") / "stage.json").read_text())
    assert len(record["code"]) == 12 and record["processes"] == 2
    assert not (sweeps.outputs / "studies" / "toy" / "code").exists(), "the study is complete"
    for file, text in original.items():
        file.write_text(text)
    again = sweeps.run(*words)
    assert again.returncode == 0 and "code:" not in again.stdout and "running" not in again.stdout
