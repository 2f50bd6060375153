"""`python -m harness.cancel STUDY`: ends all jobs of a study. Finished work and checkpoints are kept."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import processes
from harness.launch import queue, record
from harness.launch.queue import Queue
from harness.stages import locks
from harness.stages.status import OVER, read_status, write_status
from harness.status import chosen, live_jobs, study_arguments

SWEEP_S = 60.0  # how long the sweep may take to end its jobs


def main(argv: Sequence[str] | None = None) -> int:
    """Cancels the jobs. Returns 0, 1 where it is not known whether all have ended, 2 for no such study."""
    parser = argparse.ArgumentParser(prog="python -m harness.cancel", description=__doc__)
    parser.add_argument("study", help="name of a study")
    given = study_arguments(parser, argv)
    (folder,) = chosen(given) or (None,)
    if folder is None:
        return 2
    return 0 if _end_sweep(folder) and _end_jobs(folder) else 1


def _end_sweep(folder: Path) -> bool:
    """Interrupts the sweep that runs the study, as Ctrl-C does. Returns whether none runs any more."""
    lock = folder / "lock"
    if not locks.is_held(lock):
        return True
    owner = locks.owner_of(lock)
    if owner is None or owner.host != locks.me().host:
        print(f"error: the sweep runs on another machine ({owner}): press Ctrl-C there", file=sys.stderr)
        return False
    os.kill(owner.pid, signal.SIGINT)
    print(f"the sweep (process {owner.pid}) is asked to end its jobs")
    end = time.monotonic() + SWEEP_S
    while locks.is_held(lock):
        if time.monotonic() > end:
            print(f"error: process {owner.pid} has not ended yet", file=sys.stderr)
            return False
        time.sleep(0.2)
    return True


def _end_jobs(folder: Path) -> bool:
    """Cancels the jobs that Slurm still has. Returns whether all are known to be cancelled."""
    submissions = record.read(folder)
    if not submissions:
        return True
    entries = Queue().ask()
    if entries is None:
        print("error: squeue gives no answer, so nothing was cancelled. Try again later", file=sys.stderr)
        return False
    jobs = live_jobs(submissions, entries)
    with processes.undisturbed():
        remaining = queue.cancel(list(jobs))
        for job, name in jobs.items():
            task = folder / "shared" / name
            task = task if task.is_dir() else folder / "cells" / name
            status = read_status(task)
            if job not in remaining and status.state not in OVER:
                write_status(task, replace(status, state="stopped", eta_s=None, waits_for=None))
    print(f"cancelled: {len(jobs) - len(remaining)} jobs")
    if remaining:
        print(
            f"error: still there: {' '.join(remaining)}. Try: scancel {' '.join(remaining)}", file=sys.stderr
        )
    return not remaining


if __name__ == "__main__":
    sys.exit(main())
