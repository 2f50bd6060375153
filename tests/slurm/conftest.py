"""A real Slurm, one for each worker of the test run, and sweeps that submit to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.stages.status import Status, read_status
from tests.conftest import MakeOnce
from tests.launch.conftest import Sweeps
from tests.slurm.cluster import ClusterError, SlurmCluster, cluster, missing
from tests.slurm.equal import files_of

SWEEP_S = 120.0  # more than any sweep of these tests takes


@pytest.fixture(scope="session")
def started_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            made = stack.enter_context(cluster(tmp_path_factory.mktemp("slurm") / "cluster"))
        except ClusterError as error:
            if os.getuid() == 0:
                raise
            pytest.skip(f"this user cannot start a Slurm: {error}")
        yield made


@pytest.fixture
def slurm_without_requeue(
    slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmCluster]:
    """One node of a site that does not queue jobs again by itself; commands of the test find it."""
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster", nodes=1, requeue=False) as made:
        monkeypatch.setenv("SLURM_CONF", str(made.configuration))
        yield made


@pytest.fixture
def slurm(started_slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A Slurm that works and has no jobs; commands of the test find it."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, started_slurm.environment()[name])
    yield started_slurm
    started_slurm.heal()


@dataclass
class SlurmSweeps(Sweeps):
    """Sweeps of toy studies with `cluster=slurm`; their stages are compared with those of `reference`."""

    slurm: SlurmCluster = field(kw_only=True)
    reference: Path = field(kw_only=True)

    def start(self, *words: str, sigint: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
        return super().start("cluster=slurm", *words, sigint=sigint)

    def copy_shared(self) -> None:
        """Makes the stages that all cells share, so that the cells can start at once."""
        for name in ("base-*", "warm-*"):
            (stage,) = self.reference.glob(f"stages/{name}")
            shutil.copytree(stage, self.outputs / "stages" / stage.name, dirs_exist_ok=True)

    def start_held(self, *words: str, held: int | None = None) -> subprocess.Popen[str]:
        """Starts a sweep whose shared stages are made, and returns once its cells are held in their training.

        `held` is the number of cells to wait for; default: all.
        """
        self.copy_shared()
        self.hold.touch()
        sweep = self.start(*words)
        self.slurm.until(
            lambda: sweep.poll() is not None or len(self._in_training()) == (held or len(self.cells()))
        )
        assert sweep.poll() is None, self.end_of(sweep)
        return sweep

    def _in_training(self) -> list[str]:
        return [name for name, status in self.cells().items() if status.step is not None and status.step >= 1]

    def end_of(self, sweep: subprocess.Popen[str]) -> str:
        """Waits for the end of a sweep and returns what it wrote to stderr, which holds no traceback."""
        try:
            _, errors = sweep.communicate(timeout=SWEEP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the sweep does not end; jobs: {self.slurm.jobs()}\n{self.slurm.logs()}"
            ) from None
        assert "Traceback" not in errors, errors
        return errors

    def cells(self, study: str = "toy") -> dict[str, Status]:
        """The status of every cell, by arm and seed: `half 0`."""
        folder = self.outputs / "studies" / study
        return {
            f"{cell['arm']} {cell['seed']}": read_status(folder / cell["folder"])
            for cell in self.plan(study)["cells"]
        }

    def record(self, stage: Path) -> dict[str, Any]:
        return json.loads((stage / "stage.json").read_text())

    def release(self) -> None:
        self.hold.unlink(missing_ok=True)

    def complete(self, *words: str) -> int:
        """Runs the same command until it ends with 0, and returns how often it was run.

        Raises:
            AssertionError: the third run is not enough.
        """
        for runs in range(1, 4):
            ended = self.run(*words)
            if ended.returncode == 0:
                return runs
        raise AssertionError(f"{ended.stdout}\n{ended.stderr}\n{self.slurm.logs()}")

    def check(self, cells: int, study: str = "toy") -> None:
        """Asserts that a study is complete: no job and no draft left, all stages as in the reference."""
        left = [job for job in self.slurm.jobs() if job.state != "COMPLETING"]
        assert not left
        self.slurm.until_idle()
        assert [status.state for status in self.cells(study).values()] == ["done"] * cells
        names = {stage["folder"] for cell in self.plan(study)["cells"] for stage in cell["stages"]}
        assert not [path.name for path in (self.outputs / "stages").iterdir() if path.suffix]
        for name in names:
            assert files_of(self.outputs / name) == files_of(self.reference / name), name


@pytest.fixture(scope="session")
def reference(make_once: MakeOnce) -> Path:
    """The outputs of an undisturbed local sweep with every cell of these tests; never write to them."""

    def write(folder: Path) -> None:
        ended = Sweeps(folder / "outputs").run("seed=0,1,2")
        assert ended.returncode == 0, ended.stderr

    return make_once("reference", write) / "outputs"


@pytest.fixture
def sweeps(slurm: SlurmCluster, reference: Path, tmp_path: Path) -> Iterator[SlurmSweeps]:
    made = SlurmSweeps(tmp_path / "outputs", module="tests.slurm.impatient", slurm=slurm, reference=reference)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
