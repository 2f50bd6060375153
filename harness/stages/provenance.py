"""Where a result comes from: commit, versions of libraries, machine."""

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
    """The commit of the running code, and whether files differ from it; (None, None) outside a checkout."""
    folder = Path(__file__).resolve().parent
    head = _git("rev-parse", "HEAD", cwd=folder)
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name, cwd=folder)
    if not head or not tracked:
        return None, None
    return head, bool(_git("status", "--porcelain", "--", ":/", ":(top,exclude)reports", cwd=folder))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages among `PACKAGES`."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@lru_cache(maxsize=1)
def hardware() -> str:
    """One line, such as `2 x AMD EPYC 7763, 23 GB, Linux x86_64`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    items = [f"{cores} x {_cpu()}"]
    if (memory := memory_gb()) is not None:
        items.append(f"{memory:.0f} GB")
    items += [name for _, name in gpus()]
    items.append(f"{platform.system()} {platform.machine()}")
    return ", ".join(items)


def memory_gb() -> float | None:
    """Main memory of this machine in GB (2**30 bytes); None if the system does not report it."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


@lru_cache(maxsize=1)
def gpus() -> tuple[tuple[int, str], ...]:
    """Index and name of every CUDA device this process may use, without importing torch."""
    names = _ask_nvidia_smi("name")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(names.items())
    indices = [int(index) for index in visible.split(",") if index.strip().isdigit()]
    return tuple((index, names[index]) for index in indices if index in names)


@lru_cache(maxsize=1)
def gpu_memory_gb() -> float | None:
    """Memory in GB (2**30 bytes) of the smallest CUDA device this process may use; None without one."""
    memory = _ask_nvidia_smi("memory.total")  # such as "143771 MiB"
    return min((float(memory[index].split()[0]) / 1024 for index, _ in gpus()), default=None)


def record() -> dict[str, Any]:
    """Commit, versions and hardware as JSON values."""
    head, dirty = commit()
    return {"commit": head, "dirty": dirty, "versions": versions(), "hardware": hardware()}


def _ask_nvidia_smi(field: str) -> dict[int, str]:
    """Index -> the field of that device; empty if nvidia-smi is missing or fails."""
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
    values = {}
    for line in answer.stdout.splitlines():
        index, _, value = line.partition(",")
        values[int(index)] = value.strip()
    return values


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
