"""After a program's last step nothing that was made is lost, whatever fails before the stage is complete."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mini_world
import pytest

from harness.composition.components import make
from harness.data import tokens
from harness.stages import provenance
from harness.stages.store import StageStore
from harness.types import Stage

ROOT = Path(__file__).resolve().parents[2]
EVERY = int(os.environ.get("FAULTS_EVERY", "4"))  # every n-th write gets a fault; 1 takes minutes
MINI = ROOT / "tests" / "mini"
EVALUATION = {
    **mini_world.CHOSEN,
    "images_per_prompt": 2,
    "batch_size": 3,
    "first_seed": None,
    "rollout": mini_world.ROLLOUT,
}


def make_with_faults(
    root: Path, kind: str, program: str, settings: Any, *, every: int = EVERY, **inputs: Path
) -> list[dict]:
    """One row for every n-th write after the last step: how the attempts ended, which steps came twice."""
    spec = {"root": str(root), "kind": kind, "every": every, "program": program, "settings": settings}
    spec["inputs"] = {name: str(folder) for name, folder in inputs.items()}
    command = [sys.executable, str(MINI / "faults.py"), json.dumps(spec)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{MINI}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def check(rows: list[dict], kind: str) -> None:
    """Every second attempt completes the same files and repeats no step.

    A kill before the last checkpoint is written is still a kill within the last step.
    """
    assert rows
    for row in rows:
        assert row["first"] in ((-signal.SIGKILL,) if kind == "kill" else (0, 3)), row
        assert (row["again"], row["same"]) == (0, True), row
        assert row["repeated"] == [] or (kind == "kill" and row["unsaved"]), row


@pytest.fixture(scope="module")
def tokens_folder(janus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = mini_world.FakeWorkspace(tmp_path_factory.mktemp("tokens"))
    tokens.encode(work, mini_world.tokens_settings(), {"start": janus_folder.parent})
    return work.folder


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_training(tmp_path: Path, janus_folder: Path, tokens_folder: Path, kind: str) -> None:
    settings = mini_world.sft_settings(steps=3, checkpoint_every=2)
    rows = make_with_faults(
        tmp_path,
        kind,
        "harness.trainers.sft.train",
        settings,
        start=janus_folder.parent,
        tokens=tokens_folder,
    )
    check(rows, kind)


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_tokenizer(tmp_path: Path, kind: str) -> None:
    policy = {**mini_world.POLICY, "vq": mini_world.POLICY["vq"] | {"steps": 3}}
    config = {"policies": policy, "benchmarks": mini_world.BENCHMARK, "sft_seed": 3}
    settings = dict(make(policy).start(config).settings)
    check(make_with_faults(tmp_path, kind, "policies.janus.tiny.build", settings), kind)


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_tokens(tmp_path: Path, janus_folder: Path, kind: str) -> None:
    settings = mini_world.tokens_settings()
    check(
        make_with_faults(tmp_path, kind, "harness.data.tokens.encode", settings, start=janus_folder.parent),
        kind,
    )


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_samples_and_scores(tmp_path: Path, janus_folder: Path, kind: str) -> None:
    settings = {
        "policy": mini_world.POLICY,
        "benchmark": mini_world.BENCHMARK,
        "seed": 4,
        "evaluation": EVALUATION,
    }
    drawn = tmp_path / "drawn"
    rows = make_with_faults(
        drawn, kind, "harness.evaluation.draw.sample", settings, policy=janus_folder.parent
    )
    check(rows, kind)
    (samples,) = (drawn / "whole").iterdir()
    settings = {"benchmark": {"_target_": "mini_reds.Reds"}, "check": None}
    scored = tmp_path / "scored"
    rows = make_with_faults(
        scored,
        kind,
        "harness.evaluation.score.score",
        settings,
        every=1,
        samples=samples,
    )
    check(rows, kind)
    assert any("scores.jsonl" in row["write"] for row in rows)


class Silent:
    def begin(self, stage: Stage) -> None: ...

    def wait(self, stage: Stage, owner: object) -> None: ...

    def progress(self, step: int, total: int, metrics: object) -> None: ...


STATEFUL = """
RESUME_FILES = ("training.pt", "parts")
def run(work, settings, inputs):
    (work.folder / "training.pt").write_text("weights")
    (work.folder / "parts").mkdir(exist_ok=True)
    (work.folder / "parts" / "0.jsonl").write_text("rows")
    (work.folder / "result").write_text("done")
    calls = work.folder.parent / "calls"
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage whose program leaves what it would resume from, and counts its calls."""
    name = f"stateful_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(STATEFUL)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Stage(name="grpo", program=f"{name}.run", settings={})


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def hang(*given: object, **more: object) -> None:
    raise subprocess.TimeoutExpired(["git", "status"], 30)


def full(*given: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [hang, full, lambda: 1 / 0])
def test_a_record_of_origin_that_cannot_be_made_fails_no_stage(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Callable[[], None], capsys: Any
) -> None:
    monkeypatch.setattr(provenance, "record", error)
    folder = StageStore(tmp_path / "stages").make(stage, Silent())
    assert left(folder) == ["result", "stage.json"]
    record = json.loads((folder / "stage.json").read_text())
    assert record["commit"] is None and record["versions"] == {} and list(record["files"]) == ["result"]
    assert "warning: stage.json says no commit" in capsys.readouterr().err


def test_what_a_program_resumes_from_is_there_until_the_stage_has_its_name(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(tmp_path / "stages")
    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space left"):
        broken.setattr("harness.stages.store.swap_folder", full)
        store.make(stage, Silent())
    (unfinished,) = (tmp_path / "stages").glob("grpo-*.part")
    assert {"training.pt", "parts", "attempts.json", "result"} <= set(left(unfinished))
    folder = store.make(stage, Silent())
    assert left(folder) == ["result", "stage.json"]
    assert (tmp_path / "stages" / "calls").read_text() == "x", "only the rename was missing"


def test_what_a_kill_after_the_rename_leaves_is_removed_when_the_stage_is_used(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(tmp_path / "stages")
    with monkeypatch.context() as killed:
        killed.setattr("harness.stages.store._drop_resume_files", lambda folder: None)
        folder = store.make(stage, Silent())
    assert "training.pt" in left(folder)
    assert store.is_complete(stage)
    store.make(stage, Silent())
    assert left(folder) == ["result", "stage.json"]


def test_a_folder_whose_record_does_not_fit_its_files_is_worked_on_again(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(tmp_path / "stages")
    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space left"):
        broken.setattr("harness.stages.store.swap_folder", full)
        store.make(stage, Silent())
    (unfinished,) = (tmp_path / "stages").glob("grpo-*.part")
    (unfinished / "result").write_text("cut")
    assert (store.make(stage, Silent()) / "result").read_text() == "done"


def test_attempts_that_cannot_be_read_or_written_fail_no_stage(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(tmp_path / "stages")
    unfinished = Path(f"{store.folder(stage)}.part")
    unfinished.mkdir(parents=True)
    (unfinished / "attempts.json").write_text('[{"started": "2026", "sec')
    monkeypatch.setattr("harness.stages.program.write_text", full)
    folder = store.make(stage, Silent())
    assert len(json.loads((folder / "stage.json").read_text())["attempts"]) == 1
