"""Runs a planned study: memory check, jobs for what is missing, report. `run` reads top to bottom."""

from __future__ import annotations

import shlex
import sys
import traceback
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig

from harness.composition.arguments import UsageError, explain
from harness.composition.components import make
from harness.launch.cluster import Cluster
from harness.launch.folders import check_path
from harness.launch.jobs import launch
from harness.report.folder import check_report_folder
from harness.stages import locks
from harness.stages.store import STORAGE_ERRORS, DamagedStageError, storage_advice
from harness.study.cell import missing
from harness.study.memory import estimate, misfit
from harness.study.planning import Study, folder_setting, write_plan
from harness.study.tasks import tasks_of
from harness.types import Cell, Stage


def run(study: Study, config: DictConfig) -> int:
    """Runs what is missing of a study and writes its report.

    Args:
        study: as planned.
        config: the root configuration; only `cluster`, `resources` and `reports_dir` are read.

    Returns:
        0 if all cells are done and reported, 1 if not, 130 after Ctrl-C.

    Raises:
        UsageError: the study cannot run here, is being run already, or its folder cannot be written.
    """
    check_path(study.folder)
    cluster = make_cluster(config.cluster)
    reports_dir = _reports_dir(config, study.name)
    try:
        _check_memory(study, config.resources, cluster)
        if cluster.dry_run:
            print(cluster.show(tasks_of(study), study.folder))
            return 0
        _check_cluster(study, cluster)
        with locks.lock(study.folder / "lock") as lock:
            write_plan(study)
            complete = launch(study, cluster, lock, reports_dir)
            reported = reports_dir is None or complete is None or _report(study, reports_dir)
    except locks.Held as error:
        raise UsageError(
            f"the study {study.name} is being run by {error.owner or 'another process'}. Wait for it "
            f"(python -m harness.status {study.name}), or give this one another name with study.name=NAME"
        ) from None
    except (DamagedStageError, locks.LostError, locks.NoLocksError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        misplaced = isinstance(error, FileNotFoundError | FileExistsError | NotADirectoryError)
        if error.errno in STORAGE_ERRORS or misplaced:
            raise UsageError(storage_advice(study.folder, error)) from error
        raise
    except KeyboardInterrupt:
        print(f"\nstopped. Finished work is kept. To resume, run again:\n  {study.command}", file=sys.stderr)
        return 130
    return 0 if complete is not False and reported else 1


def make_cluster(settings: DictConfig) -> Cluster:
    """The component of `cluster=`.

    Raises:
        UsageError: it refuses its settings.
    """
    try:
        made: Cluster = make(settings)
    except HydraException as error:
        raise UsageError(f"cluster={settings.get('_target_')}: {explain(error)}") from error
    return made


def _check_cluster(study: Study, cluster: Cluster) -> None:
    try:
        cluster.check(tasks_of(study), study.folder)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_memory(study: Study, resources: DictConfig, cluster: Cluster) -> None:
    """Refuses a study with a stage that does not fit its GPU. On CPUs, estimates are rough: it warns."""
    checked: set[str] = set()
    for cell in study.cells:
        for stage_key, stage in missing(cell.stages[-1], study.store).items():
            if stage_key not in checked:
                checked.add(stage_key)
                _check_stage_memory(study, cell, stage, resources, cluster)


def _check_stage_memory(
    study: Study, cell: Cell, stage: Stage, resources: DictConfig, cluster: Cluster
) -> None:
    gpu_gb, world = resources.gpu_memory_gb or cluster.gpu_gb, resources.nodes * resources.processes
    memory = estimate(stage, cell.config, study.store, processes=world, gpu=gpu_gb is not None)
    if memory is None:
        return
    advice = f"All parts: python -m harness.doctor with the same words and arm={cell.arm}"
    if gpu_gb is not None:
        reason = misfit(memory, gpu_gb, "a GPU")
        if reason:
            raise UsageError(f"in arm {cell.arm}: {reason}. {advice}")
    elif cluster.host_gb is not None:
        sharing = 1 if stage.parallel is None else resources.processes
        reason = misfit(memory, cluster.host_gb, "a job's memory", sharing)
        if reason:
            print(f"warning: in arm {cell.arm}: {reason}. {advice}", file=sys.stderr)


def _reports_dir(config: DictConfig, study: str) -> Path | None:
    """The folder of the report, checked before anything is trained; None for no report."""
    if config.reports_dir is None:
        return None
    folder = Path(folder_setting(config, "reports_dir"))
    try:
        check_report_folder(folder, study)
    except ValueError as error:
        raise UsageError(f"reports_dir={folder}: {error}") from error
    return folder


def _report(study: Study, reports_dir: Path) -> bool:
    """Writes the report. Returns whether it could be written; if not, the results are still there."""
    from harness.report.build import write_report

    try:
        written = write_report(study.folder, reports_dir)
    except Exception as error:
        if isinstance(error, ValueError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        folders = ["--outputs", str(study.folder.parent.parent), "--reports", str(reports_dir)]
        again = shlex.join(["python", "-m", "harness.report", study.name, *folders])
        print(f"error: no report was written. The results are kept. To try again: {again}", file=sys.stderr)
        return False
    print(f"report: {written}")
    return True
