"""`cluster=slurm` against recorded fakes of Slurm's commands: `sbatch` keeps the script and runs it here."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from submitit import AutoExecutor
from submitit.core.utils import FailedJobError

from harness.launch import run
from harness.launch.cluster import NotNow
from harness.launch.job import Job
from harness.launch.slurm import Slurm, SlurmHandle
from harness.stages.status import Status, read_status, write_status


def test_a_study_runs_through_sbatch(slurm, sweeps, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "99")  # as if the sweep itself ran within a job
    words = [
        "cluster=slurm",
        "cluster.options.partition=gpu",
        "resources.gpus=1",
        "resources.timeout_min=90",
        "resources.threads=3",
    ]
    words += ["resources.processes=2", "+cluster.options.reservation=maintenance"]
    ended = sweeps.run("arms=baseline,half", *words)
    assert ended.returncode == 0, ended.stderr
    assert sweeps.states() == {"baseline": "done", "half": "done"}
    assert sweeps.status("half")["job"] in {"4243", "4244"}
    scripts = sorted(slurm.glob("job-*.sh"))
    assert len(scripts) == 3  # the shared stage, then two cells
    script = scripts[-1].read_text()
    for line in (
        "--cpus-per-task=6",
        "--time=90",
        "--gpus-per-node=2",
        "--mem=4GB",
        "--partition=gpu",
        "--reservation=maintenance",
        "--nodes=1",
        "--signal=USR2@90",
    ):
        assert f"#SBATCH {line}" in script
    environment = dict(line.partition("=")[::2] for line in (slurm / "env-4244").read_text().splitlines())
    assert "SLURM_NTASKS" not in environment
    assert environment["OMP_NUM_THREADS"] == "3" and environment["PYTHONSAFEPATH"] == "1"
    code = sweeps.outputs / "studies" / "toy" / "code"
    assert Path(environment["PYTHONPATH"].split(os.pathsep)[0]).parent == code and not code.exists()
    record = json.loads((sweeps.stage("half", "scores") / "stage.json").read_text())
    assert environment["PYTHONPATH"].startswith(f"{code}/{record['code']}{os.pathsep}")


def test_options_are_refused_before_anything_is_submitted(slurm, sweeps):
    for word, said in (
        ("cluster.options.time=86400", "Write '24:00:00' in quotes"),
        ("cluster.options.nodes=2", "one task on one node"),
        ("resources.timeout_min=86400", "Write '24:00:00' in quotes"),
    ):
        ended = sweeps.run("arms=baseline", "cluster=slurm", f"++{word}")
        assert ended.returncode == 2 and said in ended.stderr and "Traceback" not in ended.stderr
    assert not list(slurm.glob("job-*.sh"))


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"timeout_min": "24:00:00"}, ["--time=1440", "--mem=2GB"]),
        ({"options": {"time": "2-12:00:00", "mem": "0"}}, ["--time=3600", "--mem=0"]),
        ({"options": {"mem-per-cpu": "4G"}}, ["--mem-per-cpu=4G"]),
        ({"options": {"requeue": True, "exclusive": "user"}}, ["--requeue", "--exclusive=user"]),
        ({"options": {"additional_parameters": {"begin": "16:00"}}}, ["--begin=16:00"]),
        ({"options": {"brand_new": 7, "hold": False, "partition": None}}, ["--brand-new=7"]),
        ({"options": {"setup": ["module load cuda"]}}, []),
    ],
)
def test_options_reach_the_script_as_they_are_written(slurm, tmp_path, settings, lines):
    chosen = Slurm(**{"threads": 1, "shared_threads": 1, "memory_gb": 2, "timeout_min": 5, **settings})
    executor = AutoExecutor(folder=tmp_path, cluster="slurm")
    executor.update_parameters(**chosen._parameters)
    script = executor._executor._make_submission_file_text("python job.py", "x")
    for line in lines:
        assert f"#SBATCH {line}\n" in script
    assert script.count("--mem") == 1 and script.count("--time=") == 1
    assert "hold" not in script and "partition" not in script
    assert ("module load cuda\n" in script) == ("setup" in settings.get("options", {}))
    assert (chosen.host_gb is None) == any("mem" in name for name in settings.get("options", {}))


def _is_over_when_asked_again(handle: SlurmHandle) -> bool:
    time.sleep(0.001)
    return handle.is_over()


def test_a_job_that_slurm_twice_does_not_list_is_over(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.launch.slurm.ASK_EVERY_S", 0.0)
    write_status(tmp_path, Status(state="running"))
    handle = SlurmHandle("7", tmp_path)
    assert not _is_over_when_asked_again(handle)
    (slurm / "squeue").write_text(
        "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n"
    )
    assert not _is_over_when_asked_again(handle)
    assert _is_over_when_asked_again(handle)


def test_where_slurm_cannot_be_asked_a_job_is_over_when_it_gives_no_sign_of_life(
    slurm, tmp_path, monkeypatch
):
    monkeypatch.setattr("harness.launch.slurm.ASK_EVERY_S", 0.0)
    (slurm / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    write_status(tmp_path, Status(state="running", host="node7", pid=1))
    handle = SlurmHandle("7", tmp_path)
    assert not _is_over_when_asked_again(handle) and not _is_over_when_asked_again(handle)
    os.utime(tmp_path / "status.json", (0, 0))
    assert not _is_over_when_asked_again(handle)
    assert _is_over_when_asked_again(handle)


def test_a_job_is_over_when_its_status_says_so(slurm, tmp_path):
    write_status(tmp_path, Status(state="failed"))
    assert SlurmHandle("7", tmp_path).is_over()


def test_a_cluster_without_slurm_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="cluster=local"):
        Slurm(threads=1, shared_threads=1, memory_gb=1, timeout_min=1)


def test_a_requeued_job_starts_with_the_same_arguments():
    """Submitit asks the function what to queue again: itself, since all progress is on disk."""
    job = Job(sweep=None)
    again = job.checkpoint("folder")
    assert again.function is job and again.args == ("folder",)


BUSY = """if [ $(ls "$FAKE_SLURM"/busy-* 2>/dev/null | wc -l) -lt {times} ]; then
touch "$FAKE_SLURM/busy-$(date +%N)"; echo "sbatch: error: Batch job submission failed: {says}" >&2; exit 1
fi
"""


def refuse(slurm, times, says):
    """Makes `sbatch` refuse the first `times` submissions."""
    first, rest = (slurm / "sbatch").read_text().split("\n", 1)
    (slurm / "sbatch").write_text(f"{first}\n{BUSY.format(times=times, says=says)}{rest}")


@pytest.mark.parametrize(
    "says",
    [
        "Socket timed out on send/recv operation",
        "Unable to contact slurm controller (connect failure)",
        "Resource temporarily unavailable",
        "Slurm temporarily unable to accept job, sleeping and retrying",
        "Zero Bytes were transmitted or received",
    ],
)
def test_a_refusal_that_passes_is_tried_again_after_a_pause(slurm, tmp_path, monkeypatch, says):
    monkeypatch.setattr("harness.launch.slurm.PAUSES_S", (0.2, 0.0))
    refuse(slurm, 2, says)
    cluster = Slurm(threads=1, shared_threads=1, memory_gb=1, timeout_min=1)
    task = SimpleNamespace(name="full", folder=tmp_path / "cell", shared=False, needs=(), code=None)
    task.folder.mkdir()
    write_status(task.folder, Status())
    running = {}
    tasks = [task]
    paused = False
    while tasks:
        tasks = run._start(tasks, running, cluster, {"full": task.folder})
        paused = paused or (bool(tasks) and not cluster.has_room(task))
    assert paused and read_status(task.folder).state == "planned"
    assert running["full"].id == "4242"
    assert len(list(slurm.glob("busy-*"))) == 2


def test_a_refusal_that_passes_is_final_after_the_last_pause(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.launch.slurm.PAUSES_S", (0.0, 0.0))
    refuse(slurm, 99, "Socket timed out on send/recv operation")
    cluster = Slurm(threads=1, shared_threads=1, memory_gb=1, timeout_min=1)
    task = SimpleNamespace(name="full", folder=tmp_path / "cell", shared=False, needs=(), code=None)
    for _ in range(2):
        with pytest.raises(NotNow, match=r"Socket timed out.*tried again in 0 s"):
            cluster.submit(task)
    with pytest.raises(FailedJobError, match="Socket timed out"):
        cluster.submit(task)


@pytest.mark.parametrize(
    "says",
    [
        "Invalid account or account/partition combination specified",
        "Invalid partition name specified",
        "Requested node configuration is not available",
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    ],
)
def test_a_refusal_that_lasts_is_final_at_once(slurm, tmp_path, says):
    refuse(slurm, 99, says)
    cluster = Slurm(threads=1, shared_threads=1, memory_gb=1, timeout_min=1)
    task = SimpleNamespace(name="full", folder=tmp_path, shared=False, needs=(), code=None)
    assert run._start([task], {}, cluster, {}) == []
    assert read_status(tmp_path).state == "failed" and says in read_status(tmp_path).error
    assert len(list(slurm.glob("busy-*"))) == 1
