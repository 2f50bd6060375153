"""What a Slurm site is like, as far as a login node can find out."""

from __future__ import annotations

import re
from functools import lru_cache

from harness import processes

ANSWER_S = 20.0
GRACE_S = 30  # Slurm's own default of KillWait
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


def notes(*, no_requeue: bool) -> list[str]:
    """Notes on settings of the site that end jobs which would be queued again elsewhere.

    Args:
        no_requeue: whether `cluster.options.no_requeue` is set.
    """
    found = []
    if no_requeue:
        found.append(
            "cluster.options.no_requeue: a job that reaches its time limit or is preempted ends. The same"
            " command resumes it from its last checkpoint"
        )
    if "CANCEL" in settings().get("PreemptMode", ""):
        found.append(
            "this site cancels jobs that are preempted and does not queue them again (PreemptMode=CANCEL)."
            " The same command resumes them from their last checkpoint"
        )
    wait_s = re.match(r"(\d+)", settings().get("KillWait", ""))
    if wait_s and int(wait_s[1]) < GRACE_S:
        found.append(
            f"this site ends a job {wait_s[1]} s after it asked it to end (KillWait). A cancelled or"
            " preempted job whose step takes longer resumes from the checkpoint before"
        )
    return found


def all_nodes_work() -> bool:
    """Whether every node can take jobs now or later: none is down, drained, or not answering yet."""
    answer = processes.ask(["sinfo", "--noheader", "--format=%T"], timeout_s=ANSWER_S)
    states = answer.output.split() if answer and answer.code == 0 else []
    return bool(states) and all(re.fullmatch(WORKING, state) for state in states)
