"""The Slurm of these tests is a real one, and nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def keeper(tmp_path_factory):
    """A process that keeps a cluster of its own, and its slurm.conf."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.slurm.cluster"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("kept"))},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().strip().removeprefix("export SLURM_CONF=")
    process.kill()
    process.communicate()


def test_a_killed_owner_leaves_no_process_and_no_file(slurm, keeper, tmp_path):
    """`kill -9` of whoever started a cluster, while a job runs."""
    process, configuration = keeper
    job = ["sbatch", "--output=/dev/null", f"--wrap=touch {tmp_path}/runs; exec sleep 4711{process.pid}"]
    environment = {**os.environ, "SLURM_CONF": configuration}
    subprocess.run(job, env=environment, check=True, stdout=subprocess.DEVNULL)
    slurm.until((tmp_path / "runs").exists)
    assert _named(f"4711{process.pid}") and _named(configuration)
    process.kill()
    slurm.until(lambda: not Path(configuration).parent.exists())
    assert not _named(f"4711{process.pid}") and not _named(configuration)


def _named(word: str) -> list[psutil.Process]:
    alive = psutil.process_iter(["cmdline", "status"])
    return [
        one
        for one in alive
        if one.info["status"] != psutil.STATUS_ZOMBIE and word in " ".join(one.info["cmdline"] or [])
    ]


def test_a_requeued_job_runs_again_and_an_urgent_one_preempts_it(slurm, tmp_path):
    starts = tmp_path / "starts"
    job = slurm.submit("--requeue", "--exclusive", "--nodes=2", f"--wrap=echo x >> {starts}; sleep 600")
    slurm.until(lambda: starts.read_text() == "x\n")
    slurm.requeue(job)
    slurm.until(lambda: starts.read_text() == "x\nx\n")
    urgent = slurm.submit("--partition=urgent", "--wrap=sleep 600")
    slurm.until(lambda: {one.id: one.state for one in slurm.jobs()} == {job: "PENDING", urgent: "RUNNING"})


def test_a_job_outlives_its_slurmd_and_ends_with_its_node(slurm):
    job = slurm.submit("--requeue", "--nodelist=n1", "--wrap=sleep 600")
    slurm.until(lambda: slurm.jobs()[0].state == "RUNNING")
    slurm.stop_node("n1")
    names = slurm.process_names("n1")
    assert "sleep" in names and "slurmd" not in names
    slurm.start_node("n1")
    assert [one.state for one in slurm.jobs()] == ["RUNNING"]
    slurm.power_off("n1")
    assert not slurm.processes("n1")
    slurm.set_node_down("n1")
    assert [(one.id, one.state) for one in slurm.jobs()] == [(job, "PENDING")]


def test_a_controller_that_is_paused_or_away_answers_again_later(slurm):
    job = slurm.submit("--wrap=sleep 600")
    slurm.pause_controller()
    asked = subprocess.Popen(["squeue", "--noheader", "--format=%i"], stdout=subprocess.PIPE, text=True)
    time.sleep(1.0)
    assert asked.poll() is None
    slurm.continue_controller()
    assert asked.communicate(timeout=30)[0].strip() == job
    slurm.stop_controller()
    refused = subprocess.run(["squeue"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "Unable to contact slurm controller" in refused.stderr
    slurm.start_controller()
    assert [one.id for one in slurm.jobs()] == [job]
