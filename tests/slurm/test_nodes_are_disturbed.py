"""Nodes restart, die, or are thought dead; tables are those of an undisturbed study."""

from __future__ import annotations

from pathlib import Path

import pytest

STUDY = ("arms=half,full", "seed=0,1,2")
LOCAL_FLOCK = f"""
import fcntl, os, sys
if "SLURMD_NODENAME" in os.environ:
    sys.path.append({str(Path(__file__).parents[1] / "stages")!r})
    from node import local_close, local_flock
    fcntl.flock, os.close = local_flock, local_close
"""


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


@pytest.mark.parametrize("flock", ["shared", "of each node alone"])
def test_a_node_that_is_set_down_while_its_processes_live_has_one_writer_per_stage(
    slurm, sweeps, tmp_path, monkeypatch, flock
):
    """Slurm starts the jobs again on the other node, where they wait for the lock or take it over."""
    if flock != "shared":
        (tmp_path / "sitecustomize.py").write_text(LOCAL_FLOCK)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("FLOCKS", str(tmp_path / "flocks"))
    sweep = sweeps.start_held(*STUDY, "resources.memory_gb=3")
    slurm.stop_node("n1")
    slurm.set_node_down("n1")
    slurm.until(lambda: [(job.node, job.state) for job in slurm.jobs()] == [("n2", "RUNNING")] * 6)
    assert "python" in " ".join(slurm.process_names("n1"))
    if flock != "shared":
        assert len(list((tmp_path / "flocks" / "n1").iterdir())) >= 6
    sweeps.release()
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    sweeps.check(6)
