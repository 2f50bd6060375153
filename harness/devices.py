"""The device that torch computes on where a setting leaves it open. It decides no number."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from functools import cache
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")  # of the kernel's driver
VARIABLE = "CUDA_VISIBLE_DEVICES"
NO_GPU = ("", "NoDevFiles")  # the second is Slurm's value for a job without GPUs


def automatic() -> str:
    """Return "cuda" where torch can use a GPU, else "cpu".

    If torch cannot, although there is an NVIDIA driver, a warning says why, once per process.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, which `unusable` says in one line
        available = torch.cuda.is_available()
    if available:
        return "cuda"
    if reason := unusable():
        _warn(reason)
    return "cpu"


def has_driver() -> bool:
    """Whether this machine has an NVIDIA driver whose GPUs the environment does not hide."""
    value = os.environ.get(VARIABLE)
    hidden = value is not None and (value.strip() in NO_GPU or value.strip().startswith("-"))
    return not hidden and (DRIVER.exists() or shutil.which("nvidia-smi") is not None)


def unusable() -> str | None:
    """Why torch cannot start CUDA; None where it can, and where there is no driver. It may import torch."""
    if not has_driver():
        return None
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.cuda.init()
        except Exception as error:  # another driver, another build, no GPU of that name
            said = str(error).strip().splitlines() or [type(error).__name__]
            return f"torch {torch.__version__} cannot start CUDA ({said[0].rstrip('.')})"
    return None


@cache
def _warn(reason: str) -> None:
    print(
        f"warning: computing on the CPU, though there is an NVIDIA driver: {reason}. Install a torch or a"
        f" driver that fit each other; {VARIABLE}= (empty) says that the CPU is meant",
        file=sys.stderr,
    )
