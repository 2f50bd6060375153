"""The readers of nvidia-smi and CUDA_VISIBLE_DEVICES, with programs that answer as nvidia-smi does."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stages import nvidia
from harness.stages.nvidia import Column, choose, read, read_memory_gb

ONE, TWO = "GPU-8f0c3f7e-1111-2222-3333-444455556666", "GPU-8f0d0000-1111-2222-3333-444455556666"
SLICE = "MIG-41b5c5e6-0b4a-5b0e-9f0f-3f3f3f3f3f3f"
CARDS = Column(values={0: "NVIDIA H100", 1: "NVIDIA H200"})
ANSWERS = {
    "name": "0, NVIDIA H100\n1, NVIDIA H200",
    "uuid": f"0, {ONE}\n1, {TWO}",
    "memory.total": "0, 81559 MiB\n1, 143771 MiB",
    "mig.mode.current": "0, Disabled\n1, [N/A]",
}


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """`smi(text)` makes an nvidia-smi that runs the shell text; `smi(field=text)` changes some answers."""
    monkeypatch.setattr(nvidia, "DRIVER", tmp_path / "driver")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def program(text: str | None = None, **changed: str) -> None:
        answers = ANSWERS | {name.replace("_", ".", 2): answer for name, answer in changed.items()}
        cases = [f"*index,{field}*) printf '%s\\n' '{answer}';;" for field, answer in answers.items()]
        file = tmp_path / "nvidia-smi"
        file.write_text("#!/bin/sh\n" + (text or 'case "$1" in ' + "\n".join(cases) + "\nesac\n"))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        nvidia._ask.cache_clear()

    yield program
    nvidia._ask.cache_clear()


def names() -> list[int | str]:
    return [gpu.name for gpu in nvidia.devices().gpus]


@pytest.mark.parametrize(
    ("value", "expected", "indices"),
    [
        (None, [0, 1], [0, 1]),
        ("", [], []),
        (" ", [], []),
        ("-1", [], []),
        ("NoDevFiles", [], []),
        (" 1 , 0 ", [1, 0], [1, 0]),
        ("1,", [1], [1]),
        ("1,-1,0", [1], [1]),
        ("0,7,1", [0], [0]),
        (TWO, [TWO], [1]),
        (f"{TWO}, {ONE}", [TWO, ONE], [1, 0]),
        ("GPU-8f0c", ["GPU-8f0c"], [0]),
        (SLICE, [SLICE], [None]),
        (f"MIG-{ONE}/1/0", [f"MIG-{ONE}/1/0"], [None]),
    ],
)
def test_jobs_get_the_devices_by_the_names_of_the_variable(
    smi, monkeypatch, value, expected, indices
) -> None:
    smi()
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    found = nvidia.devices()
    assert found.refused is None
    assert [gpu.name for gpu in found.gpus] == expected
    assert [gpu.index for gpu in found.gpus] == indices
    assert any("there is no GPU 7" in line for line in found.unknown) == (value == "0,7,1")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("gpu0", "'gpu0' is neither an index nor a UUID"),
        ("all", "'all' is neither"),
        ("0,,1", "'' is neither"),
        ("0;1", "neither"),
        ("0x1", "neither"),
        ("²", "neither"),
        ("7", "the GPUs of this machine are 0, 1"),
        ("0,0", "0 is given twice"),
        (f"{ONE},GPU-8f0c", "GPU-8f0c is given twice"),
        (f"0,{TWO}", "only one form"),
        ("GPU-8f0", "several UUIDs begin with GPU-8f0"),
        ("GPU-9", f"no UUID begins with GPU-9; there are {ONE}, {TWO}"),
    ],
)
def test_a_value_that_cuda_would_take_for_no_device_is_refused(smi, monkeypatch, value, reason) -> None:
    smi()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    found = nvidia.devices()
    assert found.gpus == () and f"CUDA_VISIBLE_DEVICES={value}: " in (found.refused or "")
    assert reason in (found.refused or "") and "nvidia-smi -L" in (found.refused or "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("exec sleep 60", "no answer within"),
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch' >&2; exit 18",
            "code 18: 'Failed",
        ),
        ("echo 'Unable to determine the device handle for GPU 0000:03:00.0: GPU is lost.'", "Unable to det"),
        ("printf '\\377\\376 0'", "answers"),
        ("kill -9 $$", "code -9"),
    ],
)
def test_an_nvidia_smi_that_does_not_tell_ends_nothing(smi, monkeypatch, text, problem) -> None:
    monkeypatch.setattr(nvidia, "ask", lambda words: nvidia_ask(words, timeout_s=0.5))
    smi(f"#!/bin/sh\n{text}\n")
    assert names() == [] and nvidia.memory() == (None, None)
    said = nvidia.devices().unknown
    assert problem in said[0] and "which GPUs there are" in said[1]
    for value in (ONE, "0", SLICE):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert [str(name) for name in names()] == [value], "the names of the user count"
        assert "not checked" in nvidia.devices().unknown[-1]
        assert nvidia.memory()[0] is None and f"the memory of GPU {value}" in (nvidia.memory()[1] or "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,cuda:1")
    assert "'cuda:1'" in (nvidia.devices().refused or "")


nvidia_ask = nvidia.ask


def test_a_machine_without_devices_says_so_and_jobs_keep_the_variable(smi, monkeypatch) -> None:
    smi("echo 'No devices were found'")
    assert nvidia.devices() == nvidia.Devices(gpus=()) and nvidia.memory() == (None, None)
    assert nvidia.job_value([]) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ONE)
    assert names() == [] and "no NVIDIA GPU" in nvidia.devices().unknown[0]
    assert nvidia.job_value([]) == ONE and nvidia.job_value([TWO, ONE]) == f"{TWO},{ONE}"


@pytest.mark.parametrize(
    "answer", ["[N/A]", "[Not Supported]", "[Unknown Error]", "", "0 MiB", "N/A", "80 GiB"]
)
def test_memory_that_is_not_told_is_not_known(smi, monkeypatch, answer) -> None:
    smi(memory_total=f"0, 81559 MiB\n1, {answer}")
    gb, said = nvidia.memory()
    assert gb is None and "the memory of GPU 1" in (said or "") and answer in (said or "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert nvidia.memory() == (81559 / 1024, None)


def test_the_memory_of_a_slice_is_not_that_of_its_card(smi, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", SLICE)
    smi()
    assert nvidia.memory()[0] is None
    smi(mig_mode_current="0, Enabled\n1, Disabled")
    for value, expected in (("0", None), ("1", 143771 / 1024), (ONE, None), (TWO, 143771 / 1024)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert nvidia.memory()[0] == expected


def test_without_nvidia_smi_the_driver_lists_the_devices(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(nvidia, "DRIVER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert nvidia.devices() == nvidia.Devices(gpus=())
    (tmp_path / "0000:07:00.0").mkdir()
    (tmp_path / "0000:07:00.0" / "information").write_text("Model: \t\t NVIDIA A100\nIRQ: 1\n")
    (tmp_path / "0000:08:00.0").mkdir()
    found = nvidia.devices()
    assert [(gpu.name, gpu.model) for gpu in found.gpus] == [(0, "NVIDIA A100"), (1, None)]
    assert "nvidia-smi is not installed" in found.unknown[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ONE)
    assert names() == [ONE]


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
PIECES = st.lists(st.sampled_from(["0", "1", ",", " ", "\n", "-1", ONE, "GPU-", "MIG-", "MiB", "[N/A]", "x"]))


@settings(max_examples=200, deadline=None)
@given(TEXT | PIECES.map("".join))
def test_any_text_of_nvidia_smi_is_read_without_an_error(text) -> None:
    column = read(text)
    for index, value in (column.values or {}).items():
        assert str(index) in text and value in text
    if column.values is None:
        assert column.problem
    gb = read_memory_gb(text)
    assert gb is None or (gb > 0 and "MiB" in text)


@settings(max_examples=200, deadline=None)
@given(TEXT | PIECES.map("".join), st.sampled_from([CARDS, Column(values=None), Column(values={})]))
def test_any_value_of_the_variable_is_used_or_refused(value, column) -> None:
    unique = pytest.MonkeyPatch()
    with unique.context() as patch:
        patch.setattr(nvidia, "_uuids", lambda: {0: ONE, 1: TWO})
        found = choose(value, column)
    assert not (found.gpus and found.refused)
    none = value.strip() in nvidia.NO_GPU or value.strip().startswith("-")
    assert none or found.gpus or found.refused or found.unknown, "nothing is taken for no GPU without a word"
    indices = [gpu.index for gpu in found.gpus if gpu.index is not None]
    assert len(indices) == len(set(indices))


def test_two_modules_read_the_variables_that_name_devices() -> None:
    root = Path(nvidia.__file__).parents[2]
    readers = set()
    for package in ("harness", "policies", "rewards", "benchmarks"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text()
            if '"nvidia-smi"' in text or '"CUDA_VISIBLE_DEVICES"' in text:
                readers.add(path.relative_to(root).as_posix())
    assert readers == {"harness/devices.py", "harness/stages/nvidia.py"}
