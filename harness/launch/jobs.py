"""The jobs of a study, from the first one that starts to the last one that ends."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness import processes
from harness.launch.board import Board
from harness.launch.cluster import Cluster, Handle, Home, NotNow
from harness.launch.folders import check_private
from harness.launch.job import write_spec
from harness.launch.partial import PartialReports
from harness.launch.snapshot import freeze, remove_old
from harness.stages import locks
from harness.stages.status import OVER, Status, read_status, write_status
from harness.study.planning import Study
from harness.study.tasks import Task, tasks_of

ADOPT_S = 15.0


def launch(study: Study, cluster: Cluster, lock: locks.Lock, reports_dir: Path | None) -> bool | None:
    """Runs the tasks of the study. Returns whether every cell is done in the end; None while jobs run on.

    While it waits for jobs, the report in `reports_dir` is written again as cells finish.
    """
    tasks = tasks_of(study)
    task_by_name = {task.name: task for task in tasks}
    folders = {task.name: task.folder for task in tasks if task.shared}
    folders |= {cell.id: study.folder_of(cell) for cell in study.cells}
    home = Home(study=study.folder, code=_frozen(study, tasks))
    running = _adopted(tasks, cluster, home) if tasks else {}
    tasks = [task for task in tasks if task.name not in running]
    for task in tasks:
        write_spec(task.folder, study.store.root, task.stage)
        write_status(task.folder, Status(reward=read_status(task.folder).reward))
    _check_private(study, home, [task.folder for task in tasks])
    board = Board(f"{study.name}: {study.facts.get('question') or ''}")
    try:
        with board, PartialReports(study.folder, reports_dir) as reports:
            while True:
                lock.check()
                _collect(running, folders, task_by_name)
                tasks = _start(tasks, running, cluster, folders, home)
                statuses = _statuses(folders, running)
                board.show(statuses)
                if not tasks and not (running and cluster.wait):
                    break
                reports.update({cell.id: statuses[cell.id] for cell in study.cells})
                time.sleep(cluster.poll_s)
    except KeyboardInterrupt:
        _stop(running, cluster, folders, home)
        raise
    except BaseException:
        if cluster.jobs_go_on:
            _leave(running, study)
        else:
            _stop(running, cluster, folders, home)
        raise
    if running:
        print(_submitted(running, study))
        return None
    with suppress(NotNow):
        cluster.finish(home)
    complete = _summary(study)
    if complete:
        remove_old(study.folder)
    return complete


def _frozen(study: Study, tasks: Sequence[Task]) -> Path | None:
    """The folder of the code that the tasks run, copied now; None if there is nothing to run."""
    if not tasks:
        return None
    snapshot = freeze(study.folder, [task.stage for task in tasks])
    print(f"code: {snapshot}", flush=True)
    return snapshot.folder


def _check_private(study: Study, home: Home, tasks: Sequence[Path]) -> None:
    """Checks every folder from which jobs run something.

    Raises:
        UsageError: somebody else could change what the jobs run.
    """
    for folder in (study.folder, study.folder / "jobs", *tasks, *filter(None, [home.code])):
        if folder.is_dir():
            check_private(folder, group=study.group_writable)


def _statuses(folders: Mapping[str, Path], running: Mapping[str, Handle]) -> dict[str, Status]:
    statuses = {}
    for name, folder in folders.items():
        status = read_status(folder)
        statuses[name] = running[name].seen(status) if name in running else status
    return statuses


def _adopted(tasks: Sequence[Task], cluster: Cluster, home: Home) -> dict[str, Handle]:
    """The jobs of earlier sweeps that make these tasks, as soon as the cluster knows."""
    while True:
        try:
            adopted = cluster.adopt(tasks, home)
        except NotNow as error:
            print(f"warning: {error}. It is asked again in {ADOPT_S:.0f} s", file=sys.stderr)
            time.sleep(ADOPT_S)
        else:
            if adopted:
                jobs = {name: handle.id for name, handle in adopted.items()}
                print(f"jobs of an earlier sweep that continue: {_listed(jobs)}")
            return adopted


def _start(
    tasks: list[Task],
    running: dict[str, Handle],
    cluster: Cluster,
    folders: Mapping[str, Path],
    home: Home,
) -> list[Task]:
    """Submits the tasks that can start now. Returns those that cannot yet."""
    waiting = []
    for task in tasks:
        if failed := _failed_need(task, folders):
            write_status(task.folder, replace(read_status(task.folder), state="failed", error=failed))
        else:
            waiting.append(task)
    while group := cluster.startable(waiting, running):
        try:
            started = cluster.submit(group, running, home)
        except NotNow as error:
            print(f"warning: {group[0].name}: {error}", file=sys.stderr)
            continue
        except Exception as error:  # the other jobs continue
            started = {}
            for task in group:
                refused = f"the job was not accepted: {error}"
                write_status(task.folder, replace(read_status(task.folder), state="failed", error=refused))
            waiting = [task for task in waiting if task not in group]
        running |= started
        waiting = [task for task in waiting if task.name not in started]
    return waiting


def _failed_need(task: Task, folders: Mapping[str, Path]) -> str | None:
    """Why a task can never start: the first of the tasks it needs that ended without being done."""
    for name in task.needs:
        status = read_status(folders[name])
        if status.state in OVER - {"done"}:
            return f"{name} is {status.state}: {(status.error or 'no reason known').splitlines()[-1]}"
    return None


def _collect(
    running: dict[str, Handle], folders: Mapping[str, Path], task_by_name: Mapping[str, Task]
) -> None:
    """Removes the jobs that are over. A job that ended without writing so is lost."""
    ended = {name: handle for name, handle in running.items() if handle.is_over()}
    for name, handle in ended.items():
        del running[name]
        folder = folders[name]
        status = read_status(folder)
        if status.state in OVER:
            continue
        if failed := _failed_need(task_by_name[name], folders):  # so the cluster never started it
            write_status(folder, replace(status, state="failed", eta_s=None, error=failed))
        else:
            error = "\n".join(handle.ending())
            write_status(folder, replace(status, state="lost", eta_s=None, error=error))


def _stop(running: Mapping[str, Handle], cluster: Cluster, folders: Mapping[str, Path], home: Home) -> None:
    """Cancels the submitted jobs and marks them as stopped. What was never submitted stays planned."""
    with processes.undisturbed():
        unknown = cluster.cancel(running, home)
        if unknown:
            jobs = {name: handle.id for name, handle in unknown.items()}
            print(
                f"warning: the cluster did not confirm that these jobs are cancelled: {_listed(jobs)}. To"
                f" cancel them: scancel {' '.join(jobs.values())}",
                file=sys.stderr,
            )
        with suppress(OSError):  # a full disk may be the reason to stop
            for name in running.keys() - unknown.keys():
                status = read_status(folders[name])
                if status.state not in OVER:
                    write_status(folders[name], replace(status, state="stopped", eta_s=None))


def _leave(running: Mapping[str, Handle], study: Study) -> None:
    """Prints which jobs continue although the sweep ends with an error."""
    if not running:
        return
    jobs = {name: handle.id for name, handle in running.items()}
    print(
        f"the sweep ends with an error; these jobs continue: {_listed(jobs)}. To follow them:"
        f" python -m harness.status {study.name}. To resume the study, run again:\n  {study.command}",
        file=sys.stderr,
    )


def _submitted(running: Mapping[str, Handle], study: Study) -> str:
    """What to do while jobs run without the sweep."""
    outputs = shlex.join(["--outputs", str(study.folder.parent.parent)])
    return (
        f"submitted: {len(running)} jobs, which run without this command. To follow them:\n"
        f"  python -m harness.status {study.name} {outputs} --watch\n"
        "When they are done, or to submit again what was lost, run the same command again.\n"
        f"To write the report of what is there: python -m harness.report {study.name} {outputs}\n"
        f"To cancel all: python -m harness.cancel {study.name} {outputs}"
    )


def _listed(jobs: Mapping[str, str]) -> str:
    return ", ".join(f"{job} ({name})" for name, job in jobs.items())


def _summary(study: Study) -> bool:
    """Prints every cell that is not done, with its reason. Returns whether all are done."""
    complete = True
    for cell in study.cells:
        folder = study.folder_of(cell)
        status = read_status(folder)
        if status.state != "done" and study.store.is_complete(cell.stages[-1]):
            # a second start of the job, on another node, wrote its status last and was cancelled
            status = replace(status, state="done", stage=None, eta_s=None, waits_for=None, error=None)
            write_status(folder, status)
        if status.state != "done":
            complete = False
            logs = f"; logs in {folder / 'logs'}" if (folder / "logs").is_dir() else ""
            print(f"\n{cell.id} {status.state}{logs}", file=sys.stderr)
            print(status.error or "", file=sys.stderr)
    return complete
