"""What every test may use."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    import tiny_vlm

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
MakeOnce = Callable[[str, Callable[[Path], None]], Path]

sys.path.append(str(ROOT / "tests" / "mini"))  # `mini_world`, whose classes settings name

# Several workers and the processes that tests start share the cores. Set before any test imports torch.
for library in THREADS:
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seeds torch, so that random weights depend on neither the run nor the order of the tests."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def handlers() -> Iterator[None]:
    """A job in the tests' own process handles signals, and is asked to stop, only within its test."""
    from harness.stages import stop

    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    yield
    stop.install()  # forgets requests
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`--numprocesses auto`: a worker for each core this process may use, up to four; each takes
    about 1 GB.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """`make_once(name, write)` returns a folder that all workers of this run share; read it, never
    write to it.

    The first worker that asks calls `write(folder)`; the others wait. A `write` that fails leaves no folder.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def made(name: str, write: Callable[[Path], None]) -> Path:
        folder, draft = shared / name, shared / f"{name}.part"
        with FileLock(shared / f"{name}.lock"):
            if not folder.exists():
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
                write(draft)
                draft.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    """The folder of published vectors: CONFORMANCE_DIR, by default ../shared/conformance beside the
    checkout.
    """
    folder = Path(os.environ.get("CONFORMANCE_DIR", ROOT.parent / "shared" / "conformance"))
    if not folder.is_dir():
        pytest.skip(f"no conformance vectors at {folder}: set CONFORMANCE_DIR")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of published prompt files: DATA_DIR, by default ../shared/data beside the checkout."""
    folder = Path(os.environ.get("DATA_DIR", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no published prompt files at {folder}: set DATA_DIR")
    return folder


@pytest.fixture
def prompt_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Prompt files of our own where T2I-CompBench's are looked for (T2I_COMPBENCH_DIR), with
    pictures of the val prompts and GoT data.
    """
    from mini_compbench import STEMS, write_pictures, write_prompts

    folder = tmp_path / "prompts"
    write_prompts(folder, val=1, train=70)
    write_pictures(
        folder / "pictures",
        [(folder / f"{stem}_val.txt").read_text(encoding="utf-8") for stem in STEMS],
        each=1,
    )
    (folder / "got.json").write_text("[]", encoding="utf-8")
    monkeypatch.setenv("T2I_COMPBENCH_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def janus_folder(make_once: MakeOnce) -> Path:
    """A checkpoint folder of a tiny random Janus; read it, never write to it."""
    import torch
    from mini_world import write_janus

    torch.set_num_threads(1)

    def write(folder: Path) -> None:
        (folder / "checkpoint").mkdir()
        write_janus(folder / "checkpoint")

    return make_once("start", write) / "checkpoint"


@pytest.fixture(scope="session")
def vlm_folder(make_once: MakeOnce) -> Path:
    """A checkpoint folder of a tiny Qwen2.5-VL that was taught our questions; read it, never write to it."""
    import tiny_vlm
    import torch

    torch.set_num_threads(1)
    return make_once("vlm", lambda folder: tiny_vlm.write(folder / "model", steps=180)) / "model"


@pytest.fixture(scope="session")
def judge_server(vlm_folder: Path) -> Iterator[tiny_vlm.Server]:
    """A real server of that model, `transformers serve`; its name there is the folder's path."""
    import tiny_vlm

    for package in ("fastapi", "openai", "uvicorn"):
        pytest.importorskip(package, reason="`transformers serve` needs it: pip install -e .[dev]")
    server = tiny_vlm.Server(vlm_folder)
    yield server
    server.stop()
