"""Answers of a real Slurm 22.05 that mislead, word for word, given by fakes of its commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.launch.environment import job_environment
from harness.launch.queue import endings
from harness.launch.sbatch import Sbatch

TOO_MUCH = "allocation failure: Requested node configuration is not available\n"


@pytest.mark.parametrize(
    ("states", "refused"),
    [("idle\nmixed\n", True), ("idle\ndrained\n", False), ("idle*\n", False), ("", False)],
    ids=["all nodes work", "one is drained", "one does not answer", "no answer of sinfo"],
)
def test_too_few_resources_are_no_refusal_while_a_node_is_away(
    slurm: Path, tmp_path: Path, states: str, refused: bool
) -> None:
    """`sbatch --test-only` counts only nodes that work now."""
    (slurm / "never").write_text(TOO_MUCH)
    (slurm / "sinfo").write_text(f"#!/bin/sh\nprintf '{states}'\n")
    (slurm / "sinfo").chmod(0o755)
    said = Sbatch(tmp_path, {"mem_gb": 900}, threads=1, code=None).test(1)
    assert ("resources.memory_gb" in said) if refused else said is None


def test_jobs_of_an_array_that_were_cancelled_one_by_one_are_said_to_be_cancelled(slurm: Path) -> None:
    """Slurm keeps one entry for those that never began; it names none of them."""
    entries = [
        "JobId=2 ArrayJobId=1 ArrayTaskId=0 JobState=COMPLETED RunTime=00:00:09 ExitCode=0:0",
        "JobId=1 ArrayJobId=1 ArrayTaskId=4294967294 JobState=CANCELLED RunTime=00:00:00 ExitCode=0:0",
    ]
    (slurm / "job").write_text("\n".join(entries))
    assert endings(["1_3"]) == {"1_3": "was cancelled before it started"}


def test_an_option_counts_more_than_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SBATCH_PARTITION", "SBATCH_QOS"):
        monkeypatch.setenv(name, "of-the-user")
    with job_environment(1, options=["partition"]):
        assert "SBATCH_PARTITION" not in os.environ and os.environ["SBATCH_QOS"] == "of-the-user"
