"""What a Slurm site is like, for `harness.doctor cluster=slurm`: seen from here, and from a node."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import processes
from harness.files import write_text
from harness.launch import queue, site
from harness.launch.logs import log_end, logs
from harness.launch.queue import Queue
from harness.launch.slurm import Slurm
from harness.stages import locks, provenance
from harness.stages.lock_files import is_flocked

LOOK_EVERY_S = 2.0
PATIENCE_S = 600.0  # for the job that looks from a node; the queue may be long
CONFIGURED = ("JobRequeue", "PreemptMode", "KillWait", "MaxArraySize", "MaxJobCount", "SelectType")
PARTITION = "%P|%a|%l|%D|%c|%m|%G"  # of sinfo: a line per kind of node


def from_here(chosen: Slurm, outputs: Path, partition: str | None, account: str | None) -> Iterator[str]:
    """What a login node can find out, one line each.

    Args:
        chosen: the cluster.
        outputs: the folder of the studies; it need not exist.
        partition: as in `cluster.options.partition`.
        account: as in `cluster.options.account`.
    """
    yield f"Slurm {site.version() or 'not known: sbatch --version says nothing of Slurm'}"
    config = site.settings()
    if not config:
        yield "not known: the controller does not answer scontrol show config"
        return
    yield ", ".join(f"{name}={config[name]}" for name in CONFIGURED if name in config)
    yield from _partitions(partition)
    yield _account(account)
    for note in site.notes(no_requeue=chosen.never_requeued):
        yield f"note: {note}"
    with tempfile.TemporaryDirectory() as folder:
        refused = chosen.trial(Path(folder)).test(1)
    yield f"Slurm would never run a cell's job: {refused}" if refused else "Slurm would run a cell's job"
    yield _folder(outputs)


def _partitions(partition: str | None) -> Iterator[str]:
    """The nodes of a partition, or of all: time limit, and per node cores, memory and generic resources."""
    chosen = [f"--partition={partition}"] if partition else []
    answer = processes.ask(["sinfo", "--noheader", f"--format={PARTITION}", *chosen])
    if answer is None or answer.code != 0 or not answer.output.strip():
        yield f"not known: sinfo lists no node{f' of the partition {partition}' if partition else ''}"
        return
    for line in answer.output.splitlines():
        name, state, limit, count, cores, memory, resources = line.split("|")
        extra = "no GPUs or other resources" if resources == "(null)" else resources
        yield (
            f"partition {name} ({state}): nodes: {count}, of {cores} cores, {memory} MB, {extra}; time limit"
            f" {limit}"
        )


def _account(account: str | None) -> str:
    """What Slurm's accounting says of this user's limits."""
    names = "account,partition,qos,maxsubmitjobs,maxjobs"
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={os.getuid()}"]
    answer = processes.ask([*command, f"format={names}"])
    wanted = f"account {account}" if account else "your default account"
    if answer is None or answer.code != 0 or not answer.output.strip():
        return f"not known: limits of {wanted} (sacctmgr says nothing; sites without accounting have none)"
    lines = [line for line in answer.output.splitlines() if account in (None, line.partition("|")[0])]
    if not lines:
        return f"cluster.options.account={account}: sacctmgr lists no such account for you"
    return f"limits ({names}): {'; '.join(lines)}"


def _folder(outputs: Path) -> str:
    """Whether studies can lie in a folder."""
    existing = next(folder for folder in (outputs, *outputs.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".doctor-") as made:
            folder = Path(made) / "a"
            folder.mkdir()
            folder.rename(folder.with_name("b"))
            with locks.lock(Path(made) / "lock") as lock:
                known = "file locks" if lock.owner.flock else "no file locks: heartbeats alone (slower)"
    except OSError as error:
        return f"{existing} cannot hold studies: {error}"
    return f"{existing} can be written, renames, and has {known}"


def from_node(chosen: Slurm, outputs: Path) -> Iterator[str]:
    """What a job finds out on a node, one line each. Submits one job and waits for it.

    Raises:
        ValueError: it was refused, or ended without an answer; the message says what is known.
    """
    outputs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".doctor-") as made:
        folder = Path(made)
        with locks.lock(folder / "lock"):
            try:
                job = chosen.trial(folder).submit(look, [folder])
            except Exception as error:
                raise ValueError(f"the job was not accepted: {error}") from error
            yield f"job {job} looks from a node"
            found = _answer(folder, job)
    yield f"it ran on {found['host']} with {found['python']}, {found['cores']} cores"
    yield f"GPUs there: {', '.join(found['gpus']) or 'none'}"
    if found["missing"]:
        yield f"packages that are missing there: {', '.join(found['missing'])}"
    yield (
        "it sees the file lock of this machine: flock is shared"
        if found["flock"]
        else "it does not see the file lock of this machine: heartbeats say whether a process of another"
        " node lives, and a stage of a node that does not answer is taken over after 3 minutes"
    )


def _answer(folder: Path, job: str) -> dict[str, Any]:
    """What `look` wrote, as soon as it is there.

    Raises:
        ValueError: the job is over without it, or has not started in time; it is cancelled then.
    """
    jobs, end, missed = Queue(), time.monotonic() + PATIENCE_S, 0
    try:
        while time.monotonic() < end and missed < 2:
            with suppress(OSError, ValueError):
                found: dict[str, Any] = json.loads((folder / "look.json").read_text(encoding="utf-8"))
                return found
            entries = jobs.ask()
            if entries is not None:
                missed = 0 if job in entries else missed + 1
            time.sleep(LOOK_EVERY_S)
    finally:
        queue.cancel([job])
    how = queue.endings([job]).get(job) or "has not answered"
    lines = "\n".join(log_end(logs(folder, job)))
    raise ValueError(f"job {job} {how}. {lines or 'It wrote no log: the node may not see ' + str(folder)}")


def look(folders: Sequence[str]) -> None:
    """The job: writes what it sees to `look.json` in the folder."""
    folder = Path(folders[0])
    with (folder / "lock").open("rb") as lock:
        flocked = is_flocked(lock.fileno())
    packages = ("torch", "transformers", "accelerate", "hydra", "PIL", "scipy")
    found = {
        "host": socket.gethostname(),
        "python": f"Python {platform.python_version()} ({sys.executable})",
        "cores": len(os.sched_getaffinity(0)),
        "gpus": [name for _, name in provenance.gpus()],
        "missing": [name for name in packages if importlib.util.find_spec(name) is None],
        "flock": flocked is True,
    }
    write_text(folder / "look.json", json.dumps(found))
