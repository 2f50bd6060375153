"""Stages whose numbers are the same, bit for bit, in one process and in two: an idle core may help."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from mini_got import PIXELS, record, source, write_lines, write_pictures
from mini_got import settings as got
from mini_world import (
    BENCHMARK,
    POLICY,
    FakeWorkspace,
    Interrupted,
    sft_settings,
    tokens_settings,
    with_ranks,
)

from harness.composition.components import make
from harness.data.tokens import BLOCK, TokenCache
from harness.stages import ranks
from harness.stages.program import load_program
from harness.trainers.recipes import Sft

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(janus_folder: Path, tokens_folder: Path) -> Run:
    """Runs a program in a folder with some processes, until `stop_at`; returns what it reports."""
    inputs = {"start": janus_folder.parent, "tokens": tokens_folder}
    named = {name: str(folder) for name, folder in inputs.items()}

    def made(
        path: str, settings: dict[str, Any], folder: Path, processes: int, stop_at: int | None = None
    ) -> list[dict[str, Any]]:
        work = FakeWorkspace(folder, stop_at)
        call = ranks.ProgramCall(program=path, settings=settings, inputs=named, folder=str(folder))
        team = with_ranks(call, processes) if processes > 1 else nullcontext()
        with pytest.raises(Interrupted) if stop_at else nullcontext(), team:
            load_program(path)(work, settings, inputs)
        return [{**line, "seconds": 0} for line in work.lines]

    return made


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a result; what a program resumes from is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "training.pt"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def tokenizer_settings() -> dict[str, Any]:
    policy = {**POLICY, "vq": POLICY["vq"] | {"steps": 6, "batch_size": 5}}
    return dict(make(policy).start({"policies": policy, "benchmarks": BENCHMARK, "sft_seed": 3}).settings)


SFT = "harness.trainers.sft.train", sft_settings(batch_size=6, steps=6, chain_dropout=0.3, checkpoint_every=1)
TOKENIZER = "policies.janus.tiny.build", tokenizer_settings()


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_two_processes_of_sft_end_in_the_bytes_of_one(
    run: Run, tmp_path: Path, micro_batch: int | None
) -> None:
    path, settings = SFT
    settings = {**settings, "sft": settings["sft"] | {"micro_batch": micro_batch}}
    one, two = (run(path, settings, tmp_path / str(count), count) for count in (1, 2))
    assert len(one) == 6 and one == two
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_any_number_of_processes_makes_the_tokenizer_of_one(run: Run, tmp_path: Path) -> None:
    one, three = (run(*TOKENIZER, tmp_path / str(count), count) for count in (1, 3))
    assert len(one) == 6 and one == three
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


@pytest.mark.parametrize("counts", [(1, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("program", [SFT, TOKENIZER], ids=["sft", "tokenizer"])
def test_a_run_resumes_with_another_number_of_processes_to_the_same_bytes(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: tuple[str, dict[str, Any]],
    counts: tuple[int, int],
) -> None:
    monkeypatch.setattr("policies.janus.tiny.SAVE_EVERY", 1)
    whole = run(*program, tmp_path / "whole", 1)
    run(*program, tmp_path / "cut", counts[0], stop_at=4)
    assert run(*program, tmp_path / "cut", counts[1]) == whole[3:], "the step of the stop was not saved"
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.fixture
def records(tmp_path: Path) -> dict[str, Any]:
    """Settings of records in files that fill two blocks and a part of a third one, some of them bad."""
    lines = [record(number, file=f"pictures/{number % 30}.png") for number in range(2 * BLOCK + 90)]
    lines[7], lines[BLOCK + 9] = record(7, got="nothing"), record(8, file="gone.png")
    sources = {"a": source(write_lines(tmp_path / "a.jsonl", lines), write_pictures(tmp_path / "images", 30))}
    return tokens_settings(data=got(sources, max_bad_share=0.5), seed=None, policy=PIXELS, records=None)


def test_processes_that_share_the_records_write_the_files_of_one(
    run: Run, records: dict[str, Any], tmp_path: Path
) -> None:
    path = "harness.data.tokens.encode"
    one, two = (run(path, records, tmp_path / str(count), count) for count in (1, 2))
    assert one == two and [line["step"] for line in one] == [BLOCK, 2 * BLOCK, 2 * BLOCK + 90]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(TokenCache(tmp_path / "1")) == 2 * BLOCK + 88
    run(path, records, tmp_path / "cut", 2, stop_at=BLOCK)
    run(path, records, tmp_path / "cut", 1)
    assert contents(tmp_path / "cut") == contents(tmp_path / "1")


@pytest.mark.parametrize(
    ("changes", "halves"),
    [
        ({}, True),
        ({"micro_batch": 8}, True),
        ({"micro_batch": 7}, False),
        ({"batch_size": 15}, False),
        ({"fsdp": True}, False),
    ],
    ids=str,
)
def test_sft_says_whether_two_processes_change_no_bit(changes: dict[str, Any], halves: bool) -> None:
    settings = sft_settings(records=16, batch_size=16)["sft"] | changes
    config = {"policies": POLICY, "benchmarks": BENCHMARK, "sft_seed": 3}
    data = tokens_settings()["data"]
    tokenizer = make(POLICY).start(config)
    tokens, sft = Sft(sft=settings, data=data).stages(config, tokenizer)
    assert tokenizer.halves and tokens.halves and sft.halves == halves
