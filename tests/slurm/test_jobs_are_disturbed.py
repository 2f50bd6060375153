"""Whatever happens to a job, the study ends with the numbers of an undisturbed one."""

from __future__ import annotations

import subprocess
import time

STUDY = ("arms=half,full", "seed=0,1,2")
ONE_PER_NODE = "resources.memory_gb=18"


def test_signals_requeues_and_kills_of_training_jobs_change_no_table(slurm, sweeps):
    sweep = sweeps.start_held(*STUDY)
    jobs = {name: status.job for name, status in sweeps.cells().items()}
    assert len(set(jobs.values())) == 6
    slurm.requeue(jobs["half 0"])
    for name, sent in (("half 1", "USR2"), ("half 2", "TERM"), ("full 0", "INT"), ("full 1", "KILL")):
        slurm.signal(jobs[name], sent)
    time.sleep(2.0)
    sweeps.release()
    errors = sweeps.end_of(sweep)
    states = {name: status.state for name, status in sweeps.cells().items()}
    assert states["half 0"] == states["half 1"] == states["full 2"] == "done", errors
    assert {states["half 2"], states["full 0"]} <= {"stopped", "done"}, errors
    assert sweeps.complete(*STUDY) == 1
    sweeps.check(6)


def test_signals_before_a_job_has_begun_to_work_change_no_table(slurm, sweeps):
    """Python has not started yet, or has not set its handlers."""
    sweeps.copy_shared()
    sweep = sweeps.start(*STUDY)
    signals = ["USR2", "TERM", "INT", "KILL"]

    def all_are_sent():
        for job in slurm.jobs():
            if job.state == "RUNNING" and job.id not in seen and signals:
                asked = ["scancel", f"--signal={signals[0]}", job.id]
                if subprocess.run(asked, env=slurm.environment(), stderr=subprocess.DEVNULL).returncode == 0:
                    seen.add(job.id)
                    signals.pop(0)
        return not signals

    seen: set[str] = set()
    slurm.until(all_are_sent)
    sweeps.end_of(sweep)
    sweeps.complete(*STUDY)
    sweeps.check(6)


def test_jobs_that_a_user_cancels_are_said_to_be_cancelled_and_resume(slurm, sweeps):
    """Two of them run, four are pending."""
    sweep = sweeps.start_held(*STUDY, ONE_PER_NODE, held=2)
    slurm.cancel(*[job.id for job in slurm.jobs()])
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 1
    cells = sweeps.cells().values()
    assert sorted(status.state for status in cells) in (["lost"] * 4 + ["stopped"] * 2, ["stopped"] * 6)
    pending = [status for status in cells if status.step is None]
    assert len(pending) == 4 and all("cancelled" in status.error for status in pending), errors
    assert "out of memory" not in errors
    sweeps.release()
    sweeps.complete(*STUDY)
    sweeps.check(6)


def test_preempted_jobs_resume_within_the_same_sweep(slurm, sweeps):
    sweep = sweeps.start_held(*STUDY)
    urgent = slurm.submit("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 600")
    slurm.until(
        lambda: (
            [job.state for job in slurm.jobs() if job.id != urgent] == ["PENDING"] * 6
            and [job.state for job in slurm.jobs() if job.id == urgent] == ["RUNNING"]
        )
    )
    sweeps.release()
    slurm.cancel(urgent)
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    sweeps.check(6)


def test_a_job_at_its_time_limit_resumes_within_the_same_sweep(slurm_without_requeue, sweeps):
    """Even where the site does not queue jobs again by itself. Slurm looks at the limits twice a minute."""
    sweeps.slurm = slurm_without_requeue
    sweep = sweeps.start_held("arms=half")
    (job,) = sweeps.slurm.jobs()
    sweeps.slurm.ask("scontrol", "update", f"JobId={job.id}", "TimeLimit=1")
    sweeps.slurm.until(lambda: sweeps.slurm.jobs()[0].state == "PENDING", 75.0)
    sweeps.release()
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    sweeps.check(1)
