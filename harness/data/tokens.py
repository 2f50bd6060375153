"""Stage program `tokens`: encodes training records once, into files with random access.

    ids.bin            int32, the ids of all records: prompt, chain, image, record after record
    ends.bin           int64 [records, 4]: the ends of prompt, chain and image in ids.bin,
                       and whether the chain's end is forced
    bad_records.jsonl  place and reason of every skipped record
    tokens.json        the valid length of these files; replaced after every block, so a kill loses one block

A record is also skipped when the crop to the policy's shape removes one of its objects (`cut_off`).

Several processes share the blocks: each encodes every N-th one, and the first process writes all, in order.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import team
from harness.composition.components import make
from harness.data.records import CutOffError
from harness.files import flush, read_rows, write_rows, writing
from harness.processes import threads
from harness.types import Record, Tokens

if TYPE_CHECKING:
    from harness.protocols import Entry, Policy, Workspace

IDS, ENDS, BAD, STATE = "ids.bin", "ends.bin", "bad_records.jsonl", "tokens.json"
BLOCK = 256  # records encoded and written at a time
ENOUGH = 1000  # records seen before the share of bad records can stop a run; at the end it always can
NAMED = 10  # bad records in that message

Outcome = tuple["Entry", Record | ValueError]
BadRow = dict[str, Any]  # of bad_records.jsonl


def encode(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Encode the first `records` records of the data (null: all) with the policy's tokenizers.

    Raises:
        ValueError: too many records are bad, or no record is left to train on.
    """
    data = make(settings["data"])
    total = data.count(settings["records"])
    rank, processes = team.rank_and_size()
    writer = TokenWriter(work.folder) if rank == 0 else None
    seen = team.of_first(writer.done.seen if writer else 0)
    policy = make(settings["policy"]).load(inputs["start"] / "checkpoint")
    own = _own_blocks(islice(data.entries(settings["seed"], total), seen, None), rank, processes)
    blocks = _blocks(_loaded(own, policy.image_size))
    for _ in range(seen, total, processes * BLOCK):
        for good, bad in filter(any, team.collect(_encoded(policy, next(blocks, [])))):
            assert writer, "only rank 0 collects"
            writer.append(good, bad)
            _check_share(work.folder, writer.done, data.max_bad_share, least=ENOUGH)
            work.progress(writer.done.seen, total, writer.done.metrics())
    if writer:
        _check_share(work.folder, writer.done, data.max_bad_share, least=1)
        if not writer.done.records:
            raise ValueError(
                "data= gave no training records: choose data that has some, or raise sft.records"
            )


@dataclass(frozen=True, kw_only=True)
class Done:
    """The content of the files so far; `sizes` are their valid bytes."""

    seen: int = 0
    records: int = 0
    bad: int = 0
    cut_off: int = 0
    sizes: dict[str, int] = field(default_factory=dict)

    def metrics(self) -> dict[str, float | int | None]:
        return {"records": self.records, "bad": self.bad, "cut_off": self.cut_off}


class TokenWriter:
    """Appends blocks to the files of a folder. The rest of an interrupted block is truncated first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        state = folder / STATE
        self.done = Done(**json.loads(state.read_text(encoding="utf-8"))) if state.is_file() else Done()
        for name in (IDS, ENDS, BAD):
            (folder / name).touch()
            os.truncate(folder / name, self.done.sizes.get(name, 0))

    def append(self, good: Sequence[Tokens], bad: Sequence[BadRow]) -> None:
        """Write encoded records, and the rows of skipped ones. All of it is on disk on return."""
        lengths, forced, ids = [], [], [np.array([], dtype="<i4")]
        for tokens in good:
            lengths.append((len(tokens.prompt), len(tokens.chain), len(tokens.image)))
            forced.append([tokens.forced_end])
            ids += [np.array(part, dtype="<i4") for part in (tokens.prompt, tokens.chain, tokens.image)]
        start = self.done.sizes.get(IDS, 0) // np.dtype(np.int32).itemsize
        ends = start + np.cumsum(np.array(lengths, dtype="<i8").reshape(-1)).reshape(-1, 3)
        flags = np.array(forced, dtype="<i8").reshape(-1, 1)
        self._add(IDS, np.concatenate(ids).tobytes())
        self._add(ENDS, np.hstack((ends, flags)).astype("<i8").tobytes())
        write_rows(self._folder / BAD, bad, "a")
        cut_off = sum(not row["bad"] for row in bad)
        self.done = replace(
            self.done,
            seen=self.done.seen + len(good) + len(bad),
            records=self.done.records + len(good),
            bad=self.done.bad + len(bad) - cut_off,
            cut_off=self.done.cut_off + cut_off,
            sizes={name: (self._folder / name).stat().st_size for name in (IDS, ENDS, BAD)},
        )
        for name in (IDS, ENDS, BAD):
            flush(self._folder / name)
        with writing(self._folder / STATE, durable=True) as new:
            new.write_text(json.dumps(asdict(self.done)), encoding="utf-8")

    def _add(self, name: str, data: bytes) -> None:
        with (self._folder / name).open("ab") as stream:
            stream.write(data)


class TokenCache:
    """The encoded records of a folder, by their number. The files stay on disk."""

    def __init__(self, folder: Path) -> None:
        self._ids = np.asarray(np.memmap(folder / IDS, dtype="<i4", mode="r"))
        self._ends = np.asarray(np.memmap(folder / ENDS, dtype="<i8", mode="r")).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Tokens:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        prompt, chain, image, forced = self._ends[index].tolist()
        start = int(self._ends[index - 1, 2]) if index else 0
        ids = self._ids[start:image].tolist()
        parts = ids[: prompt - start], ids[prompt - start : chain - start], ids[chain - start :]
        return Tokens(
            prompt=tuple(parts[0]), chain=tuple(parts[1]), image=tuple(parts[2]), forced_end=bool(forced)
        )


def _own_blocks(entries: Iterable[Entry], rank: int, processes: int) -> Iterator[Entry]:
    """Yield the entries of every block whose turn it is on this rank."""
    for number, entry in enumerate(entries):
        if number // BLOCK % processes == rank:
            yield entry


def _loaded(entries: Iterable[Entry], size: tuple[int, int]) -> Iterator[Outcome]:
    """Yield every entry with its record or its error, in order.

    Entries are read ahead, by as many threads as the process may use.
    """
    with ThreadPoolExecutor(threads() or 1) as pool:
        waiting: deque[tuple[Entry, Future[Record | ValueError]]] = deque()
        try:
            for entry in entries:
                waiting.append((entry, pool.submit(_load, entry, size)))
                if len(waiting) > BLOCK:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _load(entry: Entry, size: tuple[int, int]) -> Record | ValueError:
    try:
        return entry.load(size)
    except ValueError as error:
        return error


def _blocks(outcomes: Iterator[Outcome]) -> Iterator[list[Outcome]]:
    while block := list(islice(outcomes, BLOCK)):
        yield block


def _encoded(policy: Policy, block: Sequence[Outcome]) -> tuple[list[Tokens], list[BadRow]]:
    """Return the tokens of the usable records of a block, and the rows of the others."""
    records, bad = [], []
    for entry, outcome in block:
        if isinstance(outcome, Record):
            records.append(outcome)
        else:
            is_bad = not isinstance(outcome, CutOffError)
            bad.append({"place": entry.place, "reason": str(outcome), "bad": is_bad})
    return policy.encode(records) if records else [], bad


def _check_share(folder: Path, done: Done, allowed: float, *, least: int) -> None:
    """Stop the run when too many records are bad. Records that the crop made unusable do not count."""
    if done.seen < least or done.bad <= allowed * done.seen:
        return
    bad = [row for row in read_rows(folder / BAD) if row["bad"]]
    first = [f"{row['place']}: {row['reason']}" for row in bad[:NAMED]]
    raise ValueError(
        f"{done.bad} of {done.seen} records are bad, and data.max_bad_share={allowed} is the largest share "
        "allowed. The first bad records:\n"
        + "\n".join(first)
        + "\nCorrect the data or the settings of data=, or raise data.max_bad_share to skip this many"
    )
