"""Where a result comes from: commit, frozen code, versions of libraries, machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.processes import TIMEOUT_S, ask
from harness.stages import nvidia

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
UNKNOWN_MODEL = "GPU of an unknown model"
SNAPSHOT = "snapshot.json"  # in a folder of frozen code: where the code comes from


def commit() -> tuple[str | None, bool | None]:
    """The commit of the running code, and whether files differ from it; None for what is not known.

    In a job they are those of the frozen code. (None, None) outside a checkout.
    """
    if frozen := snapshot():
        return frozen["commit"], frozen["dirty"]
    head, dirty, _ = _checkout()
    return head, dirty


@lru_cache(maxsize=1)
def snapshot() -> dict[str, Any]:
    """The `snapshot.json` of the frozen code that this process runs; empty where it runs none."""
    try:
        facts = json.loads((Path(__file__).resolve().parents[2] / SNAPSHOT).read_text(encoding="utf-8"))
        return {name: facts[name] for name in ("commit", "dirty", "digest")}
    except (OSError, ValueError, TypeError, KeyError):  # there is none, or the file is something else
        return {}


@lru_cache(maxsize=1)
def _checkout() -> tuple[str | None, bool | None, str | None]:
    """The values of `commit`, and a line on what git does not tell."""
    folder = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None, None, None
    tracked, problem = _git("ls-files", "--error-unmatch", Path(__file__).name, cwd=folder, negative=1)
    if problem is not None or tracked is None:  # ignored by the checkout around it: an installation
        return None, None, problem and f"the commit of the code: {problem}"
    head, problem = _git("rev-parse", "HEAD", cwd=folder)
    if head is None or not re.fullmatch(r"[0-9a-f]{40,64}", head):
        return None, None, f"the commit of the code: {problem or f'git answers {head!r}'}"
    changes, problem = _git("status", "--porcelain", "--", ":/", ":(top,exclude)reports", cwd=folder)
    if changes is None:
        return head, None, f"whether files differ from the commit: {problem}"
    return head, bool(changes), None


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages among `PACKAGES`."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            # None or KeyError: an installation that was cut short left metadata without a version
            installed[package] = importlib.metadata.version(package) or "unknown"
        except importlib.metadata.PackageNotFoundError:
            continue
        except KeyError:
            installed[package] = "unknown"
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
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # no sysconf, or not these names
        return None
    return size / 2**30 if size > 0 else None


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Instruction sets of this machine's CPU by Linux's names; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


@lru_cache(maxsize=1)
def gpus() -> tuple[tuple[int | str, str], ...]:
    """Name and model of every CUDA device this process may use, without importing torch.

    The names are those of CUDA_VISIBLE_DEVICES, or indices where it is not set.
    """
    return tuple((gpu.name, gpu.model or UNKNOWN_MODEL) for gpu in nvidia.devices().gpus)


@lru_cache(maxsize=1)
def gpu_memory_gb() -> float | None:
    """Memory in GB (2**30 bytes) of the smallest CUDA device this process may use; None if not known."""
    return nvidia.memory()[0]


def unknown() -> list[str]:
    """What could not be found out about this machine and the checkout, in one line each."""
    lines = [*nvidia.devices().unknown, nvidia.memory()[1], _checkout()[2]]
    if memory_gb() is None:
        lines.append("the main memory: the system does not report it")
    return [line for line in lines if line]


def record() -> dict[str, Any]:
    """Commit, digest of the frozen code, versions and hardware as JSON values."""
    head, dirty = commit()
    code = snapshot().get("digest")
    return {"commit": head, "dirty": dirty, "code": code, "versions": versions(), "hardware": hardware()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*words: str, cwd: Path, negative: int = 0) -> tuple[str | None, str | None]:
    """What git answers, and why it gives no answer. Both are None where its exit code is `negative`."""
    # a hook's GIT_DIR names another repository
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    answer = ask(["git", "--no-optional-locks", *words], folder=cwd, environment=environment)
    if answer is None:
        return None, f"git is not installed, or gives no answer within {TIMEOUT_S:.0f} s"
    if answer.code == 0:
        return answer.output.strip(), None
    if answer.code == negative:
        return None, None
    said = (answer.errors.strip() or "nothing").splitlines()[0]
    return None, f"git {words[0]} fails with code {answer.code} and says: {said}"
