"""The paper's preset from a checkpoint in the published layout to a report: GRPO with LoRA,
rewarded by a model behind HTTP.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_vlm
import torch
import upstream_layout
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "trainers=grpo",
    "policies.precision=float32",
    "benchmarks.categories=[color]",
    "benchmarks.n_prompts=2",
    "judge.flavour=transformers",
    "judge.max_tokens=60",
    "judge.serving.concurrency=4",
    "grounder.max_pixels=12544",
    "rewards.components.spa.size=112",
    "rewards.total=(pi+sem+spa+ri)/4*(1+low)",  # to the judge all pictures of a random model are the same
    "+rewards.components.low._target_=mini_world.LowCodes",
    "rollout.max_chain_tokens=12",
    "rollout.guidance=2",
    "grpo.steps=2",
    "grpo.prompts=2",
    "grpo.samples=3",
    "grpo.rollout_batch=4",
    "grpo.micro_batch=2",
    "grpo.gap_tolerance=1e-3",
    "grpo.learning_rate=1e-3",
    "evaluation.images_per_prompt=2",
    "resources.threads=1",
    "resources.shared_threads=1",
    "resources.gpus=0",
]


@pytest.fixture
def swept(tmp_path: Path, prompt_files: Path, judge_server: tiny_vlm.Server, vlm_folder: Path) -> Path:
    """The outputs of the sweep."""
    upstream_layout.write(tmp_path / "published", shards=2)
    words = [
        *("preset=paper_1b", *TINY, f"policies.checkpoint={tmp_path / 'published'}"),
        *(
            f"judge.serving.url={judge_server.url}",
            f"judge.model={vlm_folder}",
            f"outputs_dir={tmp_path / 'outputs'}",
            "reports_dir=null",
        ),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'mini'}",
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "harness.sweep", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return tmp_path / "outputs"


def test_the_papers_preset_trains_a_published_checkpoint_against_a_served_judge(
    swept: Path, prompt_files: Path
) -> None:
    (trained,) = swept.glob("stages/grpo-*")
    steps = [
        json.loads(line) for line in (trained / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert step["unscored"] == 0 and 0 < step["reward"] < 1
        assert all(0 <= step[f"component/{name}"] <= 1 for name in ("pi", "sem", "spa", "ri"))
        assert step["sampler_gap"] < 1e-3
    adapters = load_file(trained / "checkpoint" / "lora" / "adapter_model.safetensors")
    assert any(weight.abs().max() > 0 for name, weight in adapters.items() if "lora_B" in name)
    weights = load_file(trained / "checkpoint" / "model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    (drawn,) = swept.glob("stages/samples-*")
    assert len((drawn / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2 * len(
        (prompt_files / "color_val.txt").read_text(encoding="utf-8").splitlines()
    )
    (scored,) = swept.glob("stages/scores-*")
    rows = [json.loads(line) for line in (scored / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows and all(row["value"] is None and row["unscored"] for row in rows)
