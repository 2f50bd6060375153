"""Processes that train together on CPUs (gloo): the numbers of one process, the same weights on all ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rank_programs
import torch
from mini_world import BENCHMARK, TEMPLATE, FakeWorkspace, grpo_settings, with_ranks

from harness.stages import ranks
from harness.stages.program import load_program
from policies.janus.policy import JanusPolicy

INPUTS: dict[str, Path] = {}
JANUS = {
    "_target_": "policies.janus.recipe.Janus",
    "checkpoint": "unused",
    "revision": "main",
    "template": TEMPLATE,
    "plans": True,
    "precision": "float32",
    "weights": "float32",
    "recompute": False,
    "pack": None,
}


def run(
    program: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Path] = INPUTS, processes: int = 2
) -> FakeWorkspace:
    work = FakeWorkspace(folder)
    parts = ranks.ProgramCall(
        program=f"rank_programs.{program}",
        settings=settings,
        inputs={name: str(path) for name, path in inputs.items()},
        folder=str(folder),
    )
    if processes == 1:
        load_program(parts.program)(work, settings, inputs)
    else:
        with with_ranks(parts, processes):
            load_program(parts.program)(work, settings, inputs)
    return work


def results(folder: Path) -> list[Any]:
    return [torch.load(file, weights_only=True) for file in sorted(folder.glob("rank*.pt"))]


GDPO = {"_target_": "harness.trainers.advantage.Gdpo", "weights": {}}
BATCH = {"_target_": "harness.trainers.advantage.Batch"}
SEQUENCE = {"_target_": "harness.trainers.ratio.SequenceRatio", "clip_low": 3e-4, "clip_high": 4e-4}


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"advantage": BATCH, "kl": "reward", "ratio": SEQUENCE, "zero_spread": "drop", "truncated": "mask"},
        {
            "advantage": GDPO,
            "aggregate": "stage",
            "credit": "split",
            "token_weights": "guidance",
            "zero_spread": "resample",
            "resample_batches": 2,
        },
    ],
    ids=["default", "over the step", "by stage"],
)
def test_two_processes_of_grpo_have_the_losses_of_one_and_equal_weights(
    tmp_path: Path, janus_folder: Path, variant: dict[str, Any]
) -> None:
    settings = grpo_settings(
        {"guidance": 3.0}, steps=3, prompts=4, micro_batch=3, inner_epochs=2, checkpoint_every=2, **variant
    )
    one, two = (
        run("keep_weights", tmp_path / str(count), settings, {"start": janus_folder.parent}, processes=count)
        for count in (1, 2)
    )
    assert len(two.lines) == 3
    for alone, together in zip(one.lines, two.lines, strict=True):
        assert {**together, "seconds": 0} == pytest.approx({**alone, "seconds": 0}, rel=1e-4, abs=1e-6)
    (alone,), (first, second) = results(one.folder), results(two.folder)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for (
        name,
        value,
    ) in alone.items():  # where a gradient is all but zero, rounding decides the sign that AdamW follows
        far = (value - first[name]).abs() > 1e-4
        assert far.float().mean() < 0.02, name
    assert sorted(path.name for path in two.folder.iterdir()) == [
        "checkpoint",
        "rank0.pt",
        "rank1.pt",
        "training.pt",
    ]


@pytest.fixture(scope="module")
def descents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of one process and of two that did the same."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for count, folder in enumerate(folders, start=1):
        run("descend", folder, {"cut": [False, True]}, processes=count)
    return folders


@pytest.mark.parametrize("kind", ["whole", "cut"])
def test_the_learner_of_two_is_the_learner_of_one(descents: tuple[Path, Path], kind: str) -> None:
    """Though every rank started elsewhere; `cut` is FSDP."""
    ((alone,), (first, second)) = map(results, descents)
    assert first[kind]["counts"] == second[kind]["counts"] == [8, [2, 2], [0, "x", 1, "x"]]
    assert alone[kind]["counts"] == [8, [1, 1], [0, "x"]]
    for measured in ("losses", "norms"):
        assert (
            first[kind][measured] == second[kind][measured] == pytest.approx(alone[kind][measured], abs=1e-5)
        )
    for name, value in alone[kind]["weights"].items():
        assert torch.allclose(first[kind]["weights"][name], value, atol=1e-5), name
    whole_blocks = [
        value.numel() > 0 for name, value in second[kind]["weights"].items() if name.startswith("blocks")
    ]
    assert all(whole_blocks) if kind == "whole" else not any(whole_blocks), "only rank 0 is to save"


@pytest.mark.parametrize("kind", ["whole", "cut"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_restored_run_resumes_bit_for_bit(descents: tuple[Path, Path], kind: str, processes: int) -> None:
    ranks_ = results(descents[processes - 1])
    for one in ranks_:
        assert len(one[f"{kind} again"]["losses"]) == 2
        assert one[f"{kind} again"]["losses"] == one[kind]["losses"][2:]
        for name, value in one[kind]["weights"].items():
            assert name.startswith("unused") or torch.equal(one[f"{kind} again"]["weights"][name], value), (
                name
            )


@pytest.mark.parametrize("kind", ["whole", "cut"])
def test_one_process_resumes_from_a_checkpoint_of_two(
    descents: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    name = f"training-{kind == 'cut'}.pt"
    (tmp_path / name).write_bytes((descents[1] / name).read_bytes())
    run("descend", tmp_path, {"cut": [kind == "cut"]}, processes=1)
    ((resumed,), (first, _)) = results(tmp_path), results(descents[1])
    assert resumed[kind]["losses"] == pytest.approx(first[kind]["losses"][2:], abs=1e-5)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_a_policy_with_sharded_layers_trains_as_an_unsharded_one(
    tmp_path: Path, janus_folder: Path, recompute: bool
) -> None:
    settings = {"benchmark": BENCHMARK, "policy": {**JANUS, "recompute": recompute}}
    one, two = (
        run("imitate", tmp_path / str(count), settings, {"start": janus_folder.parent}, processes=count)
        for count in (1, 2)
    )
    for alone, together in zip(one.lines, two.lines, strict=True):
        assert together == pytest.approx(alone, rel=1e-5, abs=1e-5)
    saved = [
        JanusPolicy(work.folder / "checkpoint", template=TEMPLATE).module.state_dict() for work in (one, two)
    ]
    for name, value in saved[0].items():
        assert value.dtype == saved[1][name].dtype
        far = (value - saved[1][name]).abs() > 1e-4
        assert far.float().mean() < 0.02, name


def test_weights_that_differ_between_processes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no longer hold the same weights, first head\.bias"):
        run("drift", tmp_path, {})
    assert not (tmp_path / "training.pt").exists()


def test_items_that_do_not_divide_among_processes_are_refused() -> None:
    class Three(rank_programs.Learner):
        processes, rank = 3, 1

    learner = Three(rank_programs.Net(), **rank_programs.RATES)
    assert learner.share(range(6)) == [2, 3]
    with pytest.raises(ValueError, match=r"7 items .* resources\.processes=3"):
        learner.share(range(7))
