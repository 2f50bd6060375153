"""Stage program `sft`: imitate the chains and images of GoT records (paper section 3, stage 1)."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from harness.components import make
from harness.protocols import Sampling, Workspace
from harness.seeds import derive
from harness.trainers.learner import Learner
from harness.trainers.order import batch


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Trains on `sft.records` records for `sft.steps` steps and writes `checkpoint/`."""
    sft, seed = settings["sft"], settings["seed"]
    policy = make(settings["policy"]).load(inputs["start"] / "checkpoint", trainable=True)
    records = list(make(settings["benchmark"]).records(derive(seed, "sft"), sft["records"]))
    if not records:
        raise ValueError("the benchmark gave no training records: choose one that has them, or raise sft.records")
    examples = policy.encode(records)
    learner = Learner(
        policy.module, **{name: sft[name] for name in ("learning_rate", "steps", "warmup_steps", "weight_decay", "max_grad_norm")}
    )
    saved = work.folder / "training.pt"
    for step in range(learner.restore(saved), sft["steps"]):
        started = time.perf_counter()
        tokens = batch(examples, sft["batch_size"], step, seed)
        rng = random.Random(derive(seed, "dropout", step))
        erased = [rng.random() < sft["condition_dropout"] for _ in tokens]
        scored = policy.logprobs(tokens, Sampling(), unconditional=erased)
        chain, image = scored.action_BT & ~scored.image_BT, scored.image_BT
        loss = -scored.values_BT[scored.action_BT].mean()
        learner.backward(loss)
        losses = {
            "loss": loss.item(),
            "loss_chain": -scored.values_BT[chain].mean().item() if chain.any() else None,
            "loss_image": -scored.values_BT[image].mean().item(),
        }
        rate = learner.learning_rate
        norm = learner.step()
        seconds = time.perf_counter() - started
        work.progress(step + 1, sft["steps"], {**losses, "grad_norm": norm, "lr": rate, "seconds": seconds})
        if (step + 1) % sft["checkpoint_every"] == 0:
            learner.save(saved, step + 1)
    policy.save(work.folder / "checkpoint")
    saved.unlink(missing_ok=True)
