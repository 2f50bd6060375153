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

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "numpy",
    "pillow",
    "spacy",
    "hydra-core",
    "submitit",
)


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
    parts = [
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} x {_cpu()}"
    ]
    if (memory := memory_gb()) is not None:
        parts.append(f"{memory:.0f} GB")
    parts += [name for _, name in gpus()]
    return ", ".join([*parts, f"{platform.system()} {platform.machine()}"])


def memory_gb() -> float | None:
    """Main memory of this machine in GB (2**30 bytes); None where the system does not tell."""
    return (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    )


@lru_cache(maxsize=1)
def gpus() -> tuple[tuple[int, str], ...]:
    """Index and name of every CUDA device this process may use, without importing torch."""
    found = _of_gpus("name")
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = (
        list(found)
        if allowed is None
        else [int(index) for index in allowed.split(",") if index.strip().isdigit()]
    )
    return tuple((index, found[index]) for index in chosen if index in found)


@lru_cache(maxsize=1)
def gpu_memory_gb() -> float | None:
    """Memory in GB (2**30 bytes) of the smallest CUDA device this process may use; None without one."""
    every = _of_gpus("memory.total")  # in MiB, as "143771 MiB"
    return min((float(every[index].split()[0]) / 1024 for index, _ in gpus()), default=None)


def record() -> dict[str, Any]:
    """All of the above as JSON values."""
    head, dirty = commit()
    return {"commit": head, "dirty": dirty, "versions": versions(), "hardware": hardware()}


def _of_gpus(field: str) -> dict[int, str]:
    """Index -> what nvidia-smi says of a device; empty where it says nothing."""
    if shutil.which("nvidia-smi") is None:
        return {}
    answer = subprocess.run(
        ["nvidia-smi", f"--query-gpu=index,{field}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if answer.returncode != 0:
        return {}
    return {
        int(index): value.strip()
        for index, _, value in (line.partition(",") for line in answer.stdout.splitlines())
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*words: str, cwd: Path) -> str | None:
    try:
        answer = subprocess.run(
            ["git", *words], cwd=cwd, capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
