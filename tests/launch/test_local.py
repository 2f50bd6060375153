from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.launch import environment
from harness.launch.local import Local
from harness.stages import provenance
from harness.study.tasks import Task
from harness.types import Stage


class Running:
    """A job of a given size that ends when `over` is set."""

    def __init__(self, threads: int, *gpus: int) -> None:
        self.threads, self.gpus, self.over = threads, gpus, False

    def is_over(self) -> bool:
        return self.over


def _task(*, shared: bool = False) -> Task:
    return Task(
        name="x", folder=Path("x"), stage=Stage(name="x", program="json.dumps", settings={}), shared=shared
    )


def _local(monkeypatch, *, gpus=(), **settings):
    monkeypatch.setattr(provenance, "gpus", lambda: tuple((index, "a GPU") for index in gpus))
    return Local(**{"threads": 1, "shared_threads": 2, "cores": 4, **settings})


def test_threads_of_all_jobs_never_exceed_the_cores(monkeypatch):
    local = _local(monkeypatch, threads=2)
    jobs = [Running(2)]
    local._running = jobs.copy()
    assert local.has_room(_task())
    local._running.append(Running(2))
    assert not local.has_room(_task())
    jobs[0].over = True
    assert local.has_room(_task())


def test_a_job_larger_than_the_machine_runs_alone(monkeypatch):
    local = _local(monkeypatch, threads=8)
    assert local.has_room(_task())
    local._running = [Running(1)]
    assert not local.has_room(_task())


def test_the_job_of_a_shared_stage_has_its_own_number_of_threads(monkeypatch):
    local = _local(monkeypatch, threads=1, shared_threads=4)
    local._running = [Running(1)]
    assert local.has_room(_task()) and not local.has_room(_task(shared=True))


def test_every_gpu_gets_one_job(monkeypatch):
    local = _local(monkeypatch, gpus=(0, 3), cores=16)
    local._running = [Running(1, 0)]
    assert local.has_room(_task()) and local._free_gpus() == [3]
    local._running.append(Running(1, 3))
    assert not local.has_room(_task())


def test_every_process_of_a_job_has_its_own_threads_and_gpu(monkeypatch):
    local = _local(monkeypatch, processes=2, threads=2, gpus=(0, 1, 2), cores=8)
    local._running = [Running(4)]
    assert local.has_room(_task())
    local._running = [Running(5)]
    assert not local.has_room(_task()), "two processes of two threads"
    local._running = [Running(1, 0)]
    assert local.has_room(_task()) and local._free_gpus() == [1, 2]
    local._running = [Running(1, 0, 2)]
    assert not local.has_room(_task())


def test_more_processes_than_gpus_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"resources\.processes=3: .* there are 2"):
        _local(monkeypatch, processes=3, gpus=(0, 1))
    _local(monkeypatch, processes=3)


@pytest.mark.parametrize("name", ["processes", "threads", "shared_threads"])
def test_no_threads_are_refused(monkeypatch, name):
    with pytest.raises(ValueError, match=rf"resources\.{name}=0"):
        _local(monkeypatch, **{name: 0})


def test_gpus_are_those_this_process_may_use(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\nprintf '0, NVIDIA H200\\n1, NVIDIA H200\\n'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert provenance.gpus.__wrapped__() == ((0, "NVIDIA H200"), (1, "NVIDIA H200"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert provenance.gpus.__wrapped__() == ((1, "NVIDIA H200"),)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert provenance.gpus.__wrapped__() == ()


def test_the_environment_of_jobs_is_in_place_only_while_they_are_submitted(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dict(os.environ)
    with environment.job_environment(3):
        assert {os.environ[name] for name in environment.THREAD_VARIABLES} == {"3"}
        assert "SLURM_JOB_ID" not in os.environ and "SUBMITIT_EXECUTOR" not in os.environ
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
        places = os.environ["PYTHONPATH"].split(os.pathsep)
        assert places[0] == str(tmp_path.resolve())
        assert not any(
            place.endswith(f"python{sys.version_info.major}.{sys.version_info.minor}") for place in places
        )
    assert dict(os.environ) == before
