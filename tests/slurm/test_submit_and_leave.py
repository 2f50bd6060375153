"""A study is submitted, left alone, looked at and cancelled."""

from __future__ import annotations

import subprocess
import sys

import pytest

ARMS = ("arms=half,full", "seed=0,1,2")
LEAVE = "cluster.wait=false"


@pytest.fixture
def command(sweeps):
    """Runs `python -m harness.NAME toy --outputs ...` and returns what it prints."""

    def run(name: str, *words: str) -> str:
        asked = [sys.executable, "-m", f"harness.{name}", "toy", "--outputs", str(sweeps.outputs), *words]
        ended = subprocess.run(asked, cwd=sweeps.checkout, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in ended.stderr, ended.stderr
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return run


def test_a_study_that_is_submitted_and_left_completes_and_is_reported(slurm, sweeps, command, tmp_path):
    """The nodes take no jobs at first, so that the jobs are seen pending."""
    slurm.drain()
    left = sweeps.run(LEAVE, *ARMS)
    assert left.returncode == 0, left.stderr
    jobs = slurm.jobs()
    arrays = {job.id.partition("_")[0] for job in jobs if "_" in job.id}
    assert len(jobs) == 7 and len(arrays) == 1, "the shared stage, and one array of the arms"
    assert "Dependency=afterok:" in slurm.ask("scontrol", "show", "job", *arrays)
    said = command("status")
    assert all(f"job {job.id} " in said for job in jobs)
    assert said.count(" queued ") == 7 and said.count("waits for Slurm (") == 7
    for node in slurm.nodes:
        slurm.start_node(node)
    slurm.until_idle()
    assert "6 of 6 cells done" in command("status")
    command("report", "--reports", str(tmp_path / "reports"))
    assert (tmp_path / "reports" / "toy" / "tables" / "scores.csv").exists()
    sweeps.check(6)


def test_the_command_for_a_study_that_was_left_adopts_its_jobs_and_waits(slurm, sweeps):
    slurm.drain()
    assert sweeps.run(LEAVE, *ARMS).returncode == 0
    jobs = {job.id for job in slurm.jobs()}
    again = sweeps.run(LEAVE, *ARMS)
    assert again.returncode == 0, again.stderr
    assert {job.id for job in slurm.jobs()} == jobs
    for node in slurm.nodes:
        slurm.start_node(node)
    ended = sweeps.run(*ARMS)
    assert ended.returncode == 0, ended.stderr
    assert {status.job for status in sweeps.cells().values()} <= jobs
    sweeps.check(6)


def test_forty_arms_are_one_array_of_so_many_at_a_time_and_are_cancelled_together(slurm, sweeps, command):
    seeds = ",".join(map(str, range(40)))
    slurm.drain()
    left = sweeps.run(LEAVE, "arms=half", f"seed={seeds}", "cluster.max_jobs=4")
    assert left.returncode == 0, left.stderr
    jobs = slurm.jobs()
    assert len(jobs) == 41 and len({job.id.partition("_")[0] for job in jobs}) == 2
    array = next(job.id.partition("_")[0] for job in jobs if "_" in job.id)
    assert "ArrayTaskThrottle=4" in slurm.ask("scontrol", "show", "job", array)
    command("cancel")
    slurm.until_idle(20.0)
    assert " queued " not in command("status")


def test_arms_whose_shared_stage_fails_never_start_and_leave_no_job(slurm, sweeps, command):
    words = (LEAVE, "policies.start=1", "trainers._target_=toy_parts.BrokenWarm", *ARMS)
    assert sweeps.run(*words).returncode == 0
    slurm.until_idle()
    said = command("status")
    assert "no such animal" in said
    assert all(status.step is None and status.state != "done" for status in sweeps.cells().values())


def test_a_dry_run_prints_the_scripts_and_submits_nothing(slurm, sweeps):
    ended = sweeps.run("cluster.dry_run=true", "cluster.options.partition=urgent", *ARMS)
    assert ended.returncode == 0, ended.stderr
    for line in ("#SBATCH --partition=urgent", "#SBATCH --array=0-5", "#SBATCH --requeue", "srun"):
        assert line in ended.stdout
    assert not slurm.jobs() and not (sweeps.outputs / "stages").exists()
