"""Stage program `sft`: imitate the chains and images of GoT records (paper section 3, stage 1).

The loss is the mean over all ids of a step that are actions: chain and image, or the image alone where the condition
is erased. It is a sum over samples divided by one count that is known beforehand, so that neither micro-batches nor
processes that train together change it.
"""

from __future__ import annotations

import random
import time
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

Example = tuple[Tokens, bool]  # whether prompt and chain are erased
Metrics = dict[str, float | int | None]


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Trains on the records of the stage `tokens` for `sft.steps` steps and writes `checkpoint/`."""
    sft, seed = settings["sft"], settings["seed"]
    policy = make(settings["policy"]).load(inputs["start"] / "checkpoint", trainable=True)
    records = TokenCache(inputs["tokens"])
    optimisation = {
        name: sft[name]
        for name in ("learning_rate", "steps", "warmup_steps", "weight_decay", "max_grad_norm")
    }
    learner = Learner(
        policy.module,
        **optimisation,
        blocks=policy.blocks() if sft["fsdp"] else (),
    )
    saved = work.folder / "training.pt"
    for step in range(learner.restore(saved), sft["steps"]):
        started = time.perf_counter()
        tokens = batch(records, sft["batch_size"], step, seed)
        rng = random.Random(derive(seed, "dropout", step))
        erased = [rng.random() < sft["condition_dropout"] for _ in tokens]
        losses = _backward(policy, learner, list(zip(tokens, erased, strict=True)), sft["micro_batch"])
        rate = learner.learning_rate
        norm = learner.step()
        work.progress(
            step + 1,
            sft["steps"],
            {**losses, "grad_norm": norm, "lr": rate, "seconds": time.perf_counter() - started},
        )
        if (step + 1) % sft["checkpoint_every"] == 0:
            learner.save(saved, step + 1)
    learner.finish()
    if learner.rank == 0:
        policy.save(work.folder / "checkpoint")
        saved.unlink(missing_ok=True)


def _backward(policy: Policy, learner: Learner, examples: list[Example], micro_batch: int | None) -> Metrics:
    """Adds up the gradient of a step's loss; returns the losses.

    `examples` are those of the whole step: this process works on its share, `micro_batch` at a time, and the losses are of all processes.
    """
    counts = _actions(examples)
    share = learner.share(examples)
    size = micro_batch or len(share)
    sums = {"chain": 0.0, "image": 0.0}
    for start in range(0, len(share), size):
        chunk = share[start : start + size]
        scored = policy.logprobs(
            [tokens for tokens, _ in chunk], Sampling(), unconditional=[erased for _, erased in chunk]
        )
        assert int(scored.action_BT.sum()) == sum(_actions(chunk).values()), (
            "a policy scores the ids that are actions, and no others"
        )
        learner.backward(-scored.values_BT[scored.action_BT].sum() / sum(counts.values()))
        sums["chain"] -= scored.values_BT[scored.action_BT & ~scored.image_BT].sum().item()
        sums["image"] -= scored.values_BT[scored.image_BT].sum().item()
    totals = {part: learner.total(value) for part, value in sums.items()}
    return {
        "loss": sum(totals.values()) / sum(counts.values()),
        "loss_chain": totals["chain"] / counts["chain"] if counts["chain"] else None,
        "loss_image": totals["image"] / counts["image"],
    }


def _actions(examples: list[Example]) -> dict[str, int]:
    """How many ids of chains and images are scored."""
    chains = sum(len(tokens.chain) - tokens.forced_end for tokens, erased in examples if not erased)
    return {"chain": chains, "image": sum(len(tokens.image) for tokens, _ in examples)}
