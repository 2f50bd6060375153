"""Rows that several processes write: blocks are shared, nothing is done twice, and a kill loses no row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import team
from harness.evaluation.row_shards import BLOCK, RowShards


def at(monkeypatch: pytest.MonkeyPatch, rank: int, processes: int) -> None:
    monkeypatch.setattr(team, "rank_and_size", lambda: (rank, processes))
    monkeypatch.setattr(team, "barrier", lambda: None)


def written(indices: list[int]) -> list[dict[str, int]]:
    return [{"index": index, "twice": 2 * index} for index in indices]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7])
def test_the_blocks_of_all_processes_are_all_items_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int, processes: int
) -> None:
    shares = []
    for rank in range(processes):
        at(monkeypatch, rank, processes)
        own = RowShards(tmp_path / "parts")
        own.open()
        blocks = list(own.to_do(count))
        assert all(block[0] // BLOCK % processes == rank and len(block) <= BLOCK for block in blocks)
        shares += [index for block in blocks for index in block]
    assert sorted(shares) == list(range(count))


def test_what_any_file_holds_is_not_done_again_by_another_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for rank in range(3):
        at(monkeypatch, rank, 3)
        own = RowShards(tmp_path / "parts")
        own.open()
        own.append(written(list(range(rank * BLOCK, rank * BLOCK + 10))))
    at(monkeypatch, 0, 1)
    alone = RowShards(tmp_path / "parts")
    alone.open()
    assert [block[0] for block in alone.to_do(3 * BLOCK)] == [10, BLOCK + 10, 2 * BLOCK + 10]
    assert alone.count() == 30
    for block in alone.to_do(3 * BLOCK):
        alone.append(written(block))
    assert alone.count() == 3 * BLOCK
    assert sorted(alone.rows(), key=lambda row: row["index"]) == written(list(range(3 * BLOCK)))


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda raw: raw[:-1], 4),
        (lambda raw: raw[:-9], 4),
        (lambda raw: raw + b'{"index": 5, "tw', 5),
        (lambda raw: raw.replace(b'{"index": 2', b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 2),
        (lambda raw: raw + b"[1]\n", 5),
        (lambda raw: b"", 0),
    ],
    ids=["line end", "half a line", "one more begun", "zeros within", "another row", "empty"],
)
def test_a_broken_file_is_cut_to_its_whole_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage, kept: int
) -> None:
    at(monkeypatch, 0, 1)
    first = RowShards(tmp_path / "parts")
    first.open()
    first.append(written([0, 1, 2, 3, 4]))
    (file,) = (tmp_path / "parts").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = RowShards(tmp_path / "parts")
    again.open()
    assert again.rows() == written(list(range(kept)))
    (block,) = again.to_do(5) if kept < 5 else [[]]
    again.append(written(block))
    assert [json.loads(line)["index"] for line in file.read_text().splitlines()] == [0, 1, 2, 3, 4]


def test_a_process_that_is_alone_has_no_group() -> None:
    assert team.rank_and_size() == (0, 1)
    team.barrier()
