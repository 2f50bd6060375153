"""`cluster=slurm` against fakes of Slurm's commands: `sbatch` keeps the script and runs it here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from submitit.core.utils import FailedJobError

from harness import cancel, status
from harness.launch import jobs, record, site
from harness.launch.cluster import Home, NotNow
from harness.launch.handle import SlurmHandle
from harness.launch.record import Submission
from harness.launch.slurm import Slurm
from harness.stages import locks
from harness.stages.keys import key
from harness.stages.status import Status, read_status
from harness.study.tasks import Task
from harness.types import Stage
from tests.launch.conftest import SBATCH, listed


def cluster(**settings):
    return Slurm(**{"threads": 1, "shared_threads": 1, "memory_gb": 2, "timeout_min": 5, **settings})


@dataclass
class Given:
    """Tasks of a study, and where it lies."""

    home: Home
    tasks: list[Task]

    def start(self, chosen: Slurm) -> tuple[list[Task], dict[str, SlurmHandle]]:
        running: dict[str, SlurmHandle] = {}
        folders = {task.name: task.folder for task in self.tasks}
        return jobs._start(self.tasks, running, chosen, folders, self.home), running


@pytest.fixture
def planned(tmp_path):
    """Makes a study of `cells` tasks that need one shared task; none of them is a real job."""

    def make(cells: int) -> Given:
        study = tmp_path / "outputs" / "studies" / "toy"
        stage = Stage(name="warm", program="json.dumps", settings={})
        tasks = [Task(name="warm", folder=study / "shared" / "warm", stage=stage, shared=True)]
        for number in range(cells):
            stage = Stage(name="full", program="json.dumps", settings={"number": number})
            folder = study / "cells" / f"cell{number}"
            tasks.append(Task(name=f"cell{number}", folder=folder, stage=stage, needs=("warm",)))
        for task in tasks:
            task.folder.mkdir(parents=True)
        return Given(home=Home(study=study, code=tmp_path), tasks=tasks)

    return make


def test_a_study_runs_through_two_calls_of_sbatch(slurm, sweeps, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "99")  # as if the sweep itself ran within a job
    words = [
        "cluster=slurm",
        "cluster.options.partition=gpu",
        "resources.gpus=1",
        "resources.timeout_min=90",
        "resources.threads=3",
        "cluster.max_jobs=2",
        "+cluster.options.reservation=maintenance",
    ]
    ended = sweeps.run(*words)
    assert ended.returncode == 0, ended.stderr
    assert set(sweeps.states().values()) == {"done"}
    assert sweeps.status("half")["job"] == "4243_1"
    shared, arms = (script.read_text() for script in sorted(slurm.glob("job-*.sh")))
    for line in (
        "--cpus-per-task=3",
        "--time=90",
        "--gpus-per-node=1",
        "--mem=4GB",
        "--partition=gpu",
        "--reservation=maintenance",
        "--nodes=1",
        "--requeue",
        "--signal=USR2@90",
    ):
        assert f"#SBATCH {line}\n" in arms and (f"#SBATCH {line}\n" in shared or "cpus" in line)
    assert "#SBATCH --array=0-2%2\n" in arms and "--array" not in shared
    assert "#SBATCH --dependency=afterok:4242\n#SBATCH" in arms and "--kill-on-invalid-dep=yes" in arms
    assert "--dependency" not in shared
    environment = dict(line.partition("=")[::2] for line in (slurm / "env-4243").read_text().splitlines())
    assert "SLURM_NTASKS" not in environment
    assert environment["OMP_NUM_THREADS"] == "3" and environment["PYTHONSAFEPATH"] == "1"
    code = sweeps.outputs / "studies" / "toy" / "code"
    made_with = json.loads((sweeps.stage("half", "scores") / "stage.json").read_text())["code"]
    assert environment["PYTHONPATH"].startswith(f"{code}/{made_with}{os.pathsep}") and not code.exists()
    code = sweeps.outputs / "studies" / "toy" / "code"
    assert Path(environment["PYTHONPATH"].split(os.pathsep)[0]).parent == code and not code.exists()
    record = json.loads((sweeps.stage("half", "scores") / "stage.json").read_text())
    assert environment["PYTHONPATH"].startswith(f"{code}/{record['code']}{os.pathsep}")


def test_a_dry_run_prints_the_scripts_and_writes_nothing(slurm, sweeps):
    ended = sweeps.run("cluster=slurm", "cluster.dry_run=true")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("#!/bin/bash") == 2 and "#   2: full-s0-" in ended.stdout
    assert "--dependency=afterok:JOB_OF_warm-" in ended.stdout
    assert not sweeps.outputs.exists() and not list(slurm.glob("job-*.sh"))


def test_all_mistakes_in_options_are_named_at_once_before_anything_is_submitted(slurm, sweeps):
    words = (
        ("cluster.options.time=86400", "Write '24:00:00' in quotes"),
        ("cluster.options.nodes=2", "Set resources.nodes instead"),
        ("cluster.options.reservatoin=x", "Did you mean reservation?"),
        ("resources.timeout_min=86400", "Write '24:00:00' in quotes"),
        ("resources.memory_gb=0", "resources.memory_gb=0"),
    )
    ended = sweeps.run("arms=baseline", "cluster=slurm", *(f"++{word}" for word, _ in words))
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    for word, said in words:
        assert word.partition("=")[0] in ended.stderr and said in ended.stderr
    assert not list(slurm.glob("job-*.sh")) and not sweeps.outputs.exists()


def test_a_job_that_slurm_would_never_run_is_refused_before_anything_is_written(slurm, sweeps):
    (slurm / "never").write_text("sbatch: error: invalid partition specified: gpu\nallocation failure: no\n")
    ended = sweeps.run("cluster=slurm")
    assert ended.returncode == 2
    assert "Slurm would never run these jobs" in ended.stderr
    assert "for the job of a shared stage: invalid partition specified: gpu" in ended.stderr
    assert not sweeps.outputs.exists()


def test_an_sbatch_that_says_no_version_is_not_asked_for_a_test(slurm, planned):
    (slurm / "sbatch").write_text("#!/bin/sh\necho $@ >> $FAKE_SLURM/calls\n")
    site.version.cache_clear()
    cluster().check(planned(1).tasks, Path("study"))
    assert (slurm / "calls").read_text() == "--version\n"


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
def test_options_reach_the_script_as_they_are_written(slurm, planned, tmp_path, settings, lines):
    chosen = cluster(**settings)
    script = chosen.show(planned(1).tasks[:1], tmp_path)
    for line in lines:
        assert f"#SBATCH {line}\n" in script
    assert script.count("--mem") == 1 and script.count("--time=") == 1
    assert "hold" not in script and "partition" not in script
    assert ("module load cuda\n" in script) == ("setup" in settings.get("options", {}))
    assert (chosen.host_gb is None) == any("mem" in name for name in settings.get("options", {}))


def test_several_processes_and_nodes_are_tasks_of_srun(slurm, planned, tmp_path):
    script = cluster(nodes=2, processes=4, gpus=1, threads=6).show(planned(1).tasks[1:], tmp_path)
    for line in ("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=6"):
        assert f"#SBATCH {line}\n" in script
    assert "--kill-on-bad-exit=1" in script


def test_a_cluster_without_slurm_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="cluster=local"):
        cluster()


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
def test_a_refusal_that_passes_is_tried_again_after_a_pause(slurm, planned, monkeypatch, says):
    monkeypatch.setattr("harness.launch.slurm.PAUSES_S", (0.2, 0.0))
    refuse(slurm, 2, says)
    study, chosen = planned(0), cluster()
    waiting, running = study.start(chosen)
    assert waiting == study.tasks and not chosen.startable(waiting, running)
    assert read_status(study.tasks[0].folder).state == "planned"
    while waiting:
        waiting, running = study.start(chosen)
    assert running["warm"].id == "4242"
    assert len(list(slurm.glob("busy-*"))) == 2


def test_a_refusal_that_passes_is_final_after_the_last_pause(slurm, planned, monkeypatch):
    monkeypatch.setattr("harness.launch.slurm.PAUSES_S", (0.0, 0.0))
    refuse(slurm, 99, "Socket timed out on send/recv operation")
    study, chosen = planned(0), cluster()
    for _ in range(2):
        with pytest.raises(NotNow, match=r"Socket timed out.*tried again in 0 s"):
            chosen.submit(study.tasks, {}, study.home)
    with pytest.raises(FailedJobError, match="Socket timed out"):
        chosen.submit(study.tasks, {}, study.home)


@pytest.mark.parametrize(
    "says",
    [
        "Invalid account or account/partition combination specified",
        "Invalid partition name specified",
        "Requested node configuration is not available",
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    ],
)
def test_a_refusal_that_lasts_is_final_at_once(slurm, planned, says):
    refuse(slurm, 99, says)
    study = planned(0)
    assert study.start(cluster()) == ([], {})
    failed = read_status(study.tasks[0].folder)
    assert failed.state == "failed" and says in (failed.error or "")
    assert len(list(slurm.glob("busy-*"))) == 1


def test_where_a_site_takes_no_arrays_every_job_is_submitted_alone(slurm, planned):
    refusal = 'grep -q "#SBATCH --array" "$script" && { echo "Invalid job array specification" >&2; exit 1; }'
    (slurm / "sbatch").write_text(SBATCH.replace("id=$((", f"{refusal}\nid=$((", 1))
    waiting, running = planned(3).start(cluster())
    assert not waiting and [handle.id for handle in running.values()] == ["4242", "4243", "4244", "4245"]


def test_a_limit_of_submitted_jobs_makes_smaller_arrays_and_then_waits(slurm, planned, monkeypatch):
    monkeypatch.setattr("harness.launch.slurm.LIMIT_PAUSE_S", 0.0)
    limited = (
        'if [ ${last:-0} -gt 1 ] || [ -f "$FAKE_SLURM/full" -a -n "$last" ]; then rm -f "$FAKE_SLURM/full"; '
        "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1; fi\nfor task in"
    )
    text = SBATCH.replace('cp "$script"', ": # ", 1).replace("for task in", limited, 1)
    text = text.replace('env > "$FAKE_SLURM/env-$id"', "", 1)
    (slurm / "sbatch").write_text(
        text.replace('echo "Submitted', 'cp "$script" "$FAKE_SLURM/job-$id.sh"; echo "Submitted')
    )
    listed(slurm, "1")
    (slurm / "full").touch()
    waiting, running = planned(4).start(cluster())
    assert not waiting
    ids = [handle.id for handle in running.values()]
    assert ids == ["4242", "4243_0", "4243_1", "4244_0", "4244_1"]


def test_an_array_is_never_larger_than_the_site_allows(slurm, planned):
    (slurm / "config").write_text("Configuration data\nMaxArraySize            = 3\nJobRequeue = 1\n")
    waiting, running = planned(3).start(cluster())
    assert not waiting and [handle.id for handle in running.values()] == ["4242", "4243_0", "4243_1", "4244"]


def test_an_sbatch_that_timed_out_but_was_obeyed_is_not_called_again(slurm, planned, monkeypatch):
    monkeypatch.setattr("harness.launch.slurm.PAUSES_S", (0.0,))
    obeyed = 'echo "77|PENDING|Priority|$script" > "$FAKE_SLURM/queue"'
    lost = f"{obeyed}; echo 'Socket timed out' >&2; exit 1\nid=$(("
    (slurm / "sbatch").write_text(SBATCH.replace("id=$((", lost, 1))
    study = planned(0)
    waiting, running = study.start(cluster())
    assert not waiting and running["warm"].id == "77"
    (folder,) = (study.home.study / "jobs").iterdir()
    assert (folder / "77_submitted.pkl").is_file()
    (submission,) = record.read(study.home.study)
    assert submission.job == "77"


def recorded(study: Given, *submissions: Submission) -> None:
    for one in submissions:
        record.folder_of(study.home.study, one.token).mkdir(parents=True)
        record.append(study.home.study, one)


def test_live_jobs_of_an_earlier_sweep_are_adopted_and_those_of_an_earlier_plan_cancelled(slurm, planned):
    study = planned(2)
    keys = [key(task.stage) for task in study.tasks]
    recorded(
        study,
        Submission(token="a", tasks=("warm",), keys=(keys[0],), job="5"),
        Submission(token="b", tasks=("cell0", "cell1"), keys=("another key!", keys[2]), job="6"),
    )
    listed(slurm, "6_0", "6_1", "99")
    adopted = cluster().adopt(study.tasks, study.home)
    assert {name: handle.id for name, handle in adopted.items()} == {"cell1": "6_1"}
    assert (slurm / "cancelled").read_text() == "6_0\n"


def test_where_slurm_gives_no_answer_nothing_is_submitted_beside_jobs_that_may_live(slurm, planned):
    study = planned(1)
    chosen = cluster()
    assert chosen.adopt(study.tasks, study.home) == {}
    recorded(study, Submission(token="a", tasks=("warm",), keys=("k",), job="5"))
    (slurm / "squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(NotNow, match="squeue gives no answer"):
        chosen.adopt(study.tasks, study.home)


def test_all_jobs_are_asked_for_with_one_squeue_twice_a_minute(slurm, planned):
    study, chosen = planned(30), cluster()
    _, running = study.start(chosen)
    for _ in range(5):
        for handle in running.values():
            handle.is_over()
            handle.seen(Status())
    assert len((slurm / "asked").read_text().splitlines()) == 1


def test_jobs_are_cancelled_with_one_scancel_also_one_whose_id_got_lost(slurm, planned):
    study, chosen = planned(3), cluster()
    _, running = study.start(chosen)
    recorded(study, Submission(token="token", tasks=("cell9",), keys=("k",)))
    listed(slurm, "50")
    assert chosen.cancel(running, study.home) == {}
    assert (slurm / "cancelled").read_text() == "4242 4243_0 4243_1 4243_2\n50\n"


def test_a_study_is_submitted_and_left_followed_and_cancelled(slurm, sweeps, capsys):
    sweeps.hold.touch()
    ended = sweeps.run("cluster=slurm", "cluster.wait=false")
    assert ended.returncode == 0, ended.stderr
    assert "submitted: 4 jobs" in ended.stdout and "python -m harness.cancel toy" in ended.stdout
    tokens = {one.job: one.token for one in record.read(sweeps.outputs / "studies" / "toy")}
    jobs = ["4242", "4243_0", "4243_1", "4243_2"]
    lines = [f"{job}|PENDING|Dependency|/x/{tokens[job.partition('_')[0]]}/a.sh\n" for job in jobs]
    (slurm / "queue").write_text("".join(lines))
    arguments = ["toy", "--outputs", str(sweeps.outputs)]
    assert status.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "0 of 3 cells done" in shown and "job 4243_2" in shown
    assert cancel.main(arguments) == 0
    assert (slurm / "cancelled").read_text() == f"{' '.join(jobs)}\n"
    assert set(sweeps.states().values()) <= {"stopped", "waiting", "running"}
    sweeps.hold.unlink()


def test_cancel_says_what_it_does_not_know(slurm, planned, capsys):
    study = planned(1)
    (study.home.study / "plan.json").write_text("damaged")
    recorded(study, Submission(token="token", tasks=("warm",), keys=("k",), job="5"))
    listed(slurm, "5")
    (slurm / "scancel").write_text("#!/bin/sh\nexit 1\n")
    arguments = ["toy", "--outputs", str(study.home.study.parents[1])]
    assert cancel.main(arguments) == 1
    assert "Try: scancel 5" in capsys.readouterr().err
    assert cancel.main(["other", *arguments[1:]]) == 2


def test_a_study_queues_behind_the_job_of_another_that_makes_what_it_needs(slurm, planned):
    study = planned(2)
    stages = study.home.study.parent.parent / "stages"
    stages.mkdir()
    warm = study.tasks[0].stage
    owner = replace(locks.me(), host="n7", job="70")
    (stages / f"warm-{key(warm)}.lock").write_text(json.dumps(asdict(owner)))
    listed(slurm, "70")
    study.start(cluster())
    assert "#SBATCH --dependency=afterany:70\n" in (slurm / "job-4242.sh").read_text()
    assert "#SBATCH --dependency=afterok:4242\n" in (slurm / "job-4243.sh").read_text()
