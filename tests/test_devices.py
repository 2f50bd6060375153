"""The device where a setting leaves it open: never silently the CPU."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch

from harness import devices
from harness.experts.pretrained import Pretrained
from policies.janus import policy


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An NVIDIA driver, with which torch cannot start CUDA."""
    (tmp_path / "version").write_text("NVRM version: 470")
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", not_available)
    monkeypatch.setattr(torch.cuda, "init", too_old)
    devices._warn.cache_clear()
    return tmp_path / "version"


def not_available() -> bool:
    warnings.warn("CUDA initialization: a long text", stacklevel=1)
    return False


def too_old() -> None:
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nUpdate it")


def test_a_driver_that_torch_cannot_use_is_said_once_in_one_line(
    driver: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    expert = Pretrained(where="clip", model="hub/clip", device="auto", dtype="float32")
    assert [expert.device().type, policy.device(), devices.automatic()] == ["cpu"] * 3
    said = capsys.readouterr().err
    assert said.startswith("warning: computing on the CPU") and said.count("\n") == 1
    assert "cannot start CUDA (The NVIDIA driver on your system is too old (found version 11040))" in said
    assert not [one for one in recwarn if "CUDA initialization" in str(one.message)]


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_need_no_warning(
    driver: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert devices.automatic() == "cpu" and capsys.readouterr().err == ""


def test_a_machine_without_a_driver_needs_no_warning(
    driver: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver.unlink()
    monkeypatch.setenv("PATH", os.devnull)
    assert devices.automatic() == "cpu" and capsys.readouterr().err == ""


def test_a_gpu_that_works_is_used(
    driver: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.automatic() == "cuda" and capsys.readouterr().err == ""
