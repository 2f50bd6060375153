from __future__ import annotations

import errno
import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.stages import locks
from harness.stages.program import Outside, load_program
from harness.stages.store import DamagedStageError, StageStore, StorageError
from harness.types import Stage

NUMBERS = itertools.count()
ROOT = Path(__file__).resolve().parents[2]

FILL = """
import resource, signal, sys
from pathlib import Path
from harness.stages.store import StageStore
from harness.types import Stage

PROGRAM = "def run(work, settings, inputs): (work.folder / 'fat').write_bytes(bytes(10**6))"

class Reporter:
    begin = wait = progress = staticmethod(lambda *given: None)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
root = Path(sys.argv[1])
sys.path.insert(0, str(root))
(root / "fat.py").write_text(PROGRAM)
resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))
StageStore(root).make(Stage(name="fat", program="fat.run", settings={}), Reporter())
"""


class Silent:
    """A reporter that only remembers."""

    def __init__(self):
        self.begun, self.steps = [], []

    def begin(self, stage):
        self.begun.append(stage.name)

    def wait(self, stage, owner):
        raise AssertionError("nobody else is here")

    def progress(self, step, total, metrics):
        self.steps.append(step)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a function available as a stage program; the module is this test's own."""

    def offer(function):
        module = tmp_path / f"program_{next(NUMBERS)}.py"
        module.write_text("CALLS = []\ndef run(work, settings, inputs): CALLS[0](work, settings, inputs)\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        load_program(f"{module.stem}.run").__globals__["CALLS"].append(function)
        return f"{module.stem}.run"

    return offer


def _write_result(work, settings, inputs):
    (work.folder / "result").write_text(json.dumps({"settings": settings, "inputs": sorted(inputs)}))


def test_a_stage_is_made_after_its_inputs_and_only_once(tmp_path, program):
    path = program(_write_result)
    first = Stage(name="first", program=path, settings={})
    second = Stage(name="second", program=path, settings={"width": 2}, inputs={"start": first})
    store, reporter = StageStore(tmp_path / "stages"), Silent()
    assert not store.is_complete(second)
    folder = store.make(second, reporter)
    assert folder == store.folder(second) and store.is_complete(first)
    assert json.loads((folder / "result").read_text()) == {"settings": {"width": 2}, "inputs": ["start"]}
    store.make(second, reporter)
    assert reporter.begun == ["first", "second"]
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == sorted(
        [store.folder(first).name, folder.name]
    )


def test_an_error_leaves_a_folder_to_resume_in(tmp_path, program):
    def fail_once(work, settings, inputs):
        if not (work.folder / "seen").exists():
            (work.folder / "seen").touch()
            work.progress(1, 3, {"reward": 0.5})
            raise RuntimeError("first attempt")
        work.progress(2, 3, {"reward": 0.6})

    stage = Stage(name="shaky", program=program(fail_once), settings={})
    store = StageStore(tmp_path)
    with pytest.raises(RuntimeError, match="first attempt"):
        store.make(stage, Silent())
    assert not store.is_complete(stage)
    folder = store.make(stage, Silent())
    record = json.loads((folder / "stage.json").read_text())
    assert len(record["attempts"]) == 2
    assert record["seconds"] == pytest.approx(sum(attempt["seconds"] for attempt in record["attempts"]))
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [
        1,
        2,
    ]
    assert not (folder / "attempts.json").exists()


def test_a_resumed_run_replaces_the_lines_it_makes_again(tmp_path, program):
    def write(work, settings, inputs):
        (work.folder / "metrics.jsonl").write_text(
            '{"step": 1, "loss": 1}\n{"step": 2, "loss": 9}\n{"step": 3, "loss": 9}\n{"step": 4, "lo'
        )
        for step in (2, 3):
            work.progress(step, 3, {"loss": step})

    folder = StageStore(tmp_path).make(Stage(name="grpo", program=program(write), settings={}), Silent())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 1}, {"step": 2, "loss": 2}, {"step": 3, "loss": 3}]


def test_progress_without_metrics_writes_no_line(tmp_path, program):
    folder = StageStore(tmp_path).make(
        Stage(name="x", program=program(lambda work, settings, inputs: work.progress(1, 1)), settings={}),
        Silent(),
    )
    assert not (folder / "metrics.jsonl").exists()


def test_a_full_disk_is_explained_and_leaves_nothing_complete(tmp_path, program):
    def fill(work, settings, inputs):
        raise OSError(errno.ENOSPC, "No space left on device", str(work.folder / "big"))

    stage = Stage(name="big", program=program(fill), settings={})
    with pytest.raises(StorageError, match=r"No space left.*outputs_dir=FOLDER.*same command again"):
        StageStore(tmp_path).make(stage, Silent())
    assert not StageStore(tmp_path).is_complete(stage)


def _as_torch(work, settings, inputs):
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    finally:
        raise RuntimeError("unexpected pos 9073280 vs 9073172")


def _as_safetensors(work, settings, inputs):
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("fill", [_as_torch, _as_safetensors])
def test_a_full_disk_behind_an_error_of_a_library_is_explained(tmp_path, program, fill):
    with pytest.raises(StorageError, match=r"No space left.*Free some space.*outputs_dir=FOLDER"):
        StageStore(tmp_path).make(Stage(name="big", program=program(fill), settings={}), Silent())


def _cut(folder):
    (folder / "result").write_text("{")


def _remove(folder):
    (folder / "result").unlink()


def _spoil_record(folder):
    (folder / "stage.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(_cut, "result is damaged"), (_remove, "result is missing"), (_spoil_record, "stage.json is")],
)
def test_a_damaged_stage_is_refused_with_the_remedy(tmp_path, program, spoil, named):
    stage = Stage(name="first", program=program(_write_result), settings={})
    store = StageStore(tmp_path)
    folder = store.make(stage, Silent())
    spoil(folder)
    for use in (
        store.is_complete,
        lambda stage: store.make(Stage(name="x", program="a.b", settings={}, inputs={"of": stage}), Silent()),
    ):
        with pytest.raises(
            DamagedStageError, match=rf"{named}.*delete the folder .*{folder.name}.*command again"
        ):
            use(stage)
    shutil.rmtree(folder)
    assert store.make(stage, Silent()) == folder


def test_a_really_full_disk(tmp_path):
    """A program that writes more than the process may: the limit of the kernel stands for the disk's."""
    ended = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "StorageError: cannot write" in ended.stderr
    assert not list(tmp_path.glob("fat-*/stage.json"))


def test_a_folder_whose_record_was_removed_is_made_again(tmp_path, program):
    stage = Stage(name="x", program=program(_write_result), settings={})
    store = StageStore(tmp_path)
    (store.make(stage, Silent()) / "stage.json").unlink()
    assert not store.is_complete(stage)
    assert (store.make(stage, Silent()) / "result").exists()


@pytest.mark.parametrize("reports", [True, False], ids=["at its next step", "before the rename"])
def test_a_process_that_lost_the_lock_completes_nothing(tmp_path, program, monkeypatch, reports):
    monkeypatch.setattr(locks, "LOOK_EVERY_S", 0.0)
    steps, other = [], replace(locks.me(), host="far-away")

    def lose(work, settings, inputs):
        work.progress(1, 2)
        (lock,) = work.folder.parent.glob("*.lock")
        lock.write_text(json.dumps(asdict(other)))
        steps.append(1)
        if reports:
            work.progress(2, 2)
            steps.append(2)

    store, stage = StageStore(tmp_path / "stages"), Stage(name="x", program=program(lose), settings={})
    with pytest.raises(locks.LostError, match="far-away"):
        store.make(stage, Silent())
    assert steps == [1]
    folder = store.folder(stage)
    assert locks.owner_of(folder.with_name(f"{folder.name}.lock")) == other
    assert not list(folder.parent.glob("*/stage.json"))


def test_the_folder_of_an_owner_elsewhere_gets_another_name_first(tmp_path, program, monkeypatch):
    def resume(work, settings, inputs):
        assert work.folder.suffix == ".part2"
        (work.folder / "result").write_text((work.folder / "checkpoint").read_text())

    store, stage = StageStore(tmp_path / "stages"), Stage(name="x", program=program(resume), settings={})
    folder = store.folder(stage)
    unfinished = folder.with_name(f"{folder.name}.part")
    unfinished.mkdir(parents=True)
    (unfinished / "checkpoint").write_text("step 3")
    lock = folder.with_name(f"{folder.name}.lock")
    lock.write_text(json.dumps(asdict(replace(locks.me(), host="far-away"))))
    monkeypatch.setattr(locks, "DEAD_AFTER_S", 0.0)
    assert (store.make(stage, Silent()) / "result").read_text() == "step 3"
    assert list(folder.parent.iterdir()) == [folder]


def test_an_owner_elsewhere_that_died_after_the_rename_leaves_a_complete_stage(
    tmp_path, program, monkeypatch
):
    store = StageStore(tmp_path / "stages")
    stage = Stage(name="x", program=program(_write_result), settings={})
    folder = store.make(stage, Silent())
    lock = folder.with_name(f"{folder.name}.lock")
    lock.write_text(json.dumps(asdict(replace(locks.me(), host="far-away"))))
    monkeypatch.setattr(locks, "DEAD_AFTER_S", 0.0)
    monkeypatch.setattr(
        store, "is_complete", lambda stage: False
    )  # when this process looked before it waited
    assert store.make(stage, Silent()) == folder
    assert list(folder.parent.iterdir()) == [folder]


def test_what_is_no_function_is_named():
    with pytest.raises(ValueError, match=r"'harness\.types\.CANVAS'.*must name a function"):
        load_program("harness.types.CANVAS")


def test_peak_memory_is_that_of_the_stage(tmp_path, program):
    def hungry(work, settings, inputs):
        bytearray(b"x" * settings["mb"] * 2**20)

    path = program(hungry)
    store = StageStore(tmp_path)
    peaks = []
    for mb in (200, 1):
        folder = store.make(Stage(name="x", program=path, settings={"mb": mb}), Silent())
        peaks.append(json.loads((folder / "stage.json").read_text())["peak_mb"])
    assert peaks[0] > peaks[1] + 100


def test_the_time_of_a_job_around_its_stages_is_kept_without_its_waits(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("harness.stages.program.time.monotonic", lambda: now[0])
    monkeypatch.setattr("harness.stages.program._age_s", lambda: 2.0)
    outside = Outside()
    now[0] += 30.0
    outside.exclude(29.0)
    assert outside.begin() == 3.0
    now[0] += 50.0
    outside.end()
    now[0] += 0.5
    assert outside.begin() == 0.5
