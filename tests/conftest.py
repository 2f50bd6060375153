"""What every test may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "mini"))  # `mini_world`, whose classes settings name


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    """The folder of published vectors: CONFORMANCE_DIR, by default ../shared/conformance beside the checkout."""
    folder = Path(os.environ.get("CONFORMANCE_DIR", ROOT.parent / "shared" / "conformance"))
    if not folder.is_dir():
        pytest.skip(f"no conformance vectors at {folder}: set CONFORMANCE_DIR")
    return folder


@pytest.fixture(scope="session")
def janus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a tiny random Janus; read it, never write to it."""
    import torch
    from mini_world import write_janus

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("start") / "checkpoint"
    folder.mkdir()
    write_janus(folder)
    return folder
