"""Running a stage program, whole or interrupted and started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mini_world import FakeWorkspace, Interrupted, tokens_settings

from harness.data import tokens

Program = Callable[[Any, dict[str, Any], dict[str, Path]], None]
Train = Callable[..., FakeWorkspace]


@pytest.fixture(scope="session")
def tokens_folder(janus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini benchmark's records as the stage `tokens` leaves them; read it, never write to it."""
    work = FakeWorkspace(tmp_path_factory.mktemp("tokens"))
    tokens.encode(work, tokens_settings(), {"start": janus_folder.parent})
    return work.folder


@pytest.fixture
def train(janus_folder: Path, tokens_folder: Path, tmp_path: Path) -> Train:
    """`train(program, settings, stop_at=3)` runs in its own folder, and after an interruption once
    more to the end.
    """
    names = iter(range(99))

    def run(program: Program, settings: dict[str, Any], stop_at: int | None = None) -> FakeWorkspace:
        work = FakeWorkspace(tmp_path / str(next(names)), stop_at)
        inputs = {"start": janus_folder.parent, "tokens": tokens_folder}
        if stop_at is not None:
            with pytest.raises(Interrupted):
                program(work, settings, inputs)
            assert not (work.folder / "checkpoint").exists()
            work.stop_at = None
        program(work, settings, inputs)
        return work

    return run
