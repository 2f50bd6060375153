"""`python -m harness.status [STUDY] [--watch]`: the cells of a study, or of every study."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.analysis.results import read_plan
from harness.launch import queue, record
from harness.launch.board import Board, line, table
from harness.launch.logs import ending
from harness.launch.queue import Entry, Queue
from harness.launch.record import Submission
from harness.names import nearest
from harness.paths import user_path
from harness.stages import locks
from harness.stages.status import OVER, Status, is_silent, read_status

SHARED = "shared "  # begins the name of a shared stage
LOOK_EVERY_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the cells. Returns 0, or 1 where a plan is damaged, or 2 where there is no such study."""
    parser = argparse.ArgumentParser(prog="python -m harness.status", description=__doc__)
    parser.add_argument("study", nargs="?", help="name of a study; default: all")
    parser.add_argument("--watch", action="store_true", help="show them until no job is left, or Ctrl-C")
    given = study_arguments(parser, argv)
    folders = chosen(given)
    if not folders:
        return 2
    if given.watch and len(folders) > 1:
        parser.error("--watch follows one study: name it")
    damaged, jobs = 0, Queue()
    for folder in folders:
        try:
            if given.watch:
                watch(folder, jobs)
            show(folder, jobs)
        except ValueError as error:
            damaged = 1
            print(f"error: {error}", file=sys.stderr)
    return damaged


def study_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command for studies, with `outputs`."""
    parser.add_argument(
        "--outputs",
        type=user_path,
        default=Path("outputs"),
        help="the outputs_dir of the study; default: outputs",
    )
    return parser.parse_args(argv)


def chosen(given: argparse.Namespace) -> list[Path]:
    """The folders of the studies that `given.study` names, all for None. Prints an error if there is none."""
    folders = sorted(file.parent for file in (given.outputs / "studies").glob("*/plan.json"))
    named = [folder for folder in folders if given.study in (None, folder.name)]
    if not named:
        print(_no_study(given.study, given.outputs, [folder.name for folder in folders]), file=sys.stderr)
    return named


def _no_study(study: str | None, outputs: Path, names: Sequence[str]) -> str:
    wanted = f"no study {study!r}" if study else "no study"
    known = ", ".join(names) or "none was started yet (python -m harness.sweep ablations=NAME)"
    near = nearest(study or "", names)
    question = f" Did you mean {near!r}?" if near else ""
    return (
        f"error: {wanted} under {outputs}.{question} Known: {known}. "
        "For another outputs_dir give --outputs FOLDER"
    )


def watch(folder: Path, jobs: Queue) -> None:
    """Shows the cells again and again, until nothing of the study is queued or running, or Ctrl-C."""
    try:
        with Board(folder.name) as board:
            while True:
                statuses = statuses_of(folder, jobs)
                board.show(statuses)
                active = any(status.state not in OVER | {"planned"} for status in statuses.values())
                if not active and not locks.is_held(folder / "lock"):
                    return
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        return


def show(folder: Path, jobs: Queue) -> None:
    """Prints a title and every cell: a table on a terminal, else lines."""
    statuses = statuses_of(folder, jobs)
    cells = [status for name, status in statuses.items() if not name.startswith(SHARED)]
    done = sum(status.state == "done" for status in cells)
    runner = locks.owner_of(folder / "lock") if locks.is_held(folder / "lock") else None
    active = sum(bool(status.job) and status.state not in OVER for status in statuses.values())
    running = f"run by {runner}" if runner else f"{active} jobs in Slurm" if active else "not running"
    title = f"{folder.name}: {done} of {len(cells)} cells done, {running}"
    console = Console()
    if not console.is_terminal:
        print("\n".join([title, *(line(name, status) for name, status in statuses.items())]))
        return
    console.print(table(title, statuses))
    for name, status in statuses.items():
        if status.error:
            console.print(f"{name}: {status.error.splitlines()[-1]}", markup=False)


def statuses_of(folder: Path, jobs: Queue) -> dict[str, Status]:
    """The shared stages of a study that are not done, then its cells; queued or lost where Slurm says so."""
    submissions = record.read(folder)
    entries = jobs.entries() if submissions else {}
    latest = record.jobs(submissions)
    latest |= {name: job for job, name in live_jobs(submissions, entries or {}).items()}
    folders = task_folders(folder)
    statuses = {}
    for name, path in folders.items():
        status = read_status(path)
        shared = path.parent.name == "shared"
        if shared and (status.state == "done" or not (path / "status.json").exists()):
            continue
        if name in latest:
            status = queue.seen(status, latest[name], entries, jobs.asked)
        elif is_silent(path, status):
            status = replace(status, state="lost", eta_s=None)
        statuses[f"{SHARED}{name}" if shared else name] = status
    return _with_reasons(folder, folders, statuses, submissions)


def _with_reasons(
    folder: Path,
    folders: Mapping[str, Path],
    statuses: Mapping[str, Status],
    submissions: Sequence[Submission],
) -> dict[str, Status]:
    """The statuses; where a job is lost and no sweep has said why, with the reason."""
    lost = {}
    for name, status in statuses.items():
        if status.state == "lost" and status.job and not status.error:
            lost[name] = status.job
    if not lost:
        return dict(statuses)
    how = queue.endings(list(lost.values()))
    token_by_task = {task: one.token for one in submissions for task in one.tasks}
    explained = dict(statuses)
    for name, job in lost.items():
        task = name.removeprefix(SHARED)
        logs = record.folder_of(folder, token_by_task[task])
        began = read_status(folders[task]).job == job
        lines = ending(job, logs, how=how.get(job), began=began)
        explained[name] = replace(statuses[name], error="\n".join(lines))
    return explained


def task_folders(folder: Path) -> dict[str, Path]:
    """Task -> folder, for the shared stages of a study and its cells."""
    folders = {path.name: path for path in sorted((folder / "shared").glob("*"))}
    for cell in read_plan(folder)["cells"]:
        folders[cell["id"]] = folder / cell["folder"]
    return folders


def live_jobs(submissions: Iterable[Submission], entries: Mapping[str, Entry]) -> dict[str, str]:
    """Job id -> task, for all jobs of these submissions that Slurm lists, also those whose id got lost."""
    found = {}
    by_token: dict[str, list[str]] = {}
    for job, entry in entries.items():
        by_token.setdefault(entry.token, []).append(job)
    for submission in submissions:
        for job in by_token.get(submission.token, []):
            position = job.partition("_")[2]
            found[job] = submission.tasks[int(position) if position.isdecimal() else 0]
    return found


if __name__ == "__main__":
    sys.exit(main())
