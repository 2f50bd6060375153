"""No text of a user becomes a command in the script of a job, and Slurm reads options as they are written."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from submitit import AutoExecutor

from harness.composition.arguments import UsageError, check_arm
from harness.launch.options import parameters
from harness.processes import ask
from harness.study import planning

NASTY = "a b'\"$(touch {pwned})`touch {pwned}`;touch {pwned}&#é"


def _script(folder: Path, name: str, options: dict[str, object]) -> str:
    executor = AutoExecutor(folder=folder, cluster="slurm")
    executor.update_parameters(name=name, **parameters(options))
    return executor._executor._make_submission_file_text(executor._executor._submitit_command_str, "x")


def _options(script: str) -> dict[str, str]:
    """The options as sbatch reads them: quotes group characters, a backslash escapes one."""
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    words = [shlex.split(line) for line in lines]
    assert all(len(word) == 1 for word in words)
    return dict(word[0].removeprefix("--").partition("=")[::2] for word in words)


def test_paths_and_options_reach_slurm_as_they_are_and_run_nothing(slurm, tmp_path, monkeypatch):
    """The script runs in a shell, with a recorded srun that keeps its arguments."""
    pwned = tmp_path / "pwned"
    nasty = NASTY.format(pwned=pwned.name)
    monkeypatch.chdir(tmp_path)
    (slurm / "srun").write_text(f'#!/bin/bash\nprintf "%s\\0" "$@" > {slurm}/arguments\n')
    names = ("partition", "account", "comment", "constraint", "nodelist", "reservation", "brand_new")
    folder = tmp_path / nasty / "jobs"
    options = dict.fromkeys(names, nasty) | {"srun_args": [f"--label={nasty}"]}
    script = _script(folder, nasty, options)
    read = _options(script)
    assert {read[name.replace("_", "-")] for name in names} == {nasty} and read["job-name"] == nasty
    assert read["output"] == f"{folder}/%j_0_log.out" and read["error"] == f"{folder}/%j_0_log.err"
    (tmp_path / "script.sh").write_text(script)
    subprocess.run(["bash", str(tmp_path / "script.sh")], check=True)
    arguments = (slurm / "arguments").read_text().split("\0")
    assert f"--label={nasty}" in arguments and arguments[-2] == str(folder)
    assert not list(tmp_path.glob("pwned*"))


@pytest.mark.skipif(shutil.which("sbatch") is None, reason="Slurm is not installed: there is no sbatch")
def test_the_real_sbatch_reads_the_options_as_they_are(tmp_path, monkeypatch):
    """It prints what it has read before it looks for a controller, and there is none."""
    (tmp_path / "slurm.conf").write_text(
        "ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nMessageTimeout=1\n"
        "NodeName=n1\nPartitionName=batch Nodes=n1\n"
    )
    nasty, folder = NASTY.format(pwned="pwned"), tmp_path / NASTY.format(pwned="pwned")
    script = tmp_path / "script.sh"
    script.write_text(_script(folder, nasty, {"comment": nasty, "partition": nasty}))
    asked = ask(
        ["sbatch", "-vvv", "--test-only", script],
        folder=tmp_path,
        environment={"PATH": os.environ["PATH"], "SLURM_CONF": str(tmp_path / "slurm.conf")},
    )
    assert asked is not None and asked.code != 0
    for option in (
        f"comment={nasty}",
        f"partition={nasty}",
        f"job-name={nasty}",
        f"output={folder}/%j_0_log.out",
    ):
        assert f'argument "--{option}"' in asked.errors
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("value", ["a\ntouch pwned", "a\r#SBATCH --wrap=x", "\x1b[2J"])
@pytest.mark.parametrize("name", ["partition", "comment", "brand_new", "mem"])
def test_an_option_of_several_lines_is_refused(name, value):
    with pytest.raises(ValueError, match=r"on one line"):
        parameters({name: value})


@pytest.mark.parametrize("name", ["x; touch pwned", "x\n#SBATCH --wrap", "../x", "x$(touch pwned)", "-x", ""])
def test_names_that_reach_scripts_and_paths_are_words(name):
    with pytest.raises(UsageError):
        check_arm(name, [])
    assert not planning.STUDY_NAME.fullmatch(name)
    with pytest.raises(ValueError):
        parameters({name: "x"})


@pytest.mark.parametrize("place", ["100%jobs", "a\\b", "a\ntouch pwned"])
def test_a_folder_that_slurm_would_misread_is_refused_before_anything_is_written(slurm, sweeps, place):
    sweeps.outputs = sweeps.outputs / place
    ended = sweeps.run("cluster=slurm", "arms=baseline")
    assert ended.returncode == 2 and "choose another outputs_dir" in ended.stderr
    assert not sweeps.outputs.parent.exists() and not list(slurm.glob("job-*"))
