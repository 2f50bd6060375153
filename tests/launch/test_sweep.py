from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from harness import processes
from harness.launch.job import Job

PATIENCE_S = 180.0


def test_a_third_partys_trainer_policy_benchmark_and_reward_are_swept_without_an_edit_here(finished):
    plan = finished.plan()
    assert [cell["arm"] for cell in plan["cells"]] == ["baseline", "half", "full"]
    assert plan["study"]["categories"] == ["bright", "dark"]
    assert plan["study"]["baseline"] == "baseline"
    assert "arms" not in plan["study"]
    assert finished.states() == {"baseline": "done", "half": "done", "full": "done"}
    assert [stage["name"] for stage in plan["cells"][2]["stages"]] == [
        "base",
        "warm",
        "climb",
        "samples",
        "scores",
    ]
    means = {arm: _mean_bright(finished.scores(arm)) for arm in ("baseline", "half", "full")}
    assert means["baseline"] < means["half"] < means["full"]


def _mean_bright(scores: str) -> float:
    values = [row["value"] for row in map(json.loads, scores.splitlines()) if row["category"] == "bright"]
    return sum(values) / len(values)


def test_equal_stages_are_made_once(finished):
    assert len({finished.stage(arm, "warm") for arm in ("baseline", "half", "full")}) == 1
    names = [folder.name.rpartition("-")[0] for folder in (finished.outputs / "stages").iterdir()]
    assert sorted(names) == sorted(["base", "warm", "climb", "climb", *["samples"] * 3, *["scores"] * 3])


def test_stage_record_says_what_it_is_made_from(finished):
    record = json.loads((finished.stage("full", "climb") / "stage.json").read_text())
    assert record["program"] == "toy_parts.train"
    assert record["settings"]["gain"] == 0.5
    assert record["inputs"] == {"start": finished.stage("full", "warm").name.rpartition("-")[2]}
    assert record["seconds"] >= 0 and record["peak_mb"] > 5 and len(record["attempts"]) == 1
    assert record["threads"] == 1
    assert record["versions"]["python"] and record["hardware"]


def test_second_run_makes_nothing_and_changing_resources_neither(finished):
    before = {path: path.stat().st_mtime_ns for path in (finished.outputs / "stages").rglob("*")}
    again = finished.run("resources.threads=2", "resources.memory_gb=8")
    assert again.returncode == 0
    assert "running" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (finished.outputs / "stages").rglob("*")} == before


def test_an_added_arm_and_chosen_arms_and_seeds(finished):
    ended = finished.run(
        "study.name=mine", "arm.mine=rewards.components.glow.gain=0.75", "arms=mine,baseline", "seed=0,3"
    )
    assert ended.returncode == 0, ended.stderr
    cells = finished.plan("mine")["cells"]
    assert [(cell["arm"], cell["seed"]) for cell in cells] == [
        ("mine", 0),
        ("mine", 3),
        ("baseline", 0),
        ("baseline", 3),
    ]
    assert len({cell["id"] for cell in cells}) == 4
    shared = {next(stage["key"] for stage in cell["stages"] if stage["name"] == "warm") for cell in cells}
    assert len(shared) == 1


def test_a_failing_arm_stops_no_other_and_says_why(sweeps):
    ended = sweeps.run("arm.bad=trainers.fault=raise", "arms=baseline,bad,half")
    assert ended.returncode == 1
    assert sweeps.states() == {"baseline": "done", "bad": "failed", "half": "done"}
    assert sweeps.status("bad")["error"].endswith("RuntimeError: the toy was told to fail")
    assert "the toy was told to fail" in ended.stderr


def test_a_failing_shared_stage_fails_its_cells_with_the_reason(sweeps):
    ended = sweeps.run("policies.start=1", "trainers._target_=toy_parts.BrokenWarm", "arms=half,full")
    assert ended.returncode == 1
    assert sweeps.states() == {"half": "failed", "full": "failed"}
    assert "no such animal" in sweeps.status("half")["error"]


def test_a_killed_job_is_lost_others_go_on_and_the_next_run_resumes_it(sweeps):
    words = ("arm.mine=trainers.fault=kill-once", "arms=mine,full")
    ended = sweeps.run(*words)
    assert ended.returncode == 1
    assert sweeps.states() == {"mine": "lost", "full": "done"}
    assert "exited without reporting a result (killed" in sweeps.status("mine")["error"]
    assert sweeps.run(*words).returncode == 0
    assert sweeps.states() == {"mine": "done", "full": "done"}
    assert sweeps.scores("mine") == sweeps.scores("full")
    climb = sweeps.stage("mine", "climb")
    assert (climb / "metrics.jsonl").read_text() == (
        sweeps.stage("full", "climb") / "metrics.jsonl"
    ).read_text()
    assert len(json.loads((climb / "stage.json").read_text())["attempts"]) == 2


def test_a_killed_sweep_takes_its_jobs_along_and_the_same_command_ends_with_the_same_numbers(
    sweeps, finished
):
    words = ("trainers.pause_s=0.1", "arms=half,full")
    first = sweeps.start(*words)
    sweeps.until(
        lambda: len((_part(sweeps.stage("half", "climb")) / "metrics.jsonl").read_text().splitlines()) >= 3
    )
    sweeps.hold.touch()
    job = sweeps.status("half")["pid"]
    first.kill()
    sweeps.until(lambda: not processes.is_alive(job))
    assert sweeps.status("half")["state"] == "running" and not sweeps.stage("half", "climb").exists()
    sweeps.hold.unlink()
    assert sweeps.run(*words).returncode == 0
    for arm in ("half", "full"):
        assert sweeps.scores(arm) == finished.scores(arm)


def _part(stage: Path) -> Path:
    return stage.with_name(stage.name + ".part")


@pytest.mark.parametrize(
    ("inherited", "sent"),
    [
        (signal.SIG_DFL, signal.SIGINT),
        (signal.SIG_IGN, signal.SIGINT),
        (signal.SIG_DFL, signal.SIGTERM),
    ],
    ids=["ctrl-c", "ctrl-c in the background", "terminated"],
)
def test_ctrl_c_stops_the_jobs_and_says_how_to_resume(sweeps, inherited, sent):
    sweeps.hold.touch()
    first = sweeps.start("trainers.steps=9", "arms=full", sigint=inherited)
    sweeps.until(lambda: (sweeps.status("full")["step"] or 0) >= 1)
    job = sweeps.status("full")["pid"]
    first.send_signal(sent)
    _, errors = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130
    assert "run again" in errors and "trainers.steps=9" in errors
    assert "Traceback" not in errors
    assert sweeps.status("full")["state"] == "stopped"
    assert not processes.is_alive(job)


def test_after_ctrl_c_cells_that_were_never_started_are_still_planned(sweeps):
    """Both cells wait for the stage that they share."""
    sweeps.hold.touch()
    first = sweeps.start("arms=half,full")
    studies = sweeps.outputs / "studies"
    sweeps.until(lambda: any((_status(path)["step"] or 0) >= 1 for path in studies.glob("toy/shared/*")))
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130
    assert [_status(path)["state"] for path in studies.glob("toy/shared/*")] == ["stopped"]
    assert sweeps.states() == {"half": "planned", "full": "planned"}


def _status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_the_same_study_twice_is_refused_and_another_study_waits_for_the_stage_it_shares(sweeps):
    sweeps.hold.touch()
    first = sweeps.start("arms=full")
    sweeps.until(lambda: (sweeps.status("full")["step"] or 0) >= 1)
    twice = sweeps.run("arms=full")
    assert twice.returncode == 2
    assert f"process {first.pid} on" in twice.stderr and "since" in twice.stderr
    other = sweeps.start("arms=full", "study.name=other")
    sweeps.until(lambda: sweeps.status("full", "other")["state"] == "waiting")
    assert str(sweeps.status("full")["pid"]) in sweeps.status("full", "other")["waits_for"]
    sweeps.hold.unlink()
    assert first.wait(PATIENCE_S) == 0 and other.wait(PATIENCE_S) == 0
    record = json.loads((sweeps.stage("full", "climb") / "stage.json").read_text())
    assert len(record["attempts"]) == 1
    assert sweeps.scores("full") == sweeps.scores("full", "other")


def test_a_damaged_stage_is_refused_before_anything_runs(copied):
    scores = copied.stage("full", "scores") / "scores.jsonl"
    scores.write_text(scores.read_text()[:100])
    again = copied.run("arms=full")
    assert again.returncode == 2
    assert f"error: {scores} is damaged" in again.stderr and "delete the folder" in again.stderr


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("", "give a folder"), ("file", "cannot write the report"), ("mine", "is not a report")],
)
def test_a_place_where_no_report_can_go_is_refused_before_anything_runs(sweeps, tmp_path, folder, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "mine" / "toy").mkdir(parents=True)
    (tmp_path / "mine" / "toy" / "diary.txt").write_text("dear diary")
    ended = sweeps.run("arms=full", f"reports_dir={tmp_path / folder if folder else ''}")
    assert ended.returncode == 2
    assert reason in ended.stderr
    assert not sweeps.outputs.exists()


def test_an_edit_of_the_source_between_plan_and_start_is_noticed(sweeps):
    assert sweeps.run("arms=baseline").returncode == 0
    (cell,) = sweeps.plan()["cells"]
    spec = sweeps.outputs / "studies" / "toy" / cell["folder"] / "stages.json"
    planned = json.loads(spec.read_text())
    planned["stages"][0]["settings"]["start"] = 0.7
    spec.write_text(json.dumps(planned))
    with pytest.raises(SystemExit, match="1"):
        Job(sweep=None)([str(spec.parent)])
    assert "changed since the study was planned" in sweeps.status("baseline")["error"]
