"""Real training by several srun tasks (gloo): the numbers of one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.conftest import ROOT

WORDS = ("ablations=reward_components", "preset=smoke", "arms=w_PR", "policies.precision=float32")
TINY = ("policies.vq.steps=12", "sft.steps=4", "sft.warmup_steps=1", "sft.records=64", "sft.fsdp=true")
FEW = ("grpo.steps=2", "benchmarks.n_prompts=1", "reports_dir=null")


def sweep(outputs: Path, *words: str) -> None:
    command = [sys.executable, "-m", "harness.sweep", *WORDS, *TINY, *FEW, f"outputs_dir={outputs}", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def alone(make_once):
    """The outputs of one process without Slurm; read them, never write to them."""
    return make_once("alone", lambda folder: sweep(folder / "outputs")) / "outputs"


def metrics(outputs: Path, stage: str) -> list[dict[str, float]]:
    (file,) = outputs.glob(f"stages/{stage}-*/metrics.jsonl")
    return [{**json.loads(line), "seconds": 0.0} for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "made", "ranks"),
    [
        ("sft", ("tokenizer", "tokens"), ("resources.nodes=2",)),
        ("grpo", ("tokenizer", "tokens", "sft"), ("resources.nodes=2", "resources.processes=2")),
    ],
    ids=["sft with fsdp on two nodes", "grpo in two processes on each of two nodes"],
)
def test_ranks_that_srun_starts_train_as_one_process_does(slurm, alone, tmp_path, trained, made, ranks):
    if not slurm.isolated:
        pytest.skip("nodes without their own host names cannot be found by name")
    for name in made:
        (stage,) = alone.glob(f"stages/{name}-*")
        shutil.copytree(stage, tmp_path / "outputs" / "stages" / stage.name)
    sweep(tmp_path / "outputs", "cluster=slurm", *ranks)
    together, one = metrics(tmp_path / "outputs", trained), metrics(alone, trained)
    assert len(together) == len(one) > 1
    for row, expected in zip(together, one, strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not slurm.jobs()
