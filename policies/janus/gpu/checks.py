"""Checks: a device equals the CPU, recorded steps equal single ones, and replay equals the sampler."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import JanusForConditionalGeneration

from harness.protocols import Measured
from harness.types import Sampling, TokenLogprobs
from policies.janus import vq
from policies.janus.bench import TimedEngine
from policies.janus.engine import Engine, Rollouts
from policies.janus.gpu.subject import Load, differing, exact, model, special
from policies.janus.likelihood import Likelihood
from policies.janus.precision import products
from policies.janus.real_size import Size
from policies.janus.steps import Replayed

LOGPROB = 1e-3  # nats: rounding of float32 is about 1e-5
BETWEEN = 1  # samples: about 1 in 20 runs has a random number so near a token's bound that rounding decides
LEVEL = 1  # of 255: images are truncated to levels, so that rounding may change one
GAP = 0.2  # nats per token: `grpo.gap_tolerance` of the preset paper_1b


def equality(size: Size, load: Load, device: str) -> Iterator[Measured]:
    """Differences of the CPU and the device in float32 without TF32: rollouts, log-probs, pixels."""
    on_cpu = model(size, torch.float32, "cpu", ends=True)
    on_device = copy.deepcopy(on_cpu).to(device)
    with exact():
        one, other = _rollout(on_cpu, size, load), _rollout(on_device, size, load)
    yield Measured(
        name="samples with other tokens",
        value=differing(one.tokens, other.tokens),
        at_most=BETWEEN,
        note=f"of {load.rows}, with {_tokens(one)} tokens; a random number may lie between two tokens",
    )
    yield _logprob_difference("sampler", one, other)
    with exact(), torch.no_grad():
        scored = [_score(made, size, one, load.sampling) for made in (on_cpu, on_device)]
    gap = (scored[0].values_BT - scored[1].values_BT.cpu()).abs().max()
    yield Measured(name="largest log-prob difference, replay", value=float(gap), unit="nats", at_most=LOGPROB)
    codes = [tokens.image for tokens in one.tokens]
    expected = _pixels(on_cpu, codes)
    with exact():
        levels = np.abs(expected - _pixels(on_device, codes)).max()
    yield Measured(name="largest pixel difference", value=float(levels), unit="levels", at_most=LEVEL)
    levels = np.abs(expected - _pixels(on_device, codes)).max()
    yield Measured(
        name="the same with torch's defaults",
        value=float(levels),
        unit="levels",
        note="convolutions may use TF32 there",
    )


class Unrecorded(Replayed):
    """The same steps launched kernel by kernel: every step is the first of its bucket."""

    def __call__(self, *step: Any) -> Tensor:
        self._graphs.clear()
        return super().__call__(*step)


def graphs(size: Size, load: Load, device: str) -> Iterator[Measured]:
    """Differences of steps that a GPU records (CUDA graphs) from the same steps unrecorded, in float32."""
    made = model(size, torch.float32, device, ends=True)
    with exact():
        eager, replayed = (_rollout(made, size, load, steps=steps) for steps in (Unrecorded, Replayed))
    yield Measured(
        name="samples with other tokens",
        value=differing(eager.tokens, replayed.tokens),
        at_most=0,
        note=f"{load.rows} samples, {_tokens(eager)} tokens",
    )
    yield _logprob_difference("sampler", eager, replayed)


def graph_speed(size: Size, load: Load, device: str) -> Iterator[Measured]:
    """How many times as fast steps are when they are recorded, in bfloat16."""
    made = model(size, torch.bfloat16, device)
    seconds = {}
    for steps in (Unrecorded, Replayed):
        engine = TimedEngine(made, **special(size))
        engine.steps = steps
        seconds[steps] = timed_rollout(engine, size, load, device)
    for part in ("chain", "image"):
        eager_s, replayed_s = seconds[Unrecorded][part], seconds[Replayed][part]
        note = f"{eager_s:.2f} s eager, {replayed_s:.2f} s recorded; {load.rows} rows"
        yield Measured(name=f"{part} phase", value=eager_s / replayed_s, unit="x eager", aim=1.0, note=note)


def timed_rollout(engine: TimedEngine, size: Size, load: Load, device: str) -> dict[str, float]:
    """Seconds of the chains and of the images of one rollout, after a short one that loads kernels."""
    from policies.janus.floor import now

    prompts, like = load.prompts(size), torch.empty(0, device=device)
    with products("bfloat16", device):
        engine.write(prompts[:2], load.seeds[:2], load.sampling)
        begun = now(like)
        engine.rollout(prompts, load.seeds, load.sampling)
        ended = now(like)
    return {"chain": engine.written - begun, "image": ended - engine.written}


def gap(size: Size, load: Load, device: str) -> Iterator[Measured]:
    """Mean and largest |replayed - recorded| log-prob in bfloat16, as `sampler_gap` of GRPO."""
    made = model(size, torch.bfloat16, device)
    with products("bfloat16", device), torch.no_grad():
        drawn = _rollout(made, size, load)
        scored = _score(made, size, drawn, load.sampling)
    recorded_BT = torch.zeros_like(scored.values_BT)
    for row_T, logprobs in zip(recorded_BT, drawn.logprobs, strict=True):
        row_T[: len(logprobs)] = row_T.new_tensor(logprobs)
    gaps = (scored.values_BT - recorded_BT).abs()
    note = f"{load.rows} samples, guidance {load.guidance:g}"
    for name, region_BT in (
        ("chain", scored.action_BT & ~scored.image_BT),
        ("image", scored.action_BT & scored.image_BT),
    ):
        value = float(gaps[region_BT].mean())
        yield Measured(name=f"mean gap, {name}", value=value, unit="nats/token", at_most=GAP, note=note)
    yield Measured(name="largest gap", value=float(gaps[scored.action_BT].max()), unit="nats")


def _rollout(
    made: JanusForConditionalGeneration,
    size: Size,
    load: Load,
    *,
    steps: type[Replayed] | None = None,
) -> Rollouts:
    engine = Engine(made, **special(size))
    engine.steps = steps or engine.steps
    return engine.rollout(load.prompts(size, ragged=True), load.seeds, load.sampling)


def _score(
    made: JanusForConditionalGeneration, size: Size, drawn: Rollouts, sampling: Sampling
) -> TokenLogprobs:
    ids = special(size)
    return Likelihood(made, bos=ids["bos"], pad=ids["pad"]).logprobs(drawn.tokens, sampling, ())


def _pixels(made: JanusForConditionalGeneration, codes: list[tuple[int, ...]]) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=np.int16) for image in vq.decode(made.model.vqmodel, codes)])


def _tokens(drawn: Rollouts) -> int:
    return sum(len(tokens.chain) + len(tokens.image) for tokens in drawn.tokens)


def _logprob_difference(name: str, one: Rollouts, other: Rollouts) -> Measured:
    """The largest difference of the recorded log-probs of samples whose tokens are equal."""
    largest = 0.0
    for place, tokens in enumerate(one.tokens):
        if tokens == other.tokens[place]:
            pairs = zip(one.logprobs[place], other.logprobs[place], strict=True)
            largest = max(largest, *(abs(first - second) for first, second in pairs))
    return Measured(name=f"largest log-prob difference, {name}", value=largest, unit="nats", at_most=LOGPROB)
