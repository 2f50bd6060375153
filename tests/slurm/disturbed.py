"""The study that faults meet: its command is run again whenever it has ended."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.slurm.cluster import ClusterError, SlurmCluster

ROOT = Path(__file__).resolve().parents[2]
STUDY = ("ablations=reward_components", "preset=smoke")
ON_SLURM = ("cluster=slurm", "resources.timeout_min=30", "resources.memory_gb=2", "cluster.max_jobs=4")
RUNS = 10  # of the command without faults; to need more is a fault of the harness
RUN_S = 900.0


def command(outputs: Path, reports: Path, *words: str) -> list[str]:
    """The command of the study."""
    folders = (f"outputs_dir={outputs}", f"reports_dir={reports}")
    return [sys.executable, "-m", "harness.sweep", *STUDY, *folders, *words]


@dataclass
class DisturbedStudy:
    """The study on a cluster. A study that is complete is followed by one from scratch.

    Args:
        slurm: the cluster.
        disk: the folder of all outputs.
        log: what the command prints.
    """

    slurm: SlurmCluster
    disk: Path
    log: Path
    studies: int = 1
    runs: int = 0
    process: subprocess.Popen[bytes] | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def outputs(self) -> list[Path]:
        """The outputs of all studies; the last one may be incomplete."""
        return [self.disk / f"study-{number}" for number in range(1, self.studies + 1)]

    def reports(self, outputs: Path) -> Path:
        return self.log.with_name("reports") / outputs.name

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def start(self) -> None:
        """Runs the command, unless it runs."""
        if self.process is not None:
            if self.process.poll() is None:
                return
            self.say(f"the command ended with {self.process.returncode}")
            self.studies += self.process.returncode == 0
        self.runs += 1
        outputs = self.outputs[-1]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(outputs, self.reports(outputs), *ON_SLURM),
                cwd=ROOT,
                env=self.slurm.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.say(f"run {self.runs} of the command, study {self.studies}")

    def tend(self) -> None:
        """Does what an operator does: nodes that Slurm has drained work again, held jobs are released."""
        for node in self.slurm.nodes:
            self.slurm.start_node(node)
        for job in self.slurm.jobs():
            if "held" in job.reason.lower() or job.state in ("REQUEUE_HOLD", "SPECIAL_EXIT"):
                with suppress(ClusterError):
                    self.slurm.ask("scontrol", "release", job.id)

    def complete(self) -> bool:
        """Runs the command without faults until it ends with 0. Returns whether it does."""
        for _ in range(RUNS):
            self.start()
            assert self.process is not None
            end = time.monotonic() + RUN_S
            while self.process.poll() is None and time.monotonic() < end:
                self.tend()
                time.sleep(2.0)
            if self.process.poll() == 0:
                self.say("the command ended with 0")
                return True
            self.process.kill()
            self.process.wait()
        return False
