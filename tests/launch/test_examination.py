"""What the doctor finds out of a Slurm site, with fakes of Slurm's commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import doctor
from harness.launch import examination, site
from harness.launch.slurm import Slurm

CONFIG = "Configuration data\nJobRequeue              = 0\nMaxArraySize            = 5\n{more}"


def lines(outputs: Path, account: str | None = None, **options: object) -> str:
    chosen = Slurm(threads=1, shared_threads=1, memory_gb=2, timeout_min=5, options=options)
    return "\n".join(examination.from_here(chosen, outputs, "gpu", account))


def offer(slurm: Path, name: str, text: str) -> None:
    (slurm / name).write_text(f"#!/bin/sh\n{text}\n")
    (slurm / name).chmod(0o755)


def test_it_says_what_a_login_node_can_know(slurm, tmp_path):
    (slurm / "config").write_text(CONFIG.format(more="PreemptMode             = CANCEL\nKillWait  = 5 sec\n"))
    offer(slurm, "sinfo", 'echo "gpu|up|1-00:00:00|4|64|500000|gpu:a100:4"')
    offer(slurm, "sacctmgr", 'echo "lab|gpu|normal|100|10"; echo "other||||"')
    said = lines(tmp_path / "outputs", "lab")
    assert said.startswith(
        "Slurm 22.05.8\nJobRequeue=0, PreemptMode=CANCEL, KillWait=5 sec, MaxArraySize=5\n"
    )
    assert "partition gpu (up): nodes: 4, of 64 cores, 500000 MB, gpu:a100:4; time limit 1-00:00:00" in said
    assert "lab|gpu|normal|100|10" in said and "other" not in said
    assert "does not queue them again" in said and "5 s after it asked it to end" in said
    assert "Slurm would run a cell's job" in said
    assert f"{tmp_path} can be written, renames, and has file locks" in said
    assert not (tmp_path / "outputs").exists() and not list(tmp_path.glob(".doctor-*"))


def test_what_slurm_does_not_say_is_named_as_not_known(slurm, tmp_path):
    assert "not known: the controller does not answer" in lines(tmp_path)
    (slurm / "config").write_text(CONFIG.format(more=""))
    site.settings.cache_clear()
    offer(slurm, "sinfo", "exit 1")
    offer(slurm, "sacctmgr", "exit 1")
    said = lines(tmp_path)
    assert "sinfo lists no node of the partition gpu" in said
    assert "not known: limits of your default account" in said


def test_a_job_that_could_never_run_is_said_in_slurms_words(slurm, tmp_path):
    (slurm / "config").write_text(CONFIG.format(more=""))
    (slurm / "never").write_text("sbatch: error: invalid partition specified: gpu\n")
    said = lines(tmp_path, partition="gpu")
    assert "Slurm would never run a cell's job: invalid partition specified: gpu" in said


def test_a_job_looks_from_a_node(slurm, tmp_path):
    chosen = Slurm(threads=1, shared_threads=1, memory_gb=2, timeout_min=5)
    said = list(examination.from_node(chosen, tmp_path / "outputs"))
    assert said[0] == "job 4242 looks from a node"
    assert "it ran on" in said[1] and "GPUs there:" in said[2]
    assert said[-1] == "it sees the file lock of this machine: flock is shared"
    assert not list((tmp_path / "outputs").iterdir())


def test_a_job_that_ends_without_an_answer_is_shown_with_the_end_of_its_log(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "LOOK_EVERY_S", 0.0)
    offer(slurm, "srun", "exit 127")
    (slurm / "job").write_text("JobId=4242 JobState=FAILED ExitCode=127:0 RunTime=00:00:01")
    chosen = Slurm(threads=1, shared_threads=1, memory_gb=2, timeout_min=5)
    with pytest.raises(ValueError, match=r"job 4242 ended with exit code 127\. It wrote no log"):
        list(examination.from_node(chosen, tmp_path / "outputs"))


def test_looking_from_a_node_needs_slurm(capsys):
    assert doctor.main(["preset=smoke", "--on-cluster"]) == 2
    assert "add cluster=slurm" in capsys.readouterr().err


def test_the_job_writes_what_it_sees(tmp_path):
    (tmp_path / "lock").touch()
    examination.look([str(tmp_path)])
    found = json.loads((tmp_path / "look.json").read_text())
    assert found["flock"] is False and found["missing"] == [] and found["cores"] >= 1
