"""`harness.bench gpu`: the phases that run, the effect of failures on others, the refusal without a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import bench, command, devices
from harness.composition.arguments import UsageError
from harness.gpu import run
from harness.gpu.phases import Sources, collect
from harness.gpu.phases import sources as sources_of
from harness.gpu.run import Room

ROOM = Room(gpus=1, gigabytes=80.0, budget_s=120.0)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(device="cpu", work=tmp_path, policy="mini_gpu.bench", benchmarks=("mini_gpu.scorers",))


@pytest.mark.slow
def test_phases_run_by_importance_and_a_failure_stops_no_other(sources):
    outcomes = list(run.run(sources, ROOM))
    assert [outcome.phase for outcome in outcomes] == [
        "passes 0",
        "passes 1",
        "passes 2",
        "fails 3",
        "crashes 4",
        "passes 5",
        "passes 6",
        "passes 7",
        "passes 8",
    ]
    by_name = {outcome.phase: outcome for outcome in outcomes}
    assert by_name["fails 3"].failure == "RuntimeError: out of memory"
    assert "exit code 7" in by_name["crashes 4"].failure
    for name in ("fails 3", "crashes 4"):
        assert [measured.name for measured in by_name[name].measured] == ["before"]
    pids = {name: one.measured[1].value for name, one in by_name.items() if len(one.measured) == 2}
    assert pids["passes 0"] == pids["passes 1"] == pids["passes 2"] != pids["passes 5"]
    assert by_name["passes 6"].left_out == "needs 2 GPUs, and there is 1"
    assert by_name["passes 7"].left_out == "needs about 99 GB, and the GPU has 80 GB"
    assert by_name["passes 8"].left_out.startswith("takes about 1000000 s, and ")


@pytest.mark.slow
def test_a_phase_that_hangs_is_stopped(sources, monkeypatch):
    monkeypatch.setattr(run, "START_S", 12.0)
    stopped, after = run.run(replace(sources, policy="mini_gpu.slow", benchmarks=()), ROOM)
    assert stopped.failure == "stopped: not done after 12 s, expected 0 s"
    assert after.failure == "" and after.measured[0].value == 0.5


def test_nothing_starts_once_the_time_is_spent(sources):
    outcomes = list(run.run(sources, replace(ROOM, budget_s=0.0)))
    assert len(outcomes) == 9 and all(outcome.left_out for outcome in outcomes)


def test_a_policy_without_a_part_leaves_those_of_the_benchmarks(sources):
    assert [phase.name for phase in collect(replace(sources, policy=None))] == ["passes 0"]


@pytest.mark.parametrize(
    ("driver", "variable", "built", "words"),
    [
        (False, None, True, "there is no NVIDIA driver"),
        (False, "", True, "CUDA_VISIBLE_DEVICES= hides the GPUs"),
        (True, None, False, "is a build without CUDA, though there is an NVIDIA driver"),
        (True, None, True, "the driver shows no GPU"),
    ],
)
def test_without_a_gpu_the_command_says_why_and_what_to_do(monkeypatch, driver, variable, built, words):
    monkeypatch.setattr(devices, "automatic", lambda: "cpu")
    monkeypatch.setattr(devices, "has_driver", lambda: driver)
    monkeypatch.setattr(devices, "unusable", lambda: None)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(devices.VARIABLE, variable)
    with pytest.raises(UsageError, match="measures a CUDA GPU") as raised:
        run.find_room()
    assert words in str(raised.value)


def test_the_phases_are_those_of_the_policy_the_harness_and_all_benchmarks(tmp_path):
    found = sources_of(command.choose([f"outputs_dir={tmp_path}"]), "cpu", tmp_path)
    assert found.policy == "policies.janus.gpu.bench.bench"
    assert set(found.benchmarks) == {
        "benchmarks.geneval.race.phases",
        "benchmarks.t2i_compbench.races.gpu.phases",
    }
    phases = collect(found)
    names = [phase.name for phase in phases]
    assert names[0] == "CPU against GPU, float32" and names[-1] == "rollout, 7B"
    assert names.index("rollout, 1B") < names.index("GRPO step") < names.index("BLIP-VQA")
    on_one_gpu = sum(phase.seconds for phase in phases if phase.gpus == 1)
    assert on_one_gpu + run.START_S + run.SPARE_S < run.BUDGET_S


@pytest.mark.slow
def test_the_command_writes_both_files_and_fails_with_its_phases(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "find_room", lambda: ROOM)
    monkeypatch.setattr(run, "sources", lambda chosen, device, work: sources)
    code = bench.main(["gpu", f"outputs_dir={tmp_path / 'outputs'}"])
    said = capsys.readouterr()
    assert code == 1 and "2 checks or phases failed: fails 3 (RuntimeError: out of memory)" in said.err
    assert "| passes 6 |  |  |  | left out | needs 2 GPUs, and there is 1 |" in said.out
    assert sorted(path.name for path in (tmp_path / "outputs" / "gpu").iterdir()) == ["gpu.json", "gpu.md"]


def test_without_a_gpu_the_command_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr(devices, "automatic", lambda: "cpu")
    assert bench.main(["gpu"]) == 2
    assert "measures a CUDA GPU" in capsys.readouterr().err
