"""Ranks that nothing but their environment joins, as srun or a person starts them: one process per node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mini_nodes import PATIENCE_S, Start, free_port, processes

from harness.launch.job import write_spec
from harness.stages.status import read_status
from harness.types import Stage

JOB = "import sys; from harness.launch.job import Job; Job(sweep=None)([sys.argv[1]])"


@pytest.fixture
def start() -> Iterator[Start]:
    with processes() as begin:
        yield begin


class Nodes:
    """A job of two srun tasks on nodes whose names only Slurm can resolve."""

    def __init__(self, start: Start, folder: Path) -> None:
        self.start, self.folder, self.tasks = start, folder, list[subprocess.Popen[str]]()
        self.job = folder / "job"
        (folder / "scontrol").write_text(
            '#!/bin/sh\n[ "$1 $2" = "show node" ] && echo "NodeName=$3 NodeAddr=127.0.0.1 NodeHostName=x"\n'
        )
        (folder / "scontrol").chmod(0o755)

    def run(self, **settings: str) -> None:
        numbered = {name.removeprefix("rank"): how for name, how in settings.items()}
        stage = Stage(name="x", program="rank_acts.act", settings=numbered, parallel=0)
        write_spec(self.job, self.folder / "stages", stage)
        job_id = str(free_port())
        for rank in (0, 1):
            given = {"JOB_ID": job_id, "NTASKS": "2", "JOB_NUM_NODES": "2", "NODEID": str(rank)}
            given |= {"PROCID": str(rank), "LOCALID": "0", "JOB_NODELIST": "no-such-node-[1-2]"}
            variables = {f"SLURM_{name}": value for name, value in given.items()}
            variables |= {"SUBMITIT_EXECUTOR": "slurm", "PATH": f"{self.folder}:{os.environ['PATH']}"}
            self.tasks.append(self.start(["-c", JOB, str(self.job)], variables))

    def codes(self) -> list[int]:
        return [task.wait(PATIENCE_S) for task in self.tasks]

    def until_in_step(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while len(list((self.folder / "stages").glob("x-*.part/pid*"))) < 2:
            assert time.monotonic() < end and all(task.poll() is None for task in self.tasks), self.said()
            time.sleep(0.05)
        time.sleep(0.5)

    def said(self) -> list[Any]:
        return [task.communicate()[0] for task in self.tasks if task.poll() is not None]


@pytest.fixture
def nodes(start: Start, tmp_path: Path) -> Nodes:
    return Nodes(start, tmp_path)


def test_a_job_of_two_tasks_completes_its_stage_and_both_end_well(nodes: Nodes) -> None:
    nodes.run(rank0="go", rank1="go")
    assert nodes.codes() == [0, 0], nodes.said()
    assert read_status(nodes.job).state == "done"
    (record,) = (nodes.folder / "stages").glob("x-*/stage.json")
    assert json.loads(record.read_text())["processes"] == 2


def test_the_status_says_which_rank_failed_and_why(nodes: Nodes) -> None:
    nodes.run(rank0="wait", rank1="raise")
    assert nodes.codes()[0] == 1
    status = read_status(nodes.job)
    assert status.state == "failed"
    assert "rank 1 failed" in str(status.error) and "LookupError: no such animal" in str(status.error)


def test_a_task_that_is_killed_is_named(nodes: Nodes) -> None:
    nodes.run(rank0="wait", rank1="die")
    assert nodes.codes() == [1, -signal.SIGKILL]
    status = read_status(nodes.job)
    assert status.state == "failed" and "rank 1 has ended without a word" in str(status.error)


def test_a_signal_of_slurm_after_the_death_of_a_rank_is_no_stop(nodes: Nodes) -> None:
    nodes.run(rank0="hang", rank1="hang")
    nodes.until_in_step()
    nodes.tasks[1].kill()
    nodes.tasks[1].wait()
    nodes.tasks[0].terminate()
    assert nodes.codes()[0] == 1
    status = read_status(nodes.job)
    assert status.state == "failed" and "rank 1 has ended without a word" in str(status.error)


def test_a_task_does_not_outlive_rank_0(nodes: Nodes) -> None:
    nodes.run(rank0="hang", rank1="hang")
    nodes.until_in_step()
    nodes.tasks[0].kill()
    assert nodes.codes() == [-signal.SIGKILL, 1]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_of_one_task_stops_both(nodes: Nodes, rank: int) -> None:
    nodes.run(rank0="hang", rank1="hang")
    nodes.until_in_step()
    nodes.tasks[rank].terminate()
    assert nodes.codes()[0] == 1
    status = read_status(nodes.job)
    assert status.state == "stopped" and "SIGTERM has stopped the job" in str(status.error)
