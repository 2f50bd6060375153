"""The memory estimate: sizes against models and published totals, bytes against a measured process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mini_world import POLICY, FakeWorkspace

from harness import command
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.launch import run
from harness.protocols import ModelSizes
from harness.stages import provenance
from harness.study import memory, memory_items
from harness.study.planning import expand, plan
from policies.janus import sizes

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"weights": "float32", "precision": "float32", "recompute": False}
POOL = 12_596_224  # of the reading tower: in the published files, never run, and not in transformers' class
FACTOR = 1.4  # within which the estimate is


def published(name: str, **changes: Any) -> ModelSizes:
    found = sizes.of(None, name, {**PLAIN, **changes})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "millions"), [("deepseek-ai/Janus-Pro-1B", 2089.2), ("gogoduan/GoT-R1-7B", 7420.4)]
)
def test_the_published_models_have_the_published_sizes(name: str, millions: float) -> None:
    assert (sum(published(name).parameters.values()) + POOL) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_name_without_a_size_is_not_guessed(tmp_path: Path) -> None:
    assert sizes.of(None, str(tmp_path), PLAIN) is None
    assert sizes.of(None, "x/Janus-1.3B", PLAIN) is None and sizes.of(None, "x/Janus-17B", PLAIN) is None


def test_sizes_are_those_of_the_model_itself(janus_folder: Path) -> None:
    from policies.janus.policy import JanusPolicy

    found = sizes.of(janus_folder, "owner/name", PLAIN)
    assert found is not None
    module = JanusPolicy(janus_folder, template="{caption}", trainable=True).module
    assert sum(found.parameters.values()) == sum(one.numel() for one in module.parameters())
    assert sum(found.parameters[part] for part in found.trained) == sum(
        one.numel() for one in module.parameters() if one.requires_grad
    )
    linears = {
        name: (one.in_features, one.out_features)
        for name, one in module.named_modules()
        if type(one).__name__ == "Linear"
    }
    trained = ("model.language_model", "lm_head", "model.generation_")
    assert dict(found.linears) == {name: shape for name, shape in linears.items() if name.startswith(trained)}
    layers = module.model.language_model.layers
    assert found.parameters["layers"] == sum(
        one.numel() for one in layers.parameters()
    ) and found.layers == len(layers)
    assert found.image_tokens == module.config.vq_config.num_patches**2


def test_sizes_of_a_model_to_be_made_are_those_of_the_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mini_world import BENCHMARK

    from policies.janus import tiny

    monkeypatch.setattr(tiny, "_train_vq", lambda *_: None)
    tiny.build(FakeWorkspace(tmp_path), {**POLICY, "benchmark": BENCHMARK, "seed": 0}, {})
    made = sizes.of(tmp_path / "checkpoint", "", PLAIN)
    before = sizes.of_tiny_janus(make(POLICY), None)
    assert made == replace(
        before, vocabulary=made.vocabulary, linears=made.linears, parameters=made.parameters
    )  # a text decides its words
    rows = made.vocabulary - before.vocabulary
    differences = {name: count - before.parameters[name] for name, count in made.parameters.items()}
    assert {name: one for name, one in differences.items() if one} == {
        "embeddings": rows * made.hidden,
        "text head": rows * made.hidden,
    }


def test_the_estimate_is_near_what_a_process_takes() -> None:
    import memory_probe as probe

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, str(ROOT / "tests" / "mini" / "memory_probe.py")]
    runs = []
    for _ in range(2):
        run = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
        runs.append(json.loads(run.stdout))
    # The allocator only adds to a peak, up to a tenth from run to run.
    measured = {name: min(run[name] for run in runs) for name in runs[0]}
    training = memory_items.Training(
        rows=probe.ROWS,
        tokens=probe.PROMPT + probe.CHAIN + probe.SIDE**2,
        chain=probe.CHAIN,
        adapters=None,
        shards=1,
        remedies={"gradients": "", "activations": ""},
    )
    kept, again = (
        sizes.of_config(probe.CONFIG.to_dict(), {**PLAIN, "recompute": recompute})
        for recompute in (False, True)
    )
    estimated = {
        "update": memory_items.update(kept, training, processes=1, gpu=False),
        "recompute": memory_items.update(again, training, processes=1, gpu=False),
        "rollout": (
            *memory_items.rollout(kept, probe.ROWS, probe.CHAIN, guided=True, gpu=False, remedy="")[
                "rollout"
            ],
            *memory_items.laid_out(kept, copied=False, gpu=False),
        ),
    }
    for name, items in estimated.items():
        bytes_ = sum(item.bytes for item in items)
        assert measured[name] / FACTOR < bytes_ < measured[name] * FACTOR, (name, measured)


def estimates(*words: str, processes: int = 1, gpu: bool = True) -> dict[str, memory.StageMemory]:
    chosen = command.choose([*words])
    found = (
        memory.estimate(stage, chosen.cell.config, chosen.store, processes=processes, gpu=gpu)
        for stage in chosen.cell.stages
    )
    return {one.stage: one for one in found if one is not None}


def bytes_of(stage: memory.StageMemory, name: str) -> float:
    """The bytes of all items of that name."""
    items = list(stage.resident)
    for phase in stage.phases.values():
        items.extend(phase)
    return sum(item.bytes for item in items if item.name == name)


LORA = r"grpo.lora={rank: 32, alpha: 32, targets: 'model\.language_model\.layers\..*_proj'}"
ONE_B = ("policies=got_r1_1b", "policies.recompute=false", "rollout.guidance=5")


def test_parts_of_the_1b_model() -> None:
    found = estimates(*ONE_B)
    assert set(found) == {"sft", "grpo", "samples"}
    total, trained = 2076.6e6, 1694.8e6
    assert bytes_of(found["sft"], "weights") == pytest.approx(4 * total, rel=1e-3)
    assert bytes_of(found["sft"], "optimizer") == pytest.approx(8 * trained, rel=1e-2)
    assert bytes_of(found["grpo"], "reference") == bytes_of(found["sft"], "weights"), (
        "all weights trained: the start is kept beside them"
    )
    per_token = (
        196_608 / 2
    )  # bytes of keys and values in bfloat16: half of float16's 196,608 a guided pair would take
    slots = 64 + 64 + 2 * 576
    assert bytes_of(found["samples"], "keys and values") == pytest.approx(
        100 * slots * 2 * per_token, rel=1e-6
    )


def test_drawing_alone_holds_the_layers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "cpu_flags", lambda: frozenset({"avx512bw", "avx512_bf16"}))
    laid_out = 1480e6  # layers and heads
    for precision, gpu, wanted in (("float32", False, 4), ("auto", False, 2), ("auto", True, 2)):
        samples = estimates(*ONE_B, f"policies.precision={precision}", gpu=gpu)["samples"]
        assert bytes_of(samples, "weights laid out for drawing") == pytest.approx(wanted * laid_out, rel=1e-2)
        assert bytes_of(samples, "weights") == 0
    monkeypatch.setattr(provenance, "cpu_flags", frozenset)
    for precision in ("auto", "bfloat16"):
        samples = estimates(*ONE_B, f"policies.precision={precision}", gpu=False)["samples"]
        assert bytes_of(samples, "weights laid out for drawing") == pytest.approx(4 * laid_out, rel=1e-2), (
            "without kernels for bfloat16 the products are float32"
        )


def test_dpo_takes_the_memory_of_grpo_with_two_sequences_for_each_pair() -> None:
    sizes_of = (*ONE_B, "trainers=sft_dpo", "dpo.pairs=8", "dpo.samples=8")
    grpo = estimates(*ONE_B, "grpo.prompts=8", "grpo.samples=8", "grpo.micro_batch=8")["grpo"]
    dpo = estimates(*sizes_of, "dpo.micro_batch=4")["dpo"]
    for name in ("reference", "keys and values", "activations", "logits", "optimizer"):
        assert bytes_of(dpo, name) == bytes_of(grpo, name) > 0, name
    all_pairs = estimates(*sizes_of, "dpo.micro_batch=100")["dpo"]
    assert bytes_of(all_pairs, "activations") == 2 * bytes_of(dpo, "activations"), "8 pairs are all there are"
    adapters = estimates(*sizes_of, "dpo.micro_batch=4", LORA.replace("grpo", "dpo"))["dpo"]
    assert bytes_of(adapters, "reference") == 0
    assert "dpo.micro_batch=2 (is 4)" in dpo.advice()


def test_every_remedy_lowers_its_bytes_of() -> None:
    before = estimates(*ONE_B)
    for words, stage, name in (
        ([LORA], "grpo", "optimizer"),
        ([LORA], "grpo", "reference"),
        (["grpo.micro_batch=16"], "grpo", "activations"),
        (["policies.recompute=true"], "grpo", "activations"),
        (["policies.recompute=true"], "sft", "activations"),
        (["sft.micro_batch=4"], "sft", "activations"),
        (["grpo.rollout_batch=16"], "grpo", "keys and values"),
        (["evaluation.batch_size=50"], "samples", "keys and values"),
        (["policies.weights=bfloat16"], "samples", "weights as they are"),
    ):
        assert bytes_of(estimates(*ONE_B, *words)[stage], name) < 0.6 * bytes_of(before[stage], name), words
    cut = estimates(*ONE_B, "sft.fsdp=true", "resources.processes=8", processes=8)["sft"]
    for name in ("weights", "gradients", "optimizer"):
        assert bytes_of(cut, name) < 0.5 * bytes_of(before["sft"], name)
    assert "weights before they are sharded" in [item.name for item in cut.phases["start"]]


def test_more_processes_hold_fewer_samples_each() -> None:
    one, eight = (
        estimates(*ONE_B, f"resources.processes={count}", processes=count)["grpo"] for count in (1, 8)
    )
    assert bytes_of(eight, "keys and values") == bytes_of(one, "keys and values") / 8
    assert bytes_of(eight, "activations") == bytes_of(one, "activations") / 4, (
        "a micro-batch of 32 of the 8 samples that each has"
    )


def check(words: list[str], gpu_gb: float | None = None, host_gb: float | None = None) -> None:
    with command.composed(words) as root:
        study = plan(root.config, root.loader, expand(root.config, root.overrides))
        cluster = SimpleNamespace(gpu_gb=gpu_gb, host_gb=host_gb, poll_s=1.0)
        run._check_memory(study, root.config.resources, cluster)


def test_a_study_that_cannot_fit_is_refused_with_the_settings_to_change(capsys) -> None:
    words = [*ONE_B, "outputs_dir=/nowhere", "ablations=reward_components", "arm=w_PI"]
    for more, gpu_gb in (([], 40.0), (["resources.gpu_memory_gb=40"], None)):
        with pytest.raises(UsageError) as error:
            check([*words, *more], gpu_gb)
        for expected in (
            "in arm w_PI",
            "stage sft needs about",
            "has 40 GB",
            "activations",
            "policies.recompute=true",
            "harness.doctor",
        ):
            assert expected in str(error.value)
    check(words, 1000.0)
    check(["outputs_dir=/nowhere"], 2.0)
    assert capsys.readouterr().err == ""


def test_on_cpus_it_is_a_warning(capsys) -> None:
    check([*ONE_B, "outputs_dir=/nowhere"], host_gb=10.0)
    said = capsys.readouterr().err
    assert said.count("warning: in arm single") == 3 and "which has 10 GB" in said
    check(["outputs_dir=/nowhere"], host_gb=10.0)
    assert capsys.readouterr().err == ""
