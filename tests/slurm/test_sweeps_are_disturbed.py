"""Whatever happens to the command on the login node, its jobs are neither lost nor left behind."""

from __future__ import annotations

import signal
import time

STUDY = ("arms=half,full", "seed=0,1,2")
ONE_PER_NODE = "resources.memory_gb=18"


def test_the_jobs_of_a_sweep_that_died_are_adopted_by_the_next_one(slurm, sweeps):
    """A lost connection (SIGHUP), then `kill -9`, while one job is killed too."""
    first = sweeps.start_held(*STUDY)
    jobs = {name: status.job for name, status in sweeps.cells().items()}
    first.send_signal(signal.SIGHUP)
    first.communicate(timeout=60)
    slurm.signal(jobs["half 0"], "KILL")
    slurm.until(lambda: {job.id for job in slurm.jobs()} == set(jobs.values()) - {jobs["half 0"]})
    second = sweeps.start(*STUDY)
    slurm.until(lambda: sweeps.cells()["half 0"].job not in (None, jobs["half 0"]))
    second.kill()
    second.communicate()
    assert len(slurm.jobs()) == 6
    third = sweeps.start(*STUDY)
    sweeps.release()
    errors = sweeps.end_of(third)
    assert third.returncode == 0, errors
    now = {name: status.job for name, status in sweeps.cells().items()}
    assert {name for name in jobs if now[name] != jobs[name]} == {"half 0"}
    sweeps.check(6)


def test_two_quick_ctrl_c_leave_no_job(slurm, sweeps):
    """Two jobs run, four are pending."""
    sweep = sweeps.start_held(*STUDY, ONE_PER_NODE, held=2)
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.3)
    sweep.send_signal(signal.SIGINT)
    errors = sweeps.end_of(sweep)
    assert sweep.returncode in (130, -signal.SIGINT) and "run again" in errors  # -SIGINT: Python was ending
    slurm.until_idle(20.0)
    states = {status.state for status in sweeps.cells().values()}
    assert states <= {"stopped", "planned"}
    sweeps.release()
    assert sweeps.complete(*STUDY) == 1
    sweeps.check(6)


def test_a_controller_that_is_away_at_the_submission_is_waited_for(slurm, sweeps):
    slurm.stop_controller()
    sweep = sweeps.start("arms=half,full")
    time.sleep(8.0)
    assert sweep.poll() is None
    slurm.start_controller()
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    sweeps.check(2)


def test_a_controller_that_does_not_answer_while_jobs_run_ends_no_sweep_and_no_job(slurm, sweeps):
    """It hangs, then it is away, then it starts again."""
    sweep = sweeps.start_held(*STUDY)
    slurm.pause_controller()
    time.sleep(25.0)
    slurm.continue_controller()
    slurm.stop_controller()
    sweeps.release()
    time.sleep(3.0)
    slurm.start_controller()
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    slurm.until_idle()
    sweeps.check(6)


def test_two_studies_make_the_stage_that_they_share_once_and_one_study_runs_once(slurm, sweeps):
    words = ("arms=half,full",)
    studies = [sweeps.start("study.name=one", *words), sweeps.start("study.name=two", *words)]
    slurm.until(lambda: bool(sweeps.plan("one")["cells"]))
    again = sweeps.run("study.name=one", *words)
    assert again.returncode == 2 and "is being run by" in again.stderr
    for sweep in studies:
        errors = sweeps.end_of(sweep)
        assert sweep.returncode == 0, errors
    for study in ("one", "two"):
        sweeps.check(2, study)
    made = [sweeps.record(stage) for stage in (sweeps.outputs / "stages").iterdir()]
    assert all(len(record["attempts"]) == 1 for record in made)
