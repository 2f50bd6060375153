"""The stage `tokens`: records encoded once, in order, also after an interruption; bad ones counted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mini_got import PIXELS, record, settings, source, write_lines, write_pictures
from mini_world import BENCHMARK, TEMPLATE, FakeWorkspace, Interrupted, MiniBenchmark, tokens_settings

from harness.composition.components import make
from harness.data import tokens
from harness.data.tokens import TokenCache, TokenWriter
from harness.files import read_rows
from harness.seeds import derive
from harness.types import Tokens
from policies.janus.policy import JanusPolicy


@pytest.fixture
def inputs(janus_folder: Path) -> dict[str, Path]:
    return {"start": janus_folder.parent}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def blocks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "BLOCK", 2)


@pytest.mark.parametrize("block", [2, 256])
def test_the_benchmarks_records_are_what_the_policy_makes_of_them(
    inputs: dict[str, Path], janus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(tokens, "BLOCK", block)
    work = FakeWorkspace(tmp_path)
    tokens.encode(work, tokens_settings(), inputs)
    cache = TokenCache(work.folder)
    records = MiniBenchmark(captions=BENCHMARK["captions"]).records(derive(5, "sft"), 7)
    assert [cache[index] for index in range(len(cache))] == JanusPolicy(
        janus_folder, template=TEMPLATE
    ).encode(records)
    assert [(line["step"], line["total"]) for line in work.lines] == [
        (min(end, 7), 7) for end in range(block, 7 + block, block)
    ]
    assert work.lines[-1] | {"step": 0, "total": 0} == {
        "step": 0,
        "total": 0,
        "records": 7,
        "bad": 0,
        "cut_off": 0,
    }
    with pytest.raises(IndexError):
        cache[7]


GOT = [record(n) for n in range(8)] + ["{", record(8, got="nothing"), record(9, file="gone.png")]


def got_settings(folder: Path, lines: list[Any] = GOT, **changes: Any) -> dict[str, Any]:
    """Pictures come once, and the annotation anew each time."""
    if not (folder / "images").exists():
        write_pictures(folder / "images", 30)
    sources = {"lahr": source(write_lines(folder / "a.jsonl", lines), folder / "images")}
    wanted = {"max_bad_share": 0.5, "records": None, **changes}
    return tokens_settings(
        data=settings(sources, max_bad_share=wanted.pop("max_bad_share")), seed=None, policy=PIXELS, **wanted
    )


def test_pictures_from_files_come_in_the_size_that_the_policy_draws(
    inputs: dict[str, Path], janus_folder: Path, tmp_path: Path
) -> None:
    wanted = {**got_settings(tmp_path), "policy": tokens_settings()["policy"]}
    work = FakeWorkspace(tmp_path / "work")
    tokens.encode(work, wanted, inputs)
    policy, cache = JanusPolicy(janus_folder, template=TEMPLATE), TokenCache(work.folder)
    assert policy.image_size == (12, 12)
    good = [entry.load((12, 12)) for entry in list(make(wanted["data"]).entries(None, 8))]
    assert [cache[index] for index in range(len(cache))] == policy.encode(good)


@pytest.mark.usefixtures("blocks_of_two")
@pytest.mark.parametrize("stop_at", [2, 8, 10, 11])
def test_an_interrupted_run_ends_in_the_same_bytes(
    inputs: dict[str, Path], tmp_path: Path, stop_at: int
) -> None:
    wanted = got_settings(tmp_path)
    whole, stopped = FakeWorkspace(tmp_path / "whole"), FakeWorkspace(tmp_path / "stopped", stop_at)
    tokens.encode(whole, wanted, inputs)
    with pytest.raises(Interrupted):
        tokens.encode(stopped, wanted, inputs)
    stopped.stop_at = None
    tokens.encode(stopped, wanted, inputs)
    assert contents(stopped.folder) == contents(whole.folder)
    assert [line["step"] for line in stopped.lines] == [2, 4, 6, 8, 10, 11], "no block is encoded twice"
    assert len(TokenCache(whole.folder)) == 8
    assert [Path(line["place"]).name for line in read_rows(whole.folder / "bad_records.jsonl")] == [
        "a.jsonl:9",
        "a.jsonl:10",
        "a.jsonl:11",
    ]


@pytest.mark.usefixtures("blocks_of_two")
@pytest.mark.parametrize("writes", range(1, 9))
def test_a_kill_in_the_middle_of_a_block_loses_that_block_alone(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    wanted, left = got_settings(tmp_path), [writes]
    whole, killed = FakeWorkspace(tmp_path / "whole"), FakeWorkspace(tmp_path / "killed")
    tokens.encode(whole, wanted, inputs)
    real = os.fsync

    def die(descriptor: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise Interrupted
        real(descriptor)

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(Interrupted):
        tokens.encode(killed, wanted, inputs)
    monkeypatch.setattr(os, "fsync", real)
    with (killed.folder / "bad_records.jsonl").open("a") as stream:
        stream.write('{"place": "half a li')
    tokens.encode(killed, wanted, inputs)
    assert contents(killed.folder) == contents(whole.folder)


def test_records_of_any_length_come_back(tmp_path: Path) -> None:
    given = [
        Tokens(prompt=(1, 2, 3), chain=(4, 5), image=(6,)),
        Tokens(prompt=(), chain=(2**31 - 1,), image=(), forced_end=True),
        Tokens(prompt=(9,), chain=(), image=(7, 8)),
    ]
    writer = TokenWriter(tmp_path)
    writer.append(given[:1], [])
    writer.append([], [])
    writer.append(given[1:], [])
    cache = TokenCache(tmp_path)
    assert [cache[index] for index in (2, 0, 1)] == [given[2], given[0], given[1]]


def test_files_that_hold_fewer_records_than_asked_for_are_refused_at_once(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"sft\.records=12, but the files of data=got hold 11"):
        tokens.encode(FakeWorkspace(tmp_path / "work"), got_settings(tmp_path, records=12), inputs)


def test_too_many_bad_records_stop_the_run_with_the_first_ten(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    bad = [record(n, got=f"nothing {n}") for n in range(12)]
    with pytest.raises(ValueError) as caught:
        tokens.encode(
            FakeWorkspace(tmp_path / "work"), got_settings(tmp_path, [*GOT[:2], *bad, *GOT[2:8]]), inputs
        )
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("12 of 20 records are bad, and data.max_bad_share=0.5 is the largest")
    assert [line for line in lines if "nothing" in line] == lines[1:11]
    assert lines[1] == f"{tmp_path / 'a.jsonl'}:3: no object with a box in the chain 'nothing 0'"
    assert "raise data.max_bad_share" in lines[-1]
    tokens.encode(FakeWorkspace(tmp_path / "more"), got_settings(tmp_path, [*GOT[:8], *bad[:8]]), inputs)


@pytest.mark.usefixtures("blocks_of_two")
def test_a_hopeless_run_stops_once_enough_records_were_seen(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "ENOUGH", 4)
    work = FakeWorkspace(tmp_path / "work")
    with pytest.raises(ValueError, match="3 of 4 records are bad"):
        tokens.encode(
            work,
            got_settings(
                tmp_path, [record(0, got="x"), record(1), *(record(n, got="x") for n in range(9)), *GOT[:8]]
            ),
            inputs,
        )
    assert [line["step"] for line in work.lines] == [2]


def test_records_that_lose_an_object_are_left_out_and_are_not_bad(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    from PIL import Image

    wanted = got_settings(
        tmp_path,
        [record(0), record(1, file="wide.png", got="a cat (0,0),(100,100)"), record(2, file="wide.png")],
        max_bad_share=0,
    )
    Image.new("RGB", (64, 16)).save(tmp_path / "images" / "wide.png")
    work = FakeWorkspace(tmp_path / "work")
    tokens.encode(work, wanted, inputs)
    assert work.lines[-1] == {"step": 3, "total": 3, "records": 2, "bad": 0, "cut_off": 1}
    assert [line["bad"] for line in read_rows(work.folder / "bad_records.jsonl")] == [False]
    squashed = FakeWorkspace(tmp_path / "squashed")
    tokens.encode(squashed, {**wanted, "data": {**wanted["data"], "fit": "squash"}}, inputs)
    assert squashed.lines[-1]["records"] == 3


@pytest.mark.parametrize("lines", [[], [record(0, got="x")]], ids=["empty", "bad"])
def test_no_records_is_a_clear_error(inputs: dict[str, Path], tmp_path: Path, lines: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"no training records.*sft\.records"):
        tokens.encode(
            FakeWorkspace(tmp_path / "work"), got_settings(tmp_path, lines, max_bad_share=1), inputs
        )


def test_more_threads_change_nothing(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = got_settings(tmp_path)
    works = [FakeWorkspace(tmp_path / f"work{count}") for count in (1, 4)]
    for count, work in zip((1, 4), works, strict=True):
        monkeypatch.setenv("OMP_NUM_THREADS", str(count))
        tokens.encode(work, wanted, inputs)
    assert contents(works[0].folder) == contents(works[1].folder)


def test_a_record_keeps_its_forced_end(tmp_path: Path) -> None:
    one = Tokens(prompt=(1,), chain=(2,), image=(3,))
    TokenWriter(tmp_path).append([one, replace(one, forced_end=True)], [])
    assert [TokenCache(tmp_path)[index].forced_end for index in range(2)] == [False, True]
