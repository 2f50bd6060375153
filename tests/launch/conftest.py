"""Real sweeps of the toy world, as processes of their own, and recorded fakes of Slurm's commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.launch import site

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "toy"
SBATCH = """#!/bin/bash
script="${@: -1}"
case "$1" in
  --version) echo "slurm 22.05.8"; exit;;
  --test-only) [ -f "$FAKE_SLURM/never" ] || exit 0; cat "$FAKE_SLURM/never" >&2; exit 1;;
esac
id=$(( $(ls "$FAKE_SLURM"/job-*.sh 2>/dev/null | wc -l) + 4242 ))
cp "$script" "$FAKE_SLURM/job-$id.sh"
env > "$FAKE_SLURM/env-$id"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$script")
for task in $(seq 0 ${last:-0}); do
  [ -n "$last" ] && export SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$task
  SLURM_JOB_ID=$((id + task)) SLURM_NTASKS=1 SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 SLURM_PROCID=0 \\
    SLURM_LOCALID=0 setsid bash "$script" > "$FAKE_SLURM/out-$id-$task" 2>&1 < /dev/null &
done
echo "Submitted batch job $id"
"""
SRUN = f"""#!/bin/bash
while [ "$1" != "{sys.executable}" ]; do shift; done
exec "$@"
"""
SQUEUE = """#!/bin/bash
echo "$@" >> "$FAKE_SLURM/asked"
cat "$FAKE_SLURM/queue"
"""
SCANCEL = """#!/bin/bash
echo "$@" >> "$FAKE_SLURM/cancelled"
"""
SCONTROL = """#!/bin/bash
cat "$FAKE_SLURM/$2" 2>/dev/null
"""
PATIENCE_S = 180.0  # a test waits for states; this only ends one that will never come


@dataclass
class Sweeps:
    """Sweeps that share one outputs folder; training waits after its step while the file `hold` exists.

    They run in the folder `checkout`, with the toy world in the folder `toy`.
    """

    outputs: Path
    checkout: Path = ROOT
    toy: Path = TOY
    module: str = "harness.sweep"
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def hold(self) -> Path:
        return self.outputs.with_name("hold")

    def start(self, *words: str, sigint: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
        """Starts a sweep that inherits `sigint`, as from a terminal (SIG_DFL) or a shell's `&` (SIG_IGN)."""
        command = [sys.executable, "-m", self.module, "ablations=toy", "--config-dir", str(self.toy)]
        command += [f"outputs_dir={self.outputs}", "reports_dir=null", *words]
        process = subprocess.Popen(
            command,
            cwd=self.checkout,
            env={**os.environ, "TOY_HOLD": str(self.hold)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=partial(signal.signal, signal.SIGINT, sigint),
        )
        self.started.append(process)
        return process

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=3 * PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def plan(self, study: str = "toy") -> dict[str, Any]:
        return json.loads((self.outputs / "studies" / study / "plan.json").read_text())

    def status(self, arm: str, study: str = "toy") -> dict[str, Any]:
        (folder,) = (cell["folder"] for cell in self.plan(study)["cells"] if cell["arm"] == arm)
        return json.loads((self.outputs / "studies" / study / folder / "status.json").read_text())

    def states(self, study: str = "toy") -> dict[str, str]:
        return {cell["arm"]: self.status(cell["arm"], study)["state"] for cell in self.plan(study)["cells"]}

    def stage(self, arm: str, name: str, study: str = "toy") -> Path:
        """The folder of a stage of an arm."""
        (cell,) = (cell for cell in self.plan(study)["cells"] if cell["arm"] == arm)
        return self.outputs / next(stage["folder"] for stage in cell["stages"] if stage["name"] == name)

    def scores(self, arm: str, study: str = "toy") -> str:
        return (self.stage(arm, "scores", study) / "scores.jsonl").read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition over files that may not be there yet."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except (FileNotFoundError, ValueError):
                pass
            time.sleep(0.05)
        raise AssertionError("it did not happen in time")


@pytest.fixture(autouse=True)
def own_handlers(handlers: None) -> None:
    """Every test here."""


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Sweeps]:
    made = Sweeps(tmp_path / "outputs")
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def undisturbed(make_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The outputs of one undisturbed sweep; copy them, never write to them."""

    def write(folder: Path) -> None:
        ended = Sweeps(folder / "outputs").run("-m")
        assert ended.returncode == 0, ended.stderr

    return make_once("sweep", write) / "outputs"


@pytest.fixture(scope="module")
def finished(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """That sweep, to read from, to compare with and to add to."""
    return Sweeps(shutil.copytree(undisturbed, tmp_path_factory.mktemp("finished") / "outputs"))


@pytest.fixture
def copied(undisturbed: Path, tmp_path: Path) -> Sweeps:
    """That sweep in a folder of the test's own, to damage."""
    return Sweeps(shutil.copytree(undisturbed, tmp_path / "outputs"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with Slurm's commands; files there say what they answer, and keep what they got."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    commands = {"sbatch": SBATCH, "srun": SRUN, "squeue": SQUEUE, "scancel": SCANCEL, "scontrol": SCONTROL}
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    for function in (site.version, site.settings):
        function.cache_clear()
    return folder


def listed(slurm: Path, *jobs: str) -> None:
    """Makes the fake squeue list these jobs."""
    (slurm / "queue").write_text("".join(f"{job}|PENDING|Priority|/x/jobs/token/x.sh\n" for job in jobs))
