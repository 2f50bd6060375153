"""The faults of `tests.slurm.chaos`: a function for each, which says what it did."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tests.slurm.disturbed import DisturbedStudy

DAEMONS = {"sh", "unshare", "slurmd"}  # of a node; they have faults of their own


@dataclass(frozen=True)
class Fault:
    """A fault as drawn: what happens after a pause, for how long, and whom of the candidates it meets."""

    kind: str
    pause_s: float
    lasts_s: float
    pick: float  # from 0 to 1: the place among the candidates


def draw(seed: int, count: int, kinds: list[str]) -> list[Fault]:
    """The faults of a seed."""
    choices = random.Random(seed)
    faults = []
    for _ in range(count):
        pause_s, lasts_s = round(choices.uniform(3.0, 9.0), 1), round(choices.uniform(2.0, 8.0), 1)
        faults.append(Fault(choices.choice(kinds), pause_s, lasts_s, choices.random()))
    return faults


def job_of(study: DisturbedStudy, fault: Fault, *states: str) -> str | None:
    """The id of a job in one of these states."""
    jobs = sorted(job.id for job in study.slurm.jobs() if job.state in states)
    return jobs[int(fault.pick * len(jobs))] if jobs else None


def node_of(study: DisturbedStudy, fault: Fault) -> str:
    return study.slurm.nodes[int(fault.pick * len(study.slurm.nodes))]


def kill_process(study: DisturbedStudy, fault: Fault) -> str:
    """`kill -9` of any process of a job, or of the command."""
    candidates: dict[int, str] = {}
    for node in study.slurm.nodes:
        for process in study.slurm.processes(node):
            with suppress(psutil.NoSuchProcess):
                if process.name() not in DAEMONS:
                    candidates[process.pid] = f"{process.name()} on {node}"
    if study.process is not None and study.process.poll() is None:
        candidates[study.process.pid] = "the command"
    if not candidates:
        return "kill -9: nothing runs"
    pid = sorted(candidates)[int(fault.pick * len(candidates))]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"kill -9 {candidates[pid]}"


def stop_command(study: DisturbedStudy, fault: Fault) -> str:
    """SIGKILL, SIGHUP, SIGTERM or Ctrl-C for the command."""
    sent = (signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)[int(fault.pick * 4)]
    if study.process is not None:
        study.process.send_signal(sent)
    return f"{sent.name} to the command"


def requeue(study: DisturbedStudy, fault: Fault) -> str:
    job = job_of(study, fault, "RUNNING")
    if job is None:
        return "requeue: no job runs"
    study.slurm.requeue(job)
    return f"requeue of {job}"


def send_signal(study: DisturbedStudy, fault: Fault) -> str:
    """USR2, TERM or INT for a job, by scancel."""
    job = job_of(study, fault, "RUNNING")
    name = ("USR2", "TERM", "INT")[int(fault.pick * 1000) % 3]
    if job is None:
        return f"{name}: no job runs"
    study.slurm.signal(job, name)
    return f"{name} to {job}"


def cancel(study: DisturbedStudy, fault: Fault) -> str:
    job = job_of(study, fault, "RUNNING", "PENDING")
    if job is None:
        return "scancel: no job"
    study.slurm.cancel(job)
    return f"scancel of {job}"


def preempt(study: DisturbedStudy, fault: Fault) -> str:
    urgent = study.slurm.submit("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 600")
    time.sleep(fault.lasts_s)
    study.slurm.cancel(urgent)
    return f"preempted by {urgent} for {fault.lasts_s} s"


def node_down(study: DisturbedStudy, fault: Fault) -> str:
    node = node_of(study, fault)
    study.slurm.set_node_down(node)
    time.sleep(fault.lasts_s)
    study.slurm.start_node(node)
    return f"{node} down for {fault.lasts_s} s"


def power_off(study: DisturbedStudy, fault: Fault) -> str:
    node = node_of(study, fault)
    study.slurm.power_off(node)
    study.slurm.set_node_down(node)
    time.sleep(fault.lasts_s)
    study.slurm.start_node(node)
    return f"{node} without power for {fault.lasts_s} s"


def thought_dead(study: DisturbedStudy, fault: Fault) -> str:
    """A node is declared dead although its processes live."""
    node = node_of(study, fault)
    study.slurm.stop_node(node)
    study.slurm.set_node_down(node)
    time.sleep(fault.lasts_s)
    study.slurm.start_node(node)
    return f"{node} thought dead for {fault.lasts_s} s"


def restart_node_daemon(study: DisturbedStudy, fault: Fault) -> str:
    node = node_of(study, fault)
    study.slurm.stop_node(node)
    time.sleep(fault.lasts_s)
    study.slurm.start_node(node)
    return f"slurmd of {node} away for {fault.lasts_s} s"


def restart_controller(study: DisturbedStudy, fault: Fault) -> str:
    study.slurm.stop_controller()
    time.sleep(fault.lasts_s)
    study.slurm.start_controller()
    return f"slurmctld away for {fault.lasts_s} s"


def pause_controller(study: DisturbedStudy, fault: Fault) -> str:
    study.slurm.pause_controller()
    time.sleep(2 * fault.lasts_s)
    study.slurm.continue_controller()
    return f"slurmctld without an answer for {2 * fault.lasts_s} s"


def fill_disk(study: DisturbedStudy, fault: Fault) -> str:
    filler = study.disk / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(2**20))
            file.flush()
    time.sleep(fault.lasts_s)
    filler.unlink()
    return f"disk full for {fault.lasts_s} s"


FAULTS: dict[str, Callable[[DisturbedStudy, Fault], str]] = {
    function.__name__: function
    for function in (
        *(kill_process, stop_command, requeue, send_signal, cancel, preempt, node_down, power_off),
        *(thought_dead, restart_node_daemon, restart_controller, pause_controller, fill_disk),
    )
}
