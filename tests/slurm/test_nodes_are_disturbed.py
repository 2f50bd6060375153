"""Nodes restart, die, or are thought dead; tables are those of an undisturbed study."""

from __future__ import annotations

STUDY = ("arms=half,full", "seed=0,1,2")


def test_a_daemon_that_restarts_and_a_node_that_loses_its_power_change_no_table(slurm, sweeps):
    """All jobs are on one node, then all on the other."""
    sweep = sweeps.start_held(*STUDY, "resources.memory_gb=3")
    assert {job.node for job in slurm.jobs()} == {"n1"}
    slurm.stop_node("n1")
    slurm.start_node("n1")
    assert {job.state for job in slurm.jobs()} == {"RUNNING"}
    slurm.power_off("n1")
    slurm.set_node_down("n1")
    slurm.until(lambda: [(job.node, job.state) for job in slurm.jobs()] == [("n2", "RUNNING")] * 6)
    slurm.start_node("n1")
    sweeps.release()
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    sweeps.check(6)


def test_a_node_that_is_set_down_while_its_processes_live_has_one_writer_per_stage(slurm, sweeps):
    """Slurm starts the jobs again on the other node, where they wait for the lock or take it over."""
    sweep = sweeps.start_held(*STUDY, "resources.memory_gb=3")
    slurm.stop_node("n1")
    slurm.set_node_down("n1")
    slurm.until(lambda: [(job.node, job.state) for job in slurm.jobs()] == [("n2", "RUNNING")] * 6)
    assert "python" in " ".join(slurm.process_names("n1"))
    sweeps.release()
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    sweeps.check(6)
