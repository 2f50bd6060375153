"""Janus's phases of `harness.bench gpu`, all of them on the CPU with a tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_gpu
import torch

from harness.gpu import report
from policies.janus import floor
from policies.janus.gpu import bench, checks, speed
from policies.janus.gpu.subject import model, special
from policies.janus.steps import Replayed


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    rates = floor.Rates(bytes_s=1e9, flops_s=1e10)
    monkeypatch.setattr(floor, "measured_rates", lambda dtype, device: rates)


def measured(phases):
    return {one.name: one for one in phases}


@pytest.mark.parametrize("number", range(len(bench.sized(tiny_gpu.SIZES, "cpu", None).phases)))
def test_every_phase_runs_on_the_cpu_and_its_checks_pass(number, tmp_path, monkeypatch):
    sizes = replace(tiny_gpu.SIZES, seven=replace(tiny_gpu.TINY, name="another"))
    monkeypatch.setattr(Replayed, "bucket", 4)
    phase = bench.sized(sizes, "cpu", tmp_path).phases[number]
    found = list(phase.run())
    assert found and all(report.verdict(one) != "FAILED" for one in found)
    assert all(one.value >= 0 for one in found)


def test_phases_have_a_memory_and_a_time_that_fit_the_device_that_they_are_for():
    phases = bench.bench("cuda", None).phases
    assert sum(phase.seconds for phase in phases) < 300
    assert all(phase.gigabytes < 80 for phase in phases)
    names = [phase.name for phase in phases]
    assert len(set(names)) == len(names)


def test_another_model_on_the_device_fails_the_equality(monkeypatch):
    class Shifted(checks.Likelihood):
        def logprobs(self, *arguments, **named):
            scored = super().logprobs(*arguments, **named)
            made.append(scored)
            return replace(scored, values_BT=scored.values_BT + 0.01 * len(made))

    made: list = []
    monkeypatch.setattr(checks, "Likelihood", Shifted)
    found = measured(checks.equality(tiny_gpu.TINY, tiny_gpu.LOAD, "cpu"))
    assert report.verdict(found["largest log-prob difference, replay"]) == "FAILED"
    assert report.verdict(found["largest log-prob difference, sampler"]) == "passed"


def test_steps_that_differ_fail_the_check_of_graphs(monkeypatch):
    class Wrong(Replayed):
        def __call__(self, *step):
            return super().__call__(*step).roll(1, -1)

    monkeypatch.setattr(checks, "Replayed", Wrong)
    found = measured(checks.graphs(tiny_gpu.TINY, tiny_gpu.LOAD, "cpu"))
    assert found["samples with other tokens"].value == 4
    assert report.verdict(found["samples with other tokens"]) == "FAILED"


def test_the_gap_is_the_mean_over_the_actions_of_each_stage(monkeypatch):
    class Far(checks.Likelihood):
        def logprobs(self, *arguments, **named):
            scored = super().logprobs(*arguments, **named)
            return replace(scored, values_BT=scored.values_BT - 0.5 * scored.image_BT)

    monkeypatch.setattr(checks, "Likelihood", Far)
    found = measured(checks.gap(tiny_gpu.TINY, tiny_gpu.LOAD, "cpu"))
    assert found["mean gap, image"].value == pytest.approx(0.5, abs=0.1)
    assert report.verdict(found["mean gap, image"]) == "FAILED"
    assert report.verdict(found["mean gap, chain"]) == "passed"


def test_the_share_of_the_floor_is_that_of_the_measured_time(monkeypatch):
    monkeypatch.setattr(speed, "timed_rollout", lambda *_: {"chain": 2.0, "image": 4.0})
    found = measured(speed.rollout(tiny_gpu.TINY, tiny_gpu.LOAD, "cpu"))
    least = floor.seconds(
        tiny_gpu.LOAD.floor_work(tiny_gpu.TINY), torch.bfloat16, floor.Rates(bytes_s=1e9, flops_s=1e10)
    )
    assert found["chain tokens"].value == 4 * 5 / 2.0 and found["image tokens"].value == 4 * 9 / 4.0
    assert found["chain, share of the floor"].value == pytest.approx(100 * least["chain"] / 2)
    whole = found["rollout, share of the floor"]
    assert whole.value == pytest.approx(100 * sum(least.values()) / 6) and whole.aim == 40


def test_a_checkpoint_is_written_once_and_its_study_is_the_papers_step(tmp_path):
    from harness import command

    chosen = command.choose(bench.study(tiny_gpu.TINY, tmp_path))
    settings = chosen.trained.settings
    assert (settings["grpo"]["prompts"], settings["grpo"]["samples"]) == (8, 16)
    assert settings["grpo"]["lora"]["rank"] == 32 and settings["rollout"]["guidance"] == 5
    written = (tmp_path / "janus-tiny" / "config.json").stat().st_mtime_ns
    bench.study(tiny_gpu.TINY, tmp_path)
    assert (tmp_path / "janus-tiny" / "config.json").stat().st_mtime_ns == written


def test_chains_of_the_timed_model_reach_their_limit():
    made = model(tiny_gpu.TINY, torch.bfloat16, "cpu")
    assert not made.lm_head.weight[special(tiny_gpu.TINY)["boi"]].any()
    assert made.model.vqmodel.post_quant_conv.weight.dtype == torch.float32
    prompts = tiny_gpu.LOAD.prompts(tiny_gpu.TINY, ragged=True)
    assert len(prompts) == 4 and prompts[0] == prompts[1] and len(prompts[0]) > len(prompts[2])


def test_other_tokens_on_the_device_fail_the_equality(monkeypatch):
    drawn = checks._rollout

    def other(made, size, load, **named):
        rollouts.append(drawn(made, size, load, **named))
        return rollouts[0] if len(rollouts) == 1 else replace(rollouts[0], tokens=rollouts[0].tokens[::-1])

    rollouts: list = []
    monkeypatch.setattr(checks, "_rollout", other)
    found = measured(checks.equality(tiny_gpu.TINY, tiny_gpu.LOAD, "cpu"))
    assert found["samples with other tokens"].value == 4
    assert report.verdict(found["samples with other tokens"]) == "FAILED"
