"""Checkpoints of random weights in the published layout, and the phases of `harness.bench real_size`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import mini_real_size
import pytest
import torch
from mini_real_size import TINY
from safetensors import safe_open

from harness import bench
from harness.chain import END
from harness.launch.environment import job_environment
from harness.real_size import phases, work
from policies.janus import folder as folders
from policies.janus import real_size as checkpoints
from policies.janus import text
from policies.janus.policy import JanusPolicy
from policies.janus.real_size import ONE_B, SEVEN_B, write
from policies.janus.recipe import TinyJanus


@pytest.mark.parametrize(("size", "weights", "millions"), [(ONE_B, 882, 2089.2), (SEVEN_B, 936, 7420.4)])
def test_the_published_sizes_have_the_published_numbers_of_weights(size, weights, millions) -> None:
    shapes = checkpoints.shapes(checkpoints.published_config(size, torch.bfloat16))
    counted = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith("codebook_used"))
    assert len(shapes) == weights and counted / 1e6 == pytest.approx(millions, abs=0.05)


def test_names_and_shapes_are_those_of_the_original_program(conformance_dir: Path) -> None:
    upstream = conformance_dir / "janus_tiny" / "checkpoint"
    shapes = checkpoints.shapes(json.loads((upstream / "config.json").read_text(encoding="utf-8")))
    with safe_open(upstream / "model.safetensors", framework="pt") as tensors:
        wanted = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    assert {name: tuple(shape) for name, shape in shapes.items()} == wanted


@pytest.mark.parametrize(("size", "pad"), [(ONE_B, 100_002), (SEVEN_B, 100_015)])
def test_special_tokens_have_the_published_ids(size, pad) -> None:
    tokenizer = checkpoints._tokenizer(size)
    ids = {text.BOS: 100_000, text.EOS: 100_001, text.PAD: pad, END: 100_016, "<end_of_image>": 100_593}
    assert {token: tokenizer.token_to_id(token) for token in ids} == ids
    written = "A small red circle,\n\nthen 12 kites: 日本"
    ids = tokenizer.encode(written, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == written and max(ids) < 100_000
    assert len(tokenizer.encode(" red", add_special_tokens=False).ids) < 4, "letters are joined"


def test_a_checkpoint_is_written_in_shards_and_draws(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 2**20)
    write(tmp_path, TINY)
    read = folders.read(tmp_path)
    assert read.original and read.index is not None and len(read.weights) > 2
    index = json.loads(read.index.read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(
        tensor.nbytes for file in read.weights for tensor in _tensors(file).values()
    )
    for file in read.weights:
        held = _tensors(file)
        assert set(held) == {name for name, shard in index["weight_map"].items() if shard == file.name}
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= 2**20
    policy = JanusPolicy(tmp_path, template="{caption}")
    assert policy.image_size == (TINY.image_size, TINY.image_size)
    assert policy.module.lm_head.out_features == TINY.vocabulary


def test_a_seed_decides_the_weights(tmp_path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        write(tmp_path / name, TINY, torch.float32, seed)
    one, again, other = (_tensors(tmp_path / name / SINGLE) for name in ("one", "again", "other"))
    head = "language_model.lm_head.weight"
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())
    assert not torch.equal(one[head], other[head])
    assert one[head].std().item() == pytest.approx(checkpoints.STD, rel=0.05)


SINGLE = "model-00001-of-00001.safetensors"


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(file, framework="pt") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118


def test_every_phase_runs_and_stands_beside_its_estimate(tmp_path, monkeypatch, capsys) -> None:
    """In this process, without the start of Python for each."""
    monkeypatch.setattr(TinyJanus, "real_size", "mini_real_size.models")
    monkeypatch.setattr(phases, "run", _in_this_process)
    assert bench.main(["real_size", f"outputs_dir={tmp_path}", "rollout.max_chain_tokens=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split("  ")[0] for line in lines]
    assert names == [
        "tiny: write",
        "tiny: load to draw",
        "tiny: draw a prompt",
        "tiny: decode an image",
        "tiny: GRPO step with LoRA",
        "tiny: resume, GRPO step, save",
        "tiny: load what was saved",
        "short: write",
        "short: encode 2 records",
        "short: SFT step",
        "large: write",
        "large: load to draw",
        "large: write 8 tokens",
    ]
    without = {"tiny: write", "short: write", "large: write", "short: encode 2 records"}
    assert {name for name, line in zip(names, lines, strict=True) if "no estimate" in line} == without
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def _in_this_process(task: phases.Task) -> phases.Phase:
    model = next(model for model in mini_real_size.models() if model.name == task.model)
    return phases.Phase(name=task.name, **asdict(work.TASKS[task.do](task, model)), peak_bytes=1.0)


def test_a_phase_has_a_process_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(mini_real_size.__file__).parent))
    task = phases.Task(
        name="tiny: write",
        do="write",
        models="mini_real_size.models",
        model="tiny",
        checkpoint=str(tmp_path / "checkpoint"),
        work=str(tmp_path),
        words=[],
    )
    with job_environment(1):
        phase = phases.run(task)
        assert folders.read(tmp_path / "checkpoint").original
        assert phase.name == task.name and phase.peak_bytes > 100 * 2**20 and phase.unit == "GB"
        with pytest.raises(ValueError, match="the phase 'tiny: write' ended with code 1"):
            phases.run(phases.Task(**{**asdict(task), "model": "none of them"}))


def test_a_model_that_does_not_fit_is_left_out_with_the_reason(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(TinyJanus, "real_size", "mini_real_size.models")
    monkeypatch.setattr(phases, "run", _in_this_process)
    monkeypatch.setattr(work, "_room", lambda: 2.0**20)
    assert bench.main(["real_size", f"outputs_dir={tmp_path}"]) == 0
    left_out = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(left_out) == 3 and "tiny: the rest is left out: it takes about" in left_out[0]
    assert "of memory, and 1.0 MB are free" in left_out[0]
    monkeypatch.setattr(phases, "SPARE_GB", 1e9)
    assert bench.main(["real_size", f"outputs_dir={tmp_path}"]) == 0
    assert "free some, or name another folder with outputs_dir=" in capsys.readouterr().out
