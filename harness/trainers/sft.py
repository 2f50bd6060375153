"""Stage program `sft`: imitate the chains and images of GoT records (paper section 3, stage 1).

The loss is the mean over all actions of a step: the ids of chain and image, or of the image alone if the
condition is erased or the chain is dropped. It is a sum over samples divided by one count that is known
beforehand, so neither micro-batches nor the number of processes change it.

One process computes the gradient of a batch half after half, and two compute one half each. The sum of two
gradients has the same bits in either order, so two processes end in the bytes of one.

A dropped chain (`sft.chain_dropout`) is begin-of-image alone. The model then learns to draw from the prompt
without a chain. It must not learn to leave the chain out when it writes one itself. So this begin-of-image
is a forced one, as in a policy that writes no chains: it is not an action and carries no loss.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.composition.components import make
from harness.data.tokens import TokenCache
from harness.seeds import derive
from harness.trainers.learner import Learner
from harness.trainers.order import batch
from harness.types import Sampling, Tokens

if TYPE_CHECKING:
    from harness.protocols import Policy, Workspace

Example = tuple[Tokens, bool]  # ids; whether prompt and chain are erased
Metrics = dict[str, float | int | None]
RESUME_FILES = ("training.pt",)  # of an unfinished stage; see `harness.stages.program`


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Trains on the records of the stage `tokens` for `sft.steps` steps and writes `checkpoint/`."""
    sft, seed = settings["sft"], settings["seed"]
    policy = make(settings["policy"]).load(inputs["start"] / "checkpoint", trainable=True)
    records = TokenCache(inputs["tokens"])
    learner = Learner(
        policy.module,
        learning_rate=sft["learning_rate"],
        steps=sft["steps"],
        warmup_steps=sft["warmup_steps"],
        weight_decay=sft["weight_decay"],
        max_grad_norm=sft["max_grad_norm"],
        blocks=policy.blocks() if sft["fsdp"] else (),
    )
    saved = work.folder / RESUME_FILES[0]
    for step in work.steps(learner.restore(saved), sft["steps"]):
        started = time.perf_counter()
        tokens = batch(records, sft["batch_size"], step, seed)
        tokens = _drop_chains(tokens, sft["chain_dropout"], derive(seed, "chain_dropout", step))
        rng = random.Random(derive(seed, "dropout", step))
        erased = [rng.random() < sft["condition_dropout"] for _ in tokens]
        metrics = _backward(policy, learner, list(zip(tokens, erased, strict=True)), sft["micro_batch"])
        learning_rate = learner.learning_rate
        metrics["grad_norm"] = learner.step()
        metrics["lr"] = learning_rate
        metrics["seconds"] = time.perf_counter() - started
        work.progress(step + 1, sft["steps"], metrics)
        last = step + 1 == sft["steps"]
        if work.stopping() or last or (step + 1) % sft["checkpoint_every"] == 0:
            learner.save(saved, step + 1, last=last)
    learner.finish()
    if learner.rank == 0:
        policy.save(work.folder / "checkpoint")


def _drop_chains(sequences: Sequence[Tokens], share: float, seed: int) -> list[Tokens]:
    """Return the sequences, a random share of them with begin-of-image alone as their chain."""
    rng = random.Random(seed)
    kept_or_dropped = []
    for tokens in sequences:
        if rng.random() < share:
            tokens = replace(tokens, chain=tokens.chain[-1:], forced_end=True)
        kept_or_dropped.append(tokens)
    return kept_or_dropped


def _backward(policy: Policy, learner: Learner, examples: list[Example], micro_batch: int | None) -> Metrics:
    """Accumulates the gradient of a step's loss and returns the losses over all processes.

    Args:
        policy: the model.
        learner: accumulates the gradients.
        examples: of the whole step; this process works on its share.
        micro_batch: examples that go through the model at once; None: half a batch.
    """
    counts = _count_actions(examples)
    half = math.ceil(len(examples) / 2)
    sums = {"chain": 0.0, "image": 0.0}
    for chunk in _chunks(learner.share(examples), half, micro_batch or half):
        scored = policy.logprobs(
            [tokens for tokens, _ in chunk], Sampling(), unconditional=[erased for _, erased in chunk]
        )
        expected = sum(_count_actions(chunk).values())
        assert int(scored.action_BT.sum()) == expected, "a policy scores the actions and no other ids"
        learner.backward(-scored.values_BT[scored.action_BT].sum() / sum(counts.values()))
        sums["chain"] -= scored.values_BT[scored.action_BT & ~scored.image_BT].sum().item()
        sums["image"] -= scored.values_BT[scored.image_BT].sum().item()
    totals = {part: learner.total(value) for part, value in sums.items()}
    return {
        "loss": sum(totals.values()) / sum(counts.values()),
        "loss_chain": totals["chain"] / counts["chain"] if counts["chain"] else None,
        "loss_image": totals["image"] / counts["image"],
    }


def _chunks(share: list[Example], half: int, micro_batch: int) -> Iterator[list[Example]]:
    """Micro-batches of a share; none holds examples of both halves of the batch."""
    for first in range(0, len(share), half):
        end = min(first + half, len(share))
        for start in range(first, end, micro_batch):
            yield share[start : min(start + micro_batch, end)]


def _count_actions(examples: list[Example]) -> dict[str, int]:
    """The numbers of chain ids and of image ids that count in the loss."""
    chains = sum(len(tokens.chain) - tokens.forced_end for tokens, erased in examples if not erased)
    return {"chain": chains, "image": sum(len(tokens.image) for tokens, _ in examples)}
