"""Writes the report of a study again while its cells finish, in a process beside the sweep.

`python -m harness.launch.partial STUDY_FOLDER REPORTS_DIR` is that process. It ends with the sweep, also if
that is killed, so that no earlier report replaces a later one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from harness.stages.status import OVER, Status

NICE = 10  # below the jobs, but not so far that two busy cores keep the first report back for minutes
PAUSE = 8  # between two reports, in times that the last one took: together they take a tenth of a core
MODULE = "harness.launch.partial"
LOG = "partial_report.log"


class PartialReports:
    """Keeps the report of a study up to date while the block runs; never waits for it.

    One process at a time writes, with pauses. Cells that finish meanwhile are in the next report. A report
    that fails leaves its reason in the study's folder and ends no study.

    Args:
        study_folder: the folder of the study.
        reports_dir: the folder of all reports; None for no report.
    """

    def __init__(self, study_folder: Path, reports_dir: Path | None) -> None:
        self._study, self._reports = study_folder, reports_dir
        self._writer: subprocess.Popen[bytes] | None = None
        self._written: Mapping[str, str] = {}
        self._is_announced = False
        self._started = self._pause_end = 0.0

    def __enter__(self) -> PartialReports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.kill()
            self._writer.communicate()

    def update(self, statuses: Mapping[str, Status]) -> None:
        """Have the report written if a cell has ended since the last one.

        Args:
            statuses: of the cells, by name. Without one that is done there is nothing to report, and after
                the last one the sweep writes the whole report.
        """
        ended = {name: status.state for name, status in statuses.items() if status.state in OVER}
        if self._reports is None or self._is_writing() or time.monotonic() < self._pause_end:
            return
        if ended != self._written and "done" in ended.values() and len(ended) < len(statuses):
            self._written, self._started = ended, time.monotonic()
            with suppress(OSError):  # no process, no disk: the study matters more
                self._writer = _start(self._study, self._reports)

    def _is_writing(self) -> bool:
        """Whether a report is being written. Prints where the first one is."""
        if self._writer is None:
            return False
        code = self._writer.poll()
        if code == 0 and not self._is_announced and self._reports is not None:
            self._is_announced = True
            page = self._reports / self._study.name / "index.html"
            print(f"partial report, written again as cells finish: {page}", flush=True)
        if code is not None:
            now = time.monotonic()
            self._pause_end = now + PAUSE * (now - self._started)
            self._writer.communicate()
            self._writer = None
        return code is None


def _start(study_folder: Path, reports_dir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", MODULE, str(study_folder), str(reports_dir)]
    with (study_folder / LOG).open("wb") as log:
        return subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,  # it closes with the sweep
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the sweep
        )


def main(arguments: list[str]) -> int:
    """Writes the report of a study and returns 0."""
    threading.Thread(target=_end_with_sweep, daemon=True).start()
    os.nice(NICE)
    from harness.report.build import write_report

    study_folder, reports_dir = map(Path, arguments)
    write_report(study_folder, reports_dir)
    return 0


def _end_with_sweep() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
