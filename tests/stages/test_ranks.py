"""The ranks of a stage live and die together."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import rank_acts
from mini_world import FakeWorkspace, with_ranks

from harness import processes
from harness.stages import ranks
from harness.types import Stage

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0
ALONE = """
import sys; from pathlib import Path
sys.path[:0] = [{root!r}, {mini!r}]
import rank_acts; from harness.stages import ranks; from mini_world import FakeWorkspace, with_ranks
ranks.GRACE_S = 0.5
folder, settings = Path({folder!r}), {settings!r}
call = ranks.ProgramCall(program="rank_acts.act", settings=settings, inputs={{}}, folder=str(folder))
with with_ranks(call, 2):
    rank_acts.act(FakeWorkspace(folder), settings, {{}})
"""


def act(folder: Path, **settings: str) -> None:
    numbered = {name.removeprefix("rank"): how for name, how in settings.items()}
    call = ranks.ProgramCall(program="rank_acts.act", settings=numbered, inputs={}, folder=str(folder))
    with with_ranks(call, 2):
        rank_acts.act(FakeWorkspace(folder), numbered, {})


def alone(folder: Path, **settings: str) -> subprocess.Popen[str]:
    """A process of its own that is rank 0 and has a child."""
    numbered = {name.removeprefix("rank"): how for name, how in settings.items()}
    code = ALONE.format(
        root=str(ROOT), mini=str(ROOT / "tests" / "mini"), folder=str(folder), settings=numbered
    )
    return subprocess.Popen([sys.executable, "-c", code], text=True, stderr=subprocess.PIPE, cwd=folder)


def child(folder: Path) -> int:
    return int((folder / "pid1").read_text())


def until_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while processes.is_alive(pid):
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.05)


def test_a_failing_child_fails_rank_0_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(
        ranks.RankError,
        match=r"(?s)^rank 1 failed\n.*LookupError: no such animal$",
    ):
        act(tmp_path, rank0="wait", rank1="raise")


def test_a_failing_rank_0_fails_with_its_own_error_and_ends_the_child(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no such animal"):
        act(tmp_path, rank0="raise", rank1="wait")
    assert not processes.is_alive(child(tmp_path))


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    parent = alone(tmp_path, rank0="hang", rank1="hang")
    end = time.monotonic() + PATIENCE_S
    while not (tmp_path / "pid0").exists() or not (tmp_path / "pid1").exists():
        assert time.monotonic() < end and parent.poll() is None, parent.stderr and parent.stderr.read()
        time.sleep(0.05)
    time.sleep(0.2)
    parent.kill()
    parent.communicate()
    until_gone(child(tmp_path))


def test_a_rank_0_that_hangs_is_ended_when_its_child_has_died(tmp_path: Path) -> None:
    parent = alone(tmp_path, rank0="hang", rank1="die")
    said = parent.communicate(timeout=PATIENCE_S)[1]
    assert parent.returncode == 1
    assert "error: rank 1 was ended by signal 9 (out of memory?)" in said


@pytest.mark.parametrize(
    ("processes", "items", "message"),
    [
        (0, 8, "resources.processes=0: give a whole number from 1"),
        ("two", 8, "resources.processes='two': give a whole number from 1"),
        (
            3,
            8,
            r"resources\.processes=3 must divide the 8 items of a step of 'grpo'\..*grpo\.prompts",
        ),
    ],
)
def test_processes_that_cannot_share_a_step_are_refused_at_planning(
    processes: object, items: int, message: str
) -> None:
    stages = [
        Stage(name=name, program="json.dumps", settings={}, parallel=parallel)
        for name, parallel in (("samples", None), ("grpo", items))
    ]
    with pytest.raises(ValueError, match=message):
        ranks.check(1, processes, stages)
    ranks.check(1, 4, stages)


@pytest.mark.parametrize("nodes", [3, 4])
def test_the_ranks_of_all_nodes_share_a_step(nodes: int) -> None:
    stage = Stage(name="grpo", program="json.dumps", settings={}, parallel=8)
    ranks.check(4, 2, [stage])
    message = rf"resources\.nodes={nodes} x resources\.processes=4 must divide the 8 items of a step"
    with pytest.raises(ValueError, match=message):
        ranks.check(nodes, 4, [stage])
    with pytest.raises(ValueError, match=r"resources\.nodes=0: give a whole number from 1"):
        ranks.check(0, 1, [stage])


@pytest.mark.parametrize("processes", [1, 3, 7])
def test_work_without_steps_is_shared_by_any_number(processes: int) -> None:
    ranks.check(1, processes, [Stage(name="scores", program="json.dumps", settings={}, parallel=0)])


def test_idle_cores_help_only_where_they_change_no_bit() -> None:
    sft = Stage(name="sft", program="json.dumps", settings={}, parallel=8, halves=True)
    grpo = Stage(name="grpo", program="json.dumps", settings={}, parallel=8)
    samples = Stage(name="samples", program="json.dumps", settings={})
    given, helping = ranks.Ranks(2), ranks.Ranks(2, helping=True)
    assert [given.makers(stage) for stage in (sft, grpo, samples)] == [2, 2, 1]
    assert [helping.makers(stage) for stage in (sft, grpo, samples)] == [2, 1, 1]
