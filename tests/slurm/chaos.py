"""`python -m tests.slurm.chaos`: the smoke study under random faults on a real Slurm, and undisturbed.

A seed draws the faults and the pauses between them; which job or process a fault meets depends on what is
there at that moment. Whenever the command ends, it is run again. A study that completes before all faults are
spent is followed by one from scratch. After the last fault the command is run until it ends with 0. The
outcome is good if then no job is left, and all stages and tables of every study equal those of the
undisturbed local run.

Sources that are edited meanwhile give other stages: leave the checkout alone while it runs.
Only root can mount a disk of its own to fill it: for others that fault is left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.cluster import cluster, missing
from tests.slurm.disturbed import ROOT, DisturbedStudy, command
from tests.slurm.equal import differences, table_differences
from tests.slurm.faults import FAULTS, draw

DISK_MB = 1536
QUEUE_S = 60.0  # after the last run, for jobs that are completing


def main() -> int:
    """Returns 0 for a good outcome, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument(
        "--undisturbed", type=Path, help="a folder for the undisturbed run; used again where it is complete"
    )
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        undisturbed = given.undisturbed or folder / "undisturbed"
        if not (undisturbed / "reports" / "smoke" / "index.html").exists():
            words = command(undisturbed / "outputs", undisturbed / "reports")
            subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        with _disk(folder / "disk") as mounted, cluster(folder / "cluster") as slurm:
            study = DisturbedStudy(slurm, folder / "disk", folder / "command.log")
            try:
                return _run(study, undisturbed, given.seed, given.faults, mounted)
            finally:
                if study.process is not None:
                    study.process.kill()


@contextmanager
def _disk(folder: Path) -> Iterator[bool]:
    """Mounts a small disk where that is allowed. Yields whether it is."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "chaos", str(folder)]
    mounted = subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _run(study: DisturbedStudy, undisturbed: Path, seed: int, count: int, mounted: bool) -> int:
    kinds = [kind for kind in FAULTS if mounted or kind != "fill_disk"]
    print(f"seed {seed}, {count} faults", flush=True)
    faults = draw(seed, count, kinds)
    for fault in faults:
        study.start()
        time.sleep(fault.pause_s)
        study.say(FAULTS[fault.kind](study, fault))
        study.tend()
    problems = [] if study.complete() else ["the study does not complete"]
    end = time.monotonic() + QUEUE_S
    while study.slurm.jobs() and time.monotonic() < end:
        time.sleep(1.0)
    problems += [f"left in the queue: {job}" for job in study.slurm.jobs()]
    for outputs in study.outputs:
        problems += differences(outputs, undisturbed / "outputs")
        problems += table_differences(study.reports(outputs) / "smoke", undisturbed / "reports" / "smoke")
    stages = len(list((undisturbed / "outputs" / "stages").iterdir()))
    met = ", ".join(f"{kind} {times}" for kind, times in Counter(fault.kind for fault in faults).items())
    print(f"seed {seed}: {count} faults ({met}), {study.runs} runs of the command, {study.studies} studies")
    if problems:
        print("\n".join(problems), study.log.read_text()[-4000:], study.slurm.logs(), sep="\n")
        return 1
    print(f"no job is left; all {stages} stages and all tables of every study equal the undisturbed run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
