from __future__ import annotations

import dataclasses
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.launch import environment
from harness.launch.cluster import Home
from harness.launch.local import Local
from harness.stages import nvidia, provenance
from harness.study.tasks import Task
from harness.types import Stage

UUID = "GPU-8f0c3f7e-1111-2222-3333-444455556666"


class Running:
    """A job of a given size that ends when `over` is set."""

    def __init__(self, threads: int, *gpus: int) -> None:
        self.threads, self.gpus, self.over = threads, gpus, False

    def is_over(self) -> bool:
        return self.over


def _task(name: str = "x", **facts) -> Task:
    return Task(
        name=name, folder=Path("x"), stage=Stage(name="x", program="json.dumps", settings={}), **facts
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


SFT = _task("sft", shared=True, halves_gb=1.0)
CELLS = [_task(name, needs=("sft",)) for name in ("a", "b")]


def _started(local, task, *waiting) -> int:
    """The cores that a task gets that starts while the others wait."""
    assert local.startable([task, *waiting], {}) == [task]
    return local._need(task)


@pytest.mark.parametrize(
    ("cores", "waiting", "expected"),
    [
        (4, CELLS, 4),
        (3, CELLS, 2),
        (8, [*CELLS, _task("other", shared=True, halves_gb=1.0)], 4),
        (4, [*CELLS, _task("other", shared=True, halves_gb=1.0)], 2),
        (4, [*CELLS, _task("later", needs=("other",))], 2),
    ],
    ids=["alone", "no cores", "beside another", "instead of another", "before another"],
)
def test_a_task_gets_a_second_process_where_no_other_could_use_its_cores(
    monkeypatch, cores, waiting, expected
):
    assert _started(_local(monkeypatch, cores=cores), SFT, *waiting) == expected


def test_running_jobs_and_their_cores_count(monkeypatch):
    for threads, expected in ((1, 2), (0, 4)):
        local = _local(monkeypatch)
        local._running = [Running(threads)]
        assert _started(local, SFT, *CELLS) == expected


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (dataclasses.replace(SFT, halves_gb=None), {}),
        (dataclasses.replace(SFT, halves_gb=1e9), {}),
        (SFT, {"gpus": (0, 1)}),
    ],
    ids=["its numbers would change", "no memory", "on GPUs"],
)
def test_a_task_gets_no_second_process_that_would_do_harm(monkeypatch, task, settings):
    assert _started(_local(monkeypatch, **settings), task, *CELLS) == 2


def test_processes_that_the_user_gives_are_those_of_every_job(monkeypatch):
    assert _started(_local(monkeypatch, processes=2, cores=16), SFT, *CELLS) == 4
    lines = _local(monkeypatch).show([SFT, CELLS[0]], Path("x")).splitlines()
    assert lines == ["sft: 2 cores, twice as many while no other job needs them", "a: 1 cores"]


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


class Submitted(NamedTuple):
    """A submission that starts nothing."""

    job_id: str = "1"

    def done(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("variable", "lists", "expected"),
    [
        (f"{UUID},GPU-1", f"0, {UUID}\n1, GPU-1", [UUID, "GPU-1"]),
        ("GPU-8f0c", f"0, {UUID}", ["GPU-8f0c"]),
        ("MIG-1,MIG-2", f"0, {UUID}", ["MIG-1", "MIG-2"]),
        (" 1, 0", "0, A\n1, B", ["1", "0"]),
        (None, "0, A\n1, B", ["0", "1"]),
        ("-1", "0, A\n1, B", ["-1", "-1"]),
        (UUID, "No devices were found", [UUID, UUID]),
        (None, "No devices were found", ["", ""]),
        ("3", "[N/A]", ["3"]),
    ],
)
def test_jobs_get_the_gpus_by_the_names_of_the_users_variable(
    tmp_path, monkeypatch, variable, lists, expected
):
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\necho '{lists}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    monkeypatch.setattr(provenance, "gpus", provenance.gpus.__wrapped__)
    monkeypatch.setattr(provenance, "gpu_memory_gb", provenance.gpu_memory_gb.__wrapped__)
    seen = []
    monkeypatch.setattr(
        "submitit.local.local.start_controller", lambda **given: seen.append(given["cuda_devices"])
    )
    monkeypatch.setattr("harness.launch.local.LocalExecutor.submit", _submit_only)
    local = Local(threads=1, shared_threads=1, cores=2)
    task = dataclasses.replace(_task(), folder=tmp_path)
    while local.has_room(task) and len(seen) < 2:
        local.submit([task], {}, Home(study=tmp_path, code=tmp_path))
    assert seen == expected


def _submit_only(executor, *_):
    with suppress(AttributeError):  # there is no process
        executor._submit_command("")
    return Submitted()


def test_gpus_that_nobody_understands_are_refused_and_what_is_not_known_is_said(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "cuda:0")
    with pytest.raises(ValueError, match=r"CUDA_VISIBLE_DEVICES=cuda:0: 'cuda:0' is neither"):
        Local(threads=1, shared_threads=1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1,MIG-2")
    monkeypatch.setattr(nvidia, "_column", lambda field: nvidia.Column(values=None, problem="broken"))
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(provenance, "gpus", provenance.gpus.__wrapped__)
    local = Local(threads=1, shared_threads=1)
    assert local.gpu_gb is None and local.host_gb is None, "stages on GPUs do not need main memory"
    said = capsys.readouterr().err
    assert "warning: not known: broken" in said and "the memory of GPU MIG-1, MIG-2" in said
    with pytest.raises(ValueError, match=r"resources\.processes=2: CUDA shows one MIG slice"):
        Local(threads=1, shared_threads=1, processes=2)


def test_the_environment_of_jobs_is_in_place_only_while_they_are_submitted(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    for name in ("SBATCH_TIMELIMIT", "SBATCH_REQUEUE", "SRUN_CPUS_PER_TASK", "SALLOC_PARTITION"):
        monkeypatch.setenv(name, "5")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dict(os.environ)
    with environment.job_environment(3):
        assert {os.environ[name] for name in environment.THREAD_VARIABLES} == {"3"}
        assert "SLURM_JOB_ID" not in os.environ and "SUBMITIT_EXECUTOR" not in os.environ
        assert os.environ["SBATCH_ACCOUNT"] == "lab" and os.environ["SBATCH_EXPORT"] == "ALL"
        left = {name for name in os.environ if name.startswith(("SBATCH_", "SRUN_", "SALLOC_"))}
        assert left == {"SBATCH_ACCOUNT", "SBATCH_EXPORT"}
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
        places = os.environ["PYTHONPATH"].split(os.pathsep)
        assert places[0] == str(tmp_path.resolve())
        assert not any(
            place.endswith(f"python{sys.version_info.major}.{sys.version_info.minor}") for place in places
        )
    assert dict(os.environ) == before
    with environment.job_environment(1, tmp_path / "code"):
        places = os.environ["PYTHONPATH"].split(os.pathsep)
        assert places[:2] == [str(tmp_path / "code"), str(tmp_path.resolve())]


def test_several_nodes_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"resources\.nodes=2: .*resources\.nodes=1, or cluster=slurm"):
        Local(threads=1, shared_threads=1, nodes=2)
