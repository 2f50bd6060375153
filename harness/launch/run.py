"""A whole study: plan, jobs, report. `run` reads top to bottom."""

from __future__ import annotations

import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig

from harness.composition.arguments import UsageError, explain
from harness.composition.components import make
from harness.launch.board import Board
from harness.launch.cluster import Cluster, Handle
from harness.launch.job import write_spec
from harness.report.folder import check_report_folder
from harness.stages import locks
from harness.stages.status import OVER, Status, read_status, write_status
from harness.stages.store import STORAGE_ERRORS, DamagedStageError, storage_advice
from harness.study.cell import missing
from harness.study.memory import estimate, misfit
from harness.study.planning import Study, folder_setting, plan, write_plan
from harness.study.tasks import Task, tasks_of

LOG_LINES = 15


def run(config: DictConfig, loader: ConfigLoader, lines: Sequence[Sequence[str]]) -> int:
    """Plans the study, runs what is missing and writes the report.

    Returns:
        0 if all cells are done and reported, 1 if not, 130 after Ctrl-C.

    Raises:
        UsageError: the configuration cannot be run, the same study is running, or its folder cannot be written.
    """
    study = plan(config, loader, lines)
    cluster = _cluster(config)
    reports_dir = _reports_dir(config, study.name)
    try:
        _check_memory(study, config.resources, cluster)
        with locks.lock(study.folder / "lock"):
            write_plan(study)
            complete = _launch(study, cluster)
            reported = reports_dir is None or _report(study, reports_dir)
    except locks.Held as error:
        raise UsageError(
            f"the study {study.name} is being run by {error.owner or 'another process'}: wait for it "
            f"(python -m harness.status {study.name}), or give this one another name with study.name=NAME"
        ) from None
    except DamagedStageError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        if error.errno in STORAGE_ERRORS or isinstance(
            error, FileNotFoundError | FileExistsError | NotADirectoryError
        ):
            raise UsageError(storage_advice(study.folder, error)) from error
        raise
    except KeyboardInterrupt:
        print(f"\nstopped; what is done is kept. To go on, run again:\n  {study.command}", file=sys.stderr)
        return 130
    return 0 if complete and reported else 1


def _cluster(config: DictConfig) -> Cluster:
    try:
        return make(config.cluster)
    except HydraException as error:
        raise UsageError(f"cluster={config.cluster.get('_target_')}: {explain(error)}") from error


def _check_memory(study: Study, resources: DictConfig, cluster: Cluster) -> None:
    """Refuses a study with a stage that cannot fit its GPU; on CPUs says so and goes on, as nothing there is as certain."""
    gpu_gb = resources.gpu_memory_gb or cluster.gpu_gb
    known: set[str] = set()
    for cell in study.cells:
        for found_key, stage in missing(cell.stages[-1], study.store).items():
            if found_key in known:
                continue
            known.add(found_key)
            found = estimate(
                stage, cell.config, study.store, processes=resources.processes, gpu=gpu_gb is not None
            )
            if found is None:
                continue
            advice = f"All parts: python -m harness.doctor with the same words and arm={cell.arm}"
            if gpu_gb is not None:
                if reason := misfit(found, gpu_gb, "a GPU"):
                    raise UsageError(f"in arm {cell.arm}: {reason}. {advice}")
            elif cluster.host_gb is not None:
                processes = 1 if stage.parallel is None else resources.processes
                if reason := misfit(found, cluster.host_gb, "a job's memory", processes):
                    print(f"warning: in arm {cell.arm}: {reason}. {advice}", file=sys.stderr)


def _reports_dir(config: DictConfig, study: str) -> Path | None:
    """Where the report is to go, found out before anything is trained; None for no report."""
    if config.reports_dir is None:
        return None
    folder = Path(folder_setting(config, "reports_dir"))
    try:
        check_report_folder(folder, study)
    except ValueError as error:
        raise UsageError(f"reports_dir={folder}: {error}") from error
    return folder


def _launch(study: Study, cluster: Cluster) -> bool:
    """Runs the tasks of the study; says whether every cell is done in the end."""
    tasks = tasks_of(study)
    folders = {task.name: task.folder for task in tasks if task.shared} | {
        cell.id: study.folder_of(cell) for cell in study.cells
    }
    for task in tasks:
        write_spec(task.folder, study.store.root, task.stage)
        write_status(task.folder, Status(reward=read_status(task.folder).reward))
    running: dict[str, Handle] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Board(f"{study.name}: {study.facts.get('question') or ''}") as board:
            while tasks or running:
                _collect(running, folders)
                tasks = _start(tasks, running, cluster, folders)
                board.show({name: read_status(folder) for name, folder in folders.items()})
                time.sleep(cluster.poll_s)
            board.show({name: read_status(folder) for name, folder in folders.items()})
    except BaseException:
        _stop(running, folders.values())
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return _summary(study)


def _start(
    tasks: list[Task], running: dict[str, Handle], cluster: Cluster, folders: dict[str, Path]
) -> list[Task]:
    """Starts what can be started; returns what is still to come."""
    later = []
    waiting = {task.name for task in tasks}
    for task in tasks:
        states = {name: read_status(folders[name]) for name in task.needs}
        broken = [(name, status) for name, status in states.items() if status.state in OVER - {"done"}]
        if broken:
            name, status = broken[0]
            reason = (status.error or "no reason known").splitlines()[-1]
            write_status(
                task.folder,
                replace(
                    read_status(task.folder), state="failed", error=f"{name} is {status.state}: {reason}"
                ),
            )
        elif any(name in waiting or name in running for name in task.needs) or not cluster.has_room(task):
            later.append(task)
        else:
            _submit(task, running, cluster)
    return later


def _submit(task: Task, running: dict[str, Handle], cluster: Cluster) -> None:
    try:
        running[task.name] = cluster.submit(task)
    except Exception as error:  # one job that cannot be submitted stops no other
        write_status(
            task.folder,
            replace(read_status(task.folder), state="failed", error=f"the job was not accepted: {error}"),
        )


def _collect(running: dict[str, Handle], folders: dict[str, Path]) -> None:
    """Takes out the jobs that are over; one that says nothing about its end was lost."""
    for name in [name for name, handle in running.items() if handle.is_over()]:
        handle = running.pop(name)
        status = read_status(folders[name])
        if status.state not in OVER:
            error = f"job {handle.id} ended without a word: killed, or out of memory or disk. Run the same command again to go on"
            write_status(
                folders[name],
                replace(
                    status,
                    state="lost",
                    eta_s=None,
                    error="\n".join([*_log_end(folders[name], handle), error]),
                ),
            )


def _log_end(folder: Path, handle: Handle) -> list[str]:
    logs = sorted((folder / "logs").glob(f"{handle.id}_*_log.err"))
    text = "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
    return [line for line in text.splitlines() if "submitit" not in line][-LOG_LINES:]


def _stop(running: dict[str, Handle], folders: Iterable[Path]) -> None:
    for handle in running.values():
        handle.cancel()
    with suppress(OSError):  # a full disk may be what stops us
        for folder in folders:
            status = read_status(folder)
            if status.state not in OVER:
                write_status(folder, replace(status, state="stopped", eta_s=None))


def _summary(study: Study) -> bool:
    complete = True
    for cell in study.cells:
        status = read_status(study.folder_of(cell))
        if status.state != "done":
            complete = False
            print(
                f"\n{cell.id} {status.state}; logs in {study.folder_of(cell) / 'logs'}\n{status.error or ''}",
                file=sys.stderr,
            )
    return complete


def _report(study: Study, reports_dir: Path) -> bool:
    from harness.report.build import write_report

    try:
        written: Any = write_report(study.folder, reports_dir)
    except Exception as error:  # the results are safe; the report can be written again
        if isinstance(error, ValueError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        folders = ["--outputs", str(study.folder.parent.parent), "--reports", str(reports_dir)]
        again = shlex.join(["python", "-m", "harness.report", study.name, *folders])
        print(f"error: no report was written, the results are kept; to try again: {again}", file=sys.stderr)
        return False
    print(f"report: {written}")
    return True
