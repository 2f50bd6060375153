"""Where a result comes from: commit, versions, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "peft", "numpy", "pillow", "hydra-core", "submitit")


@lru_cache(maxsize=1)
def commit() -> tuple[str | None, bool | None]:
    """The checked-out commit of the code that runs and whether it was edited since; (None, None) outside a checkout."""
    here = Path(__file__).resolve().parent
    head = _git("rev-parse", "HEAD", cwd=here)
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name, cwd=here)
    if not head or not tracked:
        return None, None
    return head, bool(_git("status", "--porcelain", "--", ":/", ":(top,exclude)reports", cwd=here))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def hardware() -> str:
    """One line, such as `2 x AMD EPYC 7763, 23 GB, Linux x86_64`."""
    parts = [f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} x {_cpu()}"]
    if hasattr(os, "sysconf"):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB")
    parts += [name for _, name in gpus()]
    return ", ".join([*parts, f"{platform.system()} {platform.machine()}"])


@lru_cache(maxsize=1)
def gpus() -> tuple[tuple[int, str], ...]:
    """Index and name of every CUDA device this process may use, without importing torch."""
    if shutil.which("nvidia-smi") is None:
        return ()
    answer = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader"], capture_output=True, text=True, timeout=30, check=False
    )
    if answer.returncode != 0:
        return ()
    found = {int(index): name.strip() for index, _, name in (line.partition(",") for line in answer.stdout.splitlines())}
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = list(found) if allowed is None else [int(index) for index in allowed.split(",") if index.strip().isdigit()]
    return tuple((index, found[index]) for index in chosen if index in found)


def record() -> dict[str, Any]:
    """All of the above as JSON values."""
    head, dirty = commit()
    return {"commit": head, "dirty": dirty, "versions": versions(), "hardware": hardware()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*words: str, cwd: Path) -> str | None:
    try:
        answer = subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
