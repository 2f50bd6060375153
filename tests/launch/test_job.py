"""A job refuses a stage that is not the planned one, and names what differs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from harness.launch.environment import job_environment
from harness.launch.job import Job, read_spec, write_spec
from harness.stages import sources, syntax
from harness.stages.process_group import VARIABLES, Place
from harness.stages.status import read_status
from harness.types import Stage


def _forget() -> None:
    """As a new process, which reads the sources again."""
    for cached in (sources.locate, sources._digest, sources._digests, sources._top_level, syntax.read_module):
        cached.cache_clear()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A plugin with a data file, an external file, and a folder for the job."""
    (tmp_path / "world_plugin" / "rubrics").mkdir(parents=True)
    plugin = tmp_path / "world_plugin"
    (plugin / "__init__.py").write_text("")
    (plugin / "judged.py").write_text(
        "DATA_FILES = ('rubrics/*.txt',)\ndef run(work, settings, inputs): ...\n"
    )
    (plugin / "rubrics" / "one.txt").write_text("How good?")
    (tmp_path / "weights").write_text("1 2 3")
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget()
    yield tmp_path
    sys.modules.pop("world_plugin", None)
    _forget()


def _plan(world: Path) -> Path:
    """The folder of a job whose stage reads another one; both run the plugin."""
    program, weights = "world_plugin.judged.run", str(world / "weights")
    first = Stage(name="sft", program=program, settings={"steps": 1, "start": weights}, external=(weights,))
    last = Stage(
        name="grpo",
        program=program,
        settings={"lora": {"rank": 8}},
        inputs={"start": first},
        parallel=4,
        halves=True,
    )
    write_spec(world / "job", world / "stages", last)
    _forget()
    assert read_spec(world / "job") == ((world / "stages").resolve(), last)
    return world / "job"


def _edit(job: Path, **settings: object) -> None:
    spec = json.loads((job / "stages.json").read_text())
    spec["stages"][-1]["settings"] |= settings
    (job / "stages.json").write_text(json.dumps(spec))


def _refusal(job: Path) -> str:
    _forget()
    with pytest.raises(ValueError) as refused:
        read_spec(job)
    return str(refused.value)


BEGIN = "the stage {} has changed since the study was planned: "
END = ". Run the same command again to plan the study with the files as they are now"


def test_another_source_file_is_named(world):
    job = _plan(world)
    (world / "world_plugin" / "judged.py").write_text("DATA_FILES = ('rubrics/*.txt',)\ndef run(): ...\n")
    assert _refusal(job) == BEGIN.format("sft") + "source file world_plugin/judged.py differs" + END


def test_another_data_file_is_named_and_a_log_beside_it_changes_nothing(world):
    job = _plan(world)
    (world / "world_plugin" / "training.log").write_text("step 1")
    _forget()
    read_spec(job)
    (world / "world_plugin" / "rubrics" / "two.txt").write_text("How bad?")
    assert "planned: source file world_plugin/rubrics/two.txt is new." in _refusal(job)


def test_another_external_file_is_named(world):
    job = _plan(world)
    (world / "weights").write_text("1 2 4")
    assert _refusal(job) == BEGIN.format("sft") + f"external file {world / 'weights'} differs" + END


def test_another_setting_is_named(world):
    job = _plan(world)
    _edit(job, lora={"rank": 9})
    assert _refusal(job) == BEGIN.format("grpo") + "setting lora.rank differs" + END


def test_of_many_differences_the_first_are_named_and_the_others_counted(world):
    job = _plan(world)
    _edit(job, lora=None, a=1, b=2, c=3)
    assert "planned: setting a is new, setting b is new, setting c is new, and 2 more." in _refusal(job)


def test_a_missing_external_file_is_named(world):
    job = _plan(world)
    (world / "weights").unlink()
    assert "weights does not exist" in _refusal(job)


def test_a_plan_of_another_version_is_refused(world):
    job = _plan(world)
    spec = json.loads((job / "stages.json").read_text())
    for stage in spec["stages"]:
        del stage["facts"]
        stage["key"] = "0" * 12
    (job / "stages.json").write_text(json.dumps(spec))
    assert "another version of the harness planned it" in _refusal(job)


def test_the_job_fails_with_that_message(world):
    job = _plan(world)
    _edit(job, lora={"rank": 9})
    _forget()
    with pytest.raises(SystemExit, match="1"):
        Job(sweep=None)([str(job)])
    status = read_status(job)
    assert status.state == "failed" and "setting lora.rank differs" in (status.error or "")


def test_a_job_takes_the_folder_of_its_element_of_the_array(world, monkeypatch):
    job = _plan(world)
    _edit(job, lora={"rank": 9})
    _forget()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    with pytest.raises(SystemExit):
        Job(sweep=None)([str(world / "another"), str(job)])
    assert read_status(job).state == "failed" and not (world / "another").exists()


def test_the_variables_of_another_launcher_reach_no_job(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "7")
    with job_environment(1):
        assert Place.of_environment() is None and "MASTER_ADDR" not in os.environ
    assert Place.of_environment() is not None
