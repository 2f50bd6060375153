"""A real Slurm of two nodes on this machine, for tests and for trying things by hand.

By hand: `python -m tests.slurm.cluster` keeps a cluster until Ctrl-C or `kill`. It prints the line
`export SLURM_CONF=...` for another shell, where `sbatch`, `squeue` and `cluster=slurm` then use it.

Where `unshare` is allowed (root), each node has its own host name and its own process ids: a node that is
powered off loses all its processes at once, and no node can look up a process of another. Elsewhere nodes are
names only, which share the host name and the process ids of this machine; a process that has detached itself
from its job survives a power failure.

Everything lies below one folder. A watcher outlives the process that made the cluster, also after `kill -9`:
it ends every daemon and job, and removes the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.slurm.configuration import configuration, free_ports
from tests.slurm.daemons import MARK, kill, processes, watched

PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
READY_S = 30.0
PATIENCE_S = 60.0  # a test waits for states; this only ends one that will never come
COMMAND_S = 60.0
LONGEST = 75  # characters of the folder: sockets below it may have 107
UNSHARE = ["unshare", "--uts", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]

NODE = """\
if [ -n "$3" ]; then hostname "$1" && mount --bind "$2/hosts" /etc/hosts || exit 1; fi
while :; do
  [ -e "$2/$1.stopped" ] || slurmd -D -N "$1" -f "$2/slurm.conf" >> "$2/slurmd.$1.out" 2>&1
  sleep 0.1
done
"""


class ClusterError(Exception):
    """The cluster cannot be started or does not answer; the message ends with the daemons' logs."""


@dataclass(frozen=True)
class QueuedJob:
    """A row of squeue; `id` is `A_i` for an element of an array."""

    id: str
    state: str
    reason: str
    node: str
    name: str


def missing() -> str | None:
    """What this machine lacks for a cluster, and how to install it; None where it has all."""
    commands = [command for command in PACKAGES if shutil.which(command, path=SEARCHED) is None]
    if not commands:
        return None
    packages = sorted({PACKAGES[command] for command in commands})
    return f"no {', '.join(commands)} here: apt-get install {' '.join(packages)}"


@contextmanager
def cluster(folder: Path, nodes: int = 2, *, requeue: bool = True) -> Iterator[SlurmCluster]:
    """Starts a Slurm whose nodes are n1, n2, ... and ends it, with its jobs, when the block ends.

    Partitions are `batch` (the default) and `urgent`, whose jobs preempt those of `batch` by requeueing them.

    Args:
        folder: of everything that the daemons write; it is made, and removed at the end.
        nodes: how many, each with 8 CPUs and 20 GB, whatever this machine has.
        requeue: whether the site lets jobs be queued again (`JobRequeue`).

    Raises:
        ClusterError: the cluster does not start within 30 s.
    """
    if len(str(folder)) > LONGEST:
        raise ClusterError(
            f"the path {folder} has more than {LONGEST} characters, too many for sockets below it"
        )
    folder.mkdir(mode=0o700, parents=True)
    made = SlurmCluster(folder, tuple(f"n{number}" for number in range(1, nodes + 1)), _isolates())
    with watched(folder):
        try:
            made._start(requeue)
            yield made
        finally:
            made._end()


@dataclass
class SlurmCluster:
    """A running cluster. Its methods are what an operator, a failing machine or a user does to it."""

    folder: Path
    nodes: tuple[str, ...]
    isolated: bool  # nodes have their own host names and process ids
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)

    @property
    def configuration(self) -> Path:
        return self.folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        """The variables of a shell on the login node."""
        return {**os.environ, "SLURM_CONF": str(self.configuration), "PATH": SEARCHED}

    def ask(self, *command: str) -> str:
        """The output of one of Slurm's commands.

        Raises:
            ClusterError: it fails, or gives no answer.
        """
        try:
            answer = subprocess.run(
                command, env=self.environment(), capture_output=True, text=True, timeout=COMMAND_S
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"no answer to {' '.join(command)}\n{self.logs()}") from None
        if answer.returncode:
            raise ClusterError(f"{' '.join(command)}: {answer.stderr}\n{self.logs()}")
        return answer.stdout

    def jobs(self) -> list[QueuedJob]:
        """The jobs that are pending, running or completing, one row for each element of an array."""
        rows = self.ask("squeue", "--noheader", "--array", "--format=%i|%T|%r|%N|%j")
        return [QueuedJob(*row.split("|", 4)) for row in rows.splitlines()]

    def submit(self, *words: str) -> str:
        """Submits `sbatch` words and returns the id of the job."""
        return self.ask("sbatch", "--parsable", "--output=/dev/null", *words).strip()

    def requeue(self, job: str) -> None:
        self.ask("scontrol", "requeue", job)

    def cancel(self, *jobs: str) -> None:
        self.ask("scancel", *jobs)

    def signal(self, job: str, name: str, *options: str) -> None:
        """Sends a signal to the steps of a job; with the option `--full` to its batch script too."""
        self.ask("scancel", f"--signal={name}", *options, job)

    def until(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Waits for a condition over files, which may not be there yet, or over jobs.

        Raises:
            AssertionError: it does not come true in time; with the jobs and the logs.
        """
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            with suppress(FileNotFoundError, ValueError, IndexError, KeyError):
                if condition():
                    return
            time.sleep(0.1)
        raise AssertionError(
            f"it did not happen within {patience_s:.0f} s; jobs: {self.jobs()}\n{self.logs()}"
        )

    def until_idle(self, patience_s: float = PATIENCE_S) -> None:
        """Waits until no job is left in the queue."""
        self.until(lambda: not self.jobs(), patience_s)

    # nodes

    def processes(self, node: str) -> list[psutil.Process]:
        """The processes of a node: its slurmd and all of its jobs."""
        return processes(self.folder, node)

    def process_names(self, node: str) -> list[str]:
        names = []
        for process in self.processes(node):
            with suppress(psutil.NoSuchProcess):
                names.append(process.name())
        return names

    def stop_node(self, node: str) -> None:
        """Kills the slurmd of a node; its jobs live on."""
        (self.folder / f"{node}.stopped").touch()
        for process in self.processes(node):
            with suppress(psutil.NoSuchProcess):
                if process.name() == "slurmd":
                    process.kill()

    def start_node(self, node: str) -> None:
        """Makes a node take jobs again that was stopped, powered off, drained or set down."""
        (self.folder / f"{node}.stopped").unlink(missing_ok=True)
        if self._daemons[node].poll() is not None:
            self._start_node(node)
        self.until(lambda: _listens(self._ports[node]))
        self.until(lambda: not self.node_state(node).endswith("*"))
        if self.node_state(node).startswith(("down", "drain")):
            with suppress(ClusterError):  # it registered meanwhile, and works
                self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.until(lambda: self.node_state(node) in {"idle", "mixed", "allocated", "completing"})

    def power_off(self, node: str) -> None:
        """Kills every process of a node. Slurm finds out by itself after 30 s (`SlurmdTimeout`)."""
        while alive := self.processes(node):
            kill(alive)
        self._daemons[node].wait()

    def set_node_down(self, node: str) -> None:
        """Says that a node is dead: its jobs are queued again, whether it is or not."""
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def drain(self) -> None:
        """Makes every node finish its jobs and take no more, so that new jobs stay pending."""
        self.ask("scontrol", "update", f"NodeName={','.join(self.nodes)}", "State=DRAIN", "Reason=test")

    def hide(self, folder: Path) -> None:
        """Lays an empty folder over `folder` on every node, as where it is not on a shared file system."""
        for node in self.nodes:
            script = next(one for one in self.processes(node) if one.name() == "sh")
            enter = ["nsenter", f"--target={script.pid}", "--mount"]
            subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", "size=1m", "hidden", folder], check=True)

    def node_state(self, node: str) -> str:
        """The state as sinfo gives it; with a `*` at its end if the node does not answer."""
        return self.ask("sinfo", "--noheader", "--partition=batch", f"--nodes={node}", "--format=%T").strip()

    # the controller

    def stop_controller(self) -> None:
        """Ends slurmctld as an operator does: it saves its state, and commands find no one."""
        self._daemons["slurmctld"].terminate()
        self._daemons["slurmctld"].wait()

    def start_controller(self) -> None:
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.configuration))
        self.until(lambda: self._answers())

    def pause_controller(self) -> None:
        """Stops slurmctld so that commands wait for its answer."""
        self._daemons["slurmctld"].send_signal(signal.SIGSTOP)

    def continue_controller(self) -> None:
        self._daemons["slurmctld"].send_signal(signal.SIGCONT)

    def heal(self) -> None:
        """Ends all jobs, and makes the controller and every node work as at the start."""
        self.continue_controller()
        if self._daemons["slurmctld"].poll() is not None:
            self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        jobs = [job.id for job in self.jobs()]
        for options in ([], ["--signal=KILL", "--full"]):
            with suppress(ClusterError):  # a job that ends meanwhile
                self.ask("scancel", *options, *jobs)
        self.until_idle()

    def logs(self, lines: int = 10) -> str:
        """The last lines of every daemon's log."""
        texts = []
        for log in sorted(self.folder.glob("*.log")):
            end = log.read_text(errors="replace").splitlines()[-lines:]
            texts += [f"-- {log.name}", *end]
        return "\n".join(texts)

    def _start(self, requeue: bool) -> None:
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (self.folder / "hosts").write_text(
            f"127.0.0.1 localhost {' '.join(self.nodes)} {socket.gethostname()}\n"
        )
        controller_port, *ports = free_ports(1 + len(self.nodes))
        self._ports = dict(zip(self.nodes, ports, strict=True))
        self.configuration.write_text(
            configuration(self.folder, self._ports, controller_port, requeue=requeue)
        )
        munge = self.folder / "munge.socket"
        files = [f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "seed", "log")]
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--socket={munge}", f"--key-file={key}", *files
        )
        self._wait("munged", munge.exists)
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.configuration))
        for node in self.nodes:
            self._start_node(node)
        self._wait("slurmctld", lambda: all(self.node_state(node) == "idle" for node in self.nodes))

    def _start_node(self, node: str) -> None:
        (self.folder / f"spool.{node}").mkdir(exist_ok=True)
        script = ["sh", "-c", NODE, "sh", node, str(self.folder), "isolated" if self.isolated else ""]
        self._daemon(node, *(UNSHARE if self.isolated else []), *script)

    def _daemon(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                command,
                env={"PATH": SEARCHED, MARK: f"{self.folder}/{name}/"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _wait(self, daemon: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end and self._daemons[daemon].poll() is None:
            with suppress(ClusterError):
                if condition():
                    return
            time.sleep(0.05)
        raise ClusterError(f"{daemon} is not ready within {READY_S:.0f} s\n{self.logs()}")

    def _answers(self) -> bool:
        try:
            self.ask("squeue")
        except ClusterError:
            return False
        return True

    def _end(self) -> None:
        """Ends everything in one go; nothing is worth saving."""
        while alive := processes(self.folder):
            kill(alive)
        for daemon in self._daemons.values():
            daemon.wait()


def _isolates() -> bool:
    """Whether this user may give a process its own host name, process ids and mounts."""
    try:
        tried = subprocess.run(
            [*UNSHARE, "sh", "-c", "hostname n1 && mount --bind /etc/hosts /etc/hosts"],
            capture_output=True,
            timeout=READY_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _keep() -> None:
    """Keeps a cluster for a person."""
    if reason := missing():
        sys.exit(reason)
    with (
        suppress(KeyboardInterrupt),
        cluster(Path(tempfile.gettempdir()) / f"slurm-{os.getpid()}") as made,
    ):
        print(f"export SLURM_CONF={made.configuration}", flush=True)
        signal.pause()


if __name__ == "__main__":
    _keep()
