"""A stage program that imports little: what ranks do to each other."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch


def act(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Each rank does what the settings name under its number, once all ranks are there."""
    rank = os.environ["RANK"]
    (work.folder / f"pid{rank}").write_text(str(os.getpid()))
    while len(list(work.folder.glob("pid*"))) < 2:
        time.sleep(0.05)
    if settings[rank] == "raise":
        raise LookupError("no such animal")
    if settings[rank] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if settings[rank] == "hang":
        time.sleep(600)
    torch.distributed.barrier()
