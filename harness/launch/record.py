"""`jobs.jsonl` of a study: every call of sbatch, so that a later command finds the jobs that still live.

A row is written before sbatch is called, and again with the job id once Slurm has said it. The last row of a
token counts. Slurm shows the path of a job's script, which lies in the folder of that token. So a job that
was accepted can still be found if its id got lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.files import read_rows, truncate_rows, write_rows

FILE = "jobs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One call of sbatch.

    Args:
        token: names it; also the name of its folder below `jobs/`.
        tasks: names of the tasks, in the order of the array.
        keys: of the stages that they make.
        job: the id that Slurm gave it; None while that is not known.
    """

    token: str
    tasks: tuple[str, ...]
    keys: tuple[str, ...]
    job: str | None = None

    def job_of(self, position: int) -> str:
        """The job id of a task: `123_4` in an array, else `123`."""
        return f"{self.job}_{position}" if len(self.tasks) > 1 else str(self.job)


def folder_of(study: Path, token: str) -> Path:
    """The folder of a submission: script, arguments of the jobs, and logs."""
    return study / "jobs" / token


def append(study: Path, submission: Submission) -> None:
    """Adds a row to the record of a study."""
    truncate_rows(study / FILE, lambda row: True)  # a kill may have cut the last row
    write_rows(study / FILE, [asdict(submission)], "a")


def read(study: Path) -> list[Submission]:
    """All submissions of a study, in the order of their first rows.

    Raises:
        ValueError: a row is damaged.
    """
    by_token: dict[str, Submission] = {}
    for row in read_rows(study / FILE):
        lists = {name: tuple(row[name]) for name in ("tasks", "keys")}
        by_token[row["token"]] = Submission(token=row["token"], job=row["job"], **lists)
    return list(by_token.values())


def jobs(submissions: Iterable[Submission]) -> dict[str, str]:
    """Task -> the id of its latest job, where that is known."""
    found: dict[str, str] = {}
    for submission in submissions:
        if submission.job is not None:
            for position, task in enumerate(submission.tasks):
                found[task] = submission.job_of(position)
    return found
