"""Two processes never write one folder of a stage, whatever the nodes of a cluster know of each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.stages.status import Status, read_status

ROOT = Path(__file__).resolve().parents[2]
NODE = Path(__file__).with_name("node.py")
STEPS = 60
STAGE = {"name": "climb", "program": "climbing.run", "settings": {"steps": STEPS, "pause_s": 0.05}}
CONSTANTS = {
    "harness.stages.locks.HEARTBEAT_S": 0.1,
    "harness.stages.locks.LOOK_EVERY_S": 0.1,
    "harness.stages.locks.LONGEST_PAUSE_S": 0.2,
    "harness.stages.owners.ASK_EVERY_S": 0.2,
    "harness.stages.status.WRITE_EVERY_S": 0.0,
}
DEAD_AFTER = "harness.stages.locks.DEAD_AFTER_S"
PROGRAM = """
import json, time
from harness.files import write_text

RESUME_FILES = ("training.json",)

def run(work, settings, inputs):
    checkpoint, table = work.folder / "training.json", work.folder / "training.csv"
    step, value = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0.3)
    if table.exists():
        write_text(table, "".join(table.read_text().splitlines(keepends=True)[:step]))
    while step < settings["steps"]:
        time.sleep(settings["pause_s"])
        step, value = step + 1, 3.6 * value * (1 - value)
        with table.open("a") as stream:
            stream.write(f"{step},{value}\\n")
        work.progress(step, settings["steps"], {"loss": value})
        if step % 5 == 0:
            write_text(checkpoint, json.dumps([step, value]))
"""
CARELESS = PROGRAM.replace(
    "        with table", "        table.parent.mkdir(exist_ok=True)\n        with table"
)


class Cluster:
    """Nodes that share a folder. What Slurm answers is in files that a test may write meanwhile."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.stages = folder, folder / "stages"
        self.jobs: list[subprocess.Popen[str]] = []
        (folder / "climbing.py").write_text(program)
        (folder / "bin").mkdir()
        for command in ("squeue", "scontrol"):
            script = folder / "bin" / command
            script.write_text(f"#!/bin/sh\ncat {folder}/{command}\n")
            script.chmod(0o755)
        self.slurm(job="RUNNING", node="DOWN*")

    def slurm(self, *, job: str, node: str) -> None:
        """Sets the state of every job and of every node."""
        (self.folder / "squeue").write_text(f"{job}\n" if job else "")
        (self.folder / "scontrol").write_text(f"NodeName=n1\n   State={node} ThreadsPerCore=1\n")

    def start(
        self,
        node: str,
        *,
        job: str = "5",
        restarts: int = 0,
        task: str = "task",
        flock: str = "local",
        dead_after_s: float = 1.2,
    ) -> subprocess.Popen[str]:
        spec = {
            "flock": flock,
            "constants": {**CONSTANTS, DEAD_AFTER: dead_after_s},
            "programs": str(self.folder),
            "folder": str(self.folder / task),
            "root": str(self.stages),
            "stage": STAGE,
        }
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "FLOCKS": str(self.folder / "flocks"),
            "SLURMD_NODENAME": node,
            "SLURM_JOB_ID": job,
            "SLURM_RESTART_COUNT": str(restarts),
        }
        (self.folder / task).mkdir(exist_ok=True)
        started = subprocess.Popen(
            [sys.executable, str(NODE), json.dumps(spec)], env=environment, stderr=subprocess.PIPE, text=True
        )
        self.jobs.append(started)
        return started

    def wait(self, job: subprocess.Popen[str], holds: Callable[[Status], bool], task: str = "task") -> Status:
        """Waits until the status is one that this job wrote, and that fits."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            status = read_status(self.folder / task)
            if status.pid == job.pid and holds(status):
                return status
            time.sleep(0.01)
        raise AssertionError(f"{read_status(self.folder / task)}")

    def result(self) -> dict[str, Any]:
        """The only folder of the stages: what its files say that is no time."""
        (folder,) = self.stages.iterdir()
        files = {file.name: file.read_text() for file in folder.iterdir()}
        del files["stage.json"]
        return files


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cluster = Cluster(tmp_path_factory.mktemp("undisturbed"), PROGRAM)
    assert cluster.start("n1").wait() == 0
    rows = [json.loads(row) for row in cluster.result()["metrics.jsonl"].splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return cluster.result()


@pytest.fixture(params=[PROGRAM], ids=["program"])
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = Cluster(tmp_path, request.param)
    yield made
    for job in made.jobs:
        job.kill()
        job.wait()
        if job.stderr is not None:
            job.stderr.close()


def contents(folder: Path, stopped: subprocess.Popen[str]) -> dict[str, bytes]:
    """The files of a folder, without those that only the stopped process knows.

    Where the signal meets it between opening a temporary file and filling it, the file moves with the
    folder and is filled later. Nobody reads it.
    """
    own = f".{stopped.pid}."
    return {file.name: file.read_bytes() for file in folder.iterdir() if own not in file.name}


def trains(status: Status, step: int = 10) -> bool:
    return status.state == "running" and (status.step or 0) >= step


def waits(status: Status) -> bool:
    return status.state == "waiting" and "node n1" in (status.waits_for or "")


def test_a_requeued_job_waits_for_its_earlier_run_that_works_on_where_nobody_can_end_it(
    cluster: Cluster, undisturbed: dict[str, Any]
) -> None:
    first = cluster.start("n1")
    cluster.wait(first, trains)
    second = cluster.start("n2", restarts=1)
    cluster.wait(second, waits)
    time.sleep(0.3)
    assert waits(read_status(cluster.folder / "task")), "the first leaves the status to the second"
    assert (first.wait(), second.wait()) == (0, 0)
    assert cluster.result() == undisturbed
    assert cluster.wait(second, lambda status: status.state == "done")


@pytest.mark.parametrize(
    ("job", "flock", "cluster"),
    [
        ("5", "local", PROGRAM),
        ("5", "none", CARELESS),
        ("6", "local", CARELESS),
        ("6", "none", PROGRAM),
    ],
    ids=["same-job-local", "same-job-none-careless", "other-job-local-careless", "other-job-none"],
    indirect=["cluster"],
)
def test_a_process_that_was_taken_for_dead_stops_and_changes_nothing(
    cluster: Cluster, undisturbed: dict[str, Any], flock: str, job: str
) -> None:
    """Job 5 is the same one, queued again, with the same folder of its task; 6 is one of another study.

    The careless program makes its folder again under the name that it knows.
    """
    task = "task" if job == "5" else "other"
    first = cluster.start("n1", flock=flock)
    cluster.wait(first, trains)
    first.send_signal(signal.SIGSTOP)
    cluster.slurm(job="", node="DOWN*")
    second = cluster.start("n2", job=job, restarts=1, flock=flock, task=task)
    cluster.wait(second, waits, task)
    status = cluster.wait(second, trains, task)
    (unfinished,) = cluster.stages.glob("climb-*.part*")
    assert unfinished.suffix == ".part2"
    second.send_signal(signal.SIGSTOP)  # so that every change is one of the first process
    before = contents(unfinished, first)
    first.send_signal(signal.SIGCONT)
    errors = first.communicate()[1]
    assert first.returncode == 1 and f"no longer belongs to this process (process {first.pid}" in errors
    assert f"but to process {second.pid}" in errors and "Traceback" not in errors
    assert contents(unfinished, first) == before
    own_steps = unfinished.with_suffix(".part") / "training.csv"
    assert not own_steps.exists() or len(own_steps.read_text().splitlines()) < 10, "it stopped at once"
    second.send_signal(signal.SIGCONT)
    assert second.wait() == 0
    assert cluster.result() == undisturbed
    assert cluster.wait(second, lambda status: status.state == "done", task).started == status.started
    if job == "6":
        own = cluster.wait(first, lambda status: status.state == "failed")
        assert "run the same command again" in (own.error or "")


def test_a_stopped_process_keeps_its_lock_where_flock_is_shared(
    cluster: Cluster, undisturbed: dict[str, Any]
) -> None:
    first = cluster.start("n1", flock="shared")
    cluster.wait(first, trains)
    first.send_signal(signal.SIGSTOP)
    cluster.slurm(job="", node="DOWN*")
    second = cluster.start("n2", restarts=1, flock="shared", dead_after_s=0.3)
    cluster.wait(second, waits)
    time.sleep(1)
    assert waits(read_status(cluster.folder / "task"))
    first.send_signal(signal.SIGCONT)
    assert (first.wait(), second.wait()) == (0, 0)
    assert cluster.result() == undisturbed


@pytest.mark.parametrize(
    ("job", "state", "waits_s"), [("5", "IDLE", 0), ("6", "MIXED+DRAIN", 0), ("5", "DOWN*", 1.2)]
)
def test_a_killed_job_is_resumed_at_once_where_its_node_answers(
    cluster: Cluster, undisturbed: dict[str, Any], state: str, waits_s: float, job: str
) -> None:
    first = cluster.start("n1", dead_after_s=60)
    cluster.wait(first, trains)
    first.kill()
    first.wait()
    killed = time.monotonic()
    cluster.slurm(job="PENDING", node=state)
    second = cluster.start("n2", job=job, restarts=1, dead_after_s=waits_s or 60)
    cluster.wait(second, lambda status: trains(status, 1))
    assert waits_s < time.monotonic() - killed < 20
    assert second.wait() == 0
    assert cluster.result() == undisturbed


def test_three_nodes_that_take_over_from_each_other(cluster: Cluster, undisturbed: dict[str, Any]) -> None:
    cluster.slurm(job="", node="DOWN*")
    jobs = []
    for number in (1, 2, 3):
        jobs.append(cluster.start(f"n{number}", restarts=number))
        cluster.wait(jobs[-1], lambda status, step=10 * number: trains(status, step))
        jobs[-1].send_signal(signal.SIGSTOP if number < 3 else signal.SIGCONT)
    (unfinished,) = cluster.stages.glob("climb-*.part*")
    assert unfinished.suffix == ".part3"
    for job in jobs[:2]:
        job.send_signal(signal.SIGCONT)
    assert [job.wait() for job in jobs] == [1, 1, 0]
    assert cluster.result() == undisturbed
