"""Prints the peak of resident memory, in bytes, that one part of a step takes on a CPU beyond what
it starts with.

python memory_probe.py update|rollout|load [recompute]
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import torch
from mini_world import janus_config
from transformers import JanusForConditionalGeneration

from harness.types import Sampling, Tokens
from policies.janus.engine import Engine
from policies.janus.likelihood import Likelihood

ROWS, PROMPT, CHAIN, SIDE = 6, 64, 60, 10
CONFIG = janus_config(
    vocabulary=8192,
    codes=2048,
    text={"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6},
    image_size=SIDE * 4,
)


def memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def model() -> torch.nn.Module:
    made = JanusForConditionalGeneration(CONFIG).eval()
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(name.startswith(("model.language_model", "lm_head", "model.generation")))
    return made


def peak_of(part: str, made: torch.nn.Module) -> int:
    # the first id differs: rows with one past would share its states
    rows = []
    for row in range(ROWS):
        rows.append(Tokens(prompt=(1 + row, *(1,) * (PROMPT - 1)), chain=(2,) * CHAIN, image=(3,) * SIDE**2))
    likelihood = Likelihood(made, bos=1, pad=0, recompute=part == "recompute")
    engine = Engine(made, bos=1, pad=0, boi=5)

    def work(rows: list[Tokens]) -> None:
        if part == "rollout":
            chain = CHAIN if len(rows) > 1 else 1
            engine.rollout(
                [row.prompt for row in rows],
                list(range(len(rows))),
                Sampling(guidance=5.0, max_chain_tokens=chain),
            )
        else:
            likelihood.logprobs(rows, Sampling(), ()).values_BT.sum().backward()

    work(rows[:1])  # libraries load their kernels
    made.zero_grad()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    work(rows)
    made.zero_grad()
    return memory("VmHWM") - before


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    probed = model()
    print(json.dumps({part: peak_of(part, probed) for part in ("rollout", "recompute", "update")}))
