"""What a Slurm site is like, as far as a login node can find out."""

from __future__ import annotations

import re
from functools import lru_cache

from harness import processes

ANSWER_S = 20.0
MANY = 1_000  # jobs of an array where Slurm does not say how many it takes (its default is 1001)
WORKING = "(idle|mixed|allocated|completing|planned|reserved)[+-]?"


@lru_cache(maxsize=1)
def version() -> str | None:
    """The version of Slurm, such as `22.05.8`; None where `sbatch` does not say it."""
    answer = processes.ask(["sbatch", "--version"], timeout_s=ANSWER_S)
    found = re.match(r"slurm\S* (\d\S*)", answer.output) if answer and answer.code == 0 else None
    return found[1] if found else None


@lru_cache(maxsize=1)
def settings() -> dict[str, str]:
    """Slurm's own configuration, name -> value; empty where the controller does not say it."""
    answer = processes.ask(["scontrol", "show", "config"], timeout_s=ANSWER_S)
    if answer is None or answer.code != 0:
        return {}
    return dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", answer.output, flags=re.MULTILINE))


def array_limit() -> int:
    """How many jobs an array may have."""
    size = settings().get("MaxArraySize", "")
    return max(1, int(size) - 1) if size.isdecimal() else MANY


def all_nodes_work() -> bool:
    """Whether every node can take jobs now or later: none is down, drained, or not answering yet."""
    answer = processes.ask(["sinfo", "--noheader", "--format=%T"], timeout_s=ANSWER_S)
    states = answer.output.split() if answer and answer.code == 0 else []
    return bool(states) and all(re.fullmatch(WORKING, state) for state in states)
