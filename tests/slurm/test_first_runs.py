"""The likeliest first mistakes on a cluster, and what a user is shown."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import SlurmCluster


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("cluster.options.partition=nowhere", "nowhere"),
        ("+cluster.options.no_such_option=7", "no-such-option"),
        ("resources.memory_gb=900", "resources.memory_gb"),
        ("resources.gpus=2", "resources.gpus"),
    ],
)
def test_an_option_that_the_cluster_refuses_is_refused_before_anything_is_written(slurm, sweeps, word, said):
    ended = sweeps.run("arms=half", word)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert said in ended.stderr and "Traceback" not in ended.stderr
    assert not slurm.jobs() and not (sweeps.outputs / "studies").exists()


def isolated(slurm: SlurmCluster) -> None:
    if not slurm.isolated:
        pytest.skip("nodes without their own mounts see every folder of this machine")


def test_a_python_that_the_nodes_do_not_have_is_named(slurm, sweeps, tmp_path, monkeypatch):
    isolated(slurm)
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (environment / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", environment)
    slurm.hide(environment)
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    ended = sweeps.run("arms=half")
    assert ended.returncode == 1
    assert f"{environment / 'bin' / 'python'}: not found" in ended.stderr
    assert "does not see the Python" in ended.stderr
    assert "out of memory" not in ended.stderr and "Traceback" not in ended.stderr
    assert not slurm.jobs()


def test_an_outputs_folder_that_the_nodes_do_not_share_is_named(slurm, sweeps):
    isolated(slurm)
    sweeps.outputs.mkdir()
    slurm.hide(sweeps.outputs)
    ended = sweeps.run("arms=half")
    assert ended.returncode == 1
    assert "outputs_dir" in ended.stderr and "shared" in ended.stderr and "Traceback" not in ended.stderr
    slurm.until_idle()


def test_a_path_that_slurm_would_read_as_a_pattern_is_refused(slurm, sweeps, tmp_path):
    sweeps.outputs = tmp_path / "100%j of %x" / "outputs"
    ended = sweeps.run("arms=half")
    assert ended.returncode == 2 and "'%'" in ended.stderr and "choose another outputs_dir" in ended.stderr
    assert not slurm.jobs() and not sweeps.outputs.exists()


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_no_variable_and_no_umask_of_the_user_changes_a_table(slurm, sweeps, monkeypatch, umask):
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    sweeps.copy_shared()
    before = os.umask(umask)
    try:
        ended = sweeps.run("arms=half", "cluster.options.partition=batch")
    finally:
        os.umask(before)
    assert ended.returncode == 0, ended.stderr
    sweeps.check(1)
    assert not [path for path in (sweeps.outputs / "studies").rglob("*") if _others_can_write(path)]


def _others_can_write(path: Path) -> bool:
    return not path.is_symlink() and bool(path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))
