"""The processes of a cluster, and the watcher that ends them when whoever started the cluster is gone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
MARK = "SLURM_TEST_DAEMON"  # in the environment of the daemons


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Ends every daemon and job of the cluster in `folder` and removes the folder, when the block or this
    process ends.
    """
    command = [sys.executable, "-m", "tests.slurm.daemons", str(folder)]
    watcher = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True)
    assert watcher.stdin is not None
    try:
        yield
    finally:
        watcher.stdin.close()
        watcher.wait()


def processes(folder: Path, node: str | None = None) -> list[psutil.Process]:
    """The daemons of a cluster, or of one of its nodes, and all that these have started."""
    mark, log = (
        (f"{folder}/", f"{folder}/") if node is None else (f"{folder}/{node}/", f"{folder}/slurmd.{node}.")
    )
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            ours = process.environ().get(MARK, "").startswith(mark)
            if process.name() == "slurmstepd":  # it detaches itself, and keeps no environment
                ours = any(opened.path.startswith(log) for opened in process.open_files())
            if ours:
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
    return list(found.values())


def kill(alive: list[psutil.Process]) -> None:
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=0.2)


def watch(folder: Path) -> None:
    """Waits for the end of the process that made the cluster, then ends what is left of it."""
    sys.stdin.buffer.read()
    while alive := processes(folder):
        kill(alive)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
