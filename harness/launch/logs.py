"""Why a job ended that could not say so itself: the end of its log, and what Slurm knows."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

LINES = 15
LOST = "exited without reporting a result (killed, out of memory or disk)"
NEVER_BEGAN = (
    "It ended before Python started the harness. The usual reasons: the node does not see the Python of this"
    f" virtual environment ({sys.executable}) or outputs_dir, because they do not lie on a shared disk; or it"
    " needs a module first (cluster.options.setup=['module load ...'])"
)
AGAIN = "Run the same command again to resume"


def log_end(files: Iterable[Path]) -> list[str]:
    """The last lines of the logs, without those of submitit."""
    text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    return [line for line in text.splitlines() if line.strip() and "submitit" not in line][-LINES:]


def ending(job: str, folder: Path, *, how: str | None, began: bool) -> list[str]:
    """The end of the log of a Slurm job, and the reason of its end in one line.

    Args:
        job: its id, such as `123` or `123_4`.
        folder: of its submission.
        how: what Slurm says of its end, as a phrase; None for nothing.
        began: whether the harness has started in it.
    """
    reason = f"job {job} {how or LOST}"
    if not began and "cancelled" not in (how or ""):
        reason = f"{reason}. {NEVER_BEGAN}"
    return [*log_end(logs(folder, job)), f"{reason}. {AGAIN}. Logs: {folder}"]


def logs(folder: Path, job: str) -> list[Path]:
    """The error logs of a Slurm job, one for each of its processes."""
    return sorted(folder.glob(f"{job}_*_log.err"))
