"""Stage program `tokens`: training records as ids, encoded once and kept in a file with random access.

    ids.bin            int32, all ids of all records: prompt, chain, image, record after record
    ends.bin           int64 [records, 4]: where prompt, chain and image end in ids.bin, and whether the chain's end is forced
    bad_records.jsonl  place and reason of every record that was left out
    tokens.json        how much of these files is valid: replaced after every block, so that a kill loses a block at most

A record whose picture loses an object to the policy's shape is left out as well, and counted by itself (`cut_off`).
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

from harness.composition.components import make
from harness.data.records import CutOffError
from harness.files import read_rows, write_rows
from harness.types import Record, Tokens

if TYPE_CHECKING:
    from harness.protocols import Entry, Workspace

IDS, ENDS, BAD, STATE = "ids.bin", "ends.bin", "bad_records.jsonl", "tokens.json"
BLOCK = 256  # records encoded and written at a time
ENOUGH = 1000  # records seen before the share of bad ones can stop a run; and at the end
NAMED = 10  # bad records in the message then


def encode(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Encodes the first `records` records of the data (null: all) with the policy's tokenizers.

    Raises:
        ValueError: too many records are bad, or there are none to train on.
    """
    data = make(settings["data"])
    total = data.count(settings["records"])
    writer = TokenWriter(work.folder)
    entries = islice(data.entries(settings["seed"], total), writer.done.seen, None)
    policy = make(settings["policy"]).load(inputs["start"] / "checkpoint")
    for block in _blocks(_loaded(entries, policy.image_size)):
        good = [record for _, record in block if isinstance(record, Record)]
        bad = [(entry, error) for entry, error in block if isinstance(error, ValueError)]
        writer.append(policy.encode(good) if good else [], bad)
        _check_share(work.folder, writer.done, data.max_bad_share, least=ENOUGH)
        work.progress(writer.done.seen, total, writer.done.metrics())
    _check_share(work.folder, writer.done, data.max_bad_share, least=1)
    if not writer.done.records:
        raise ValueError("data= gave no training records: choose data that has them, or raise sft.records")


@dataclass(frozen=True, kw_only=True)
class Done:
    """What the files hold; `sizes` are their valid bytes."""

    seen: int = 0
    records: int = 0
    bad: int = 0
    cut_off: int = 0
    sizes: dict[str, int] = field(default_factory=dict)

    def metrics(self) -> dict[str, float | int | None]:
        return {"records": self.records, "bad": self.bad, "cut_off": self.cut_off}


class TokenWriter:
    """Appends blocks to the files of a folder; what an interrupted block left there is cut off."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        state = folder / STATE
        self.done = Done(**json.loads(state.read_text(encoding="utf-8"))) if state.is_file() else Done()
        for name in (IDS, ENDS, BAD):
            (folder / name).touch()
            os.truncate(folder / name, self.done.sizes.get(name, 0))

    def append(self, good: Sequence[Tokens], bad: Sequence[tuple[Entry, ValueError]]) -> None:
        """Records and those left out, with the reasons; on the disk when this returns."""
        lengths = [(len(one.prompt), len(one.chain), len(one.image)) for one in good]
        start = self.done.sizes.get(IDS, 0) // np.dtype(np.int32).itemsize
        ends = start + np.cumsum(np.array(lengths, dtype="<i8").reshape(-1)).reshape(-1, 3)
        forced = np.array([[one.forced_end] for one in good], dtype="<i8").reshape(-1, 1)
        ids = [np.array(part, dtype="<i4") for one in good for part in (one.prompt, one.chain, one.image)]
        self._add(IDS, np.concatenate(ids).tobytes() if ids else b"")
        self._add(ENDS, np.hstack((ends, forced)).astype("<i8").tobytes())
        left_out = [
            {"place": entry.place, "reason": str(error), "bad": not isinstance(error, CutOffError)}
            for entry, error in bad
        ]
        write_rows(self._folder / BAD, left_out, "a")
        cut_off = sum(not line["bad"] for line in left_out)
        self.done = replace(
            self.done,
            seen=self.done.seen + len(good) + len(bad),
            records=self.done.records + len(good),
            bad=self.done.bad + len(left_out) - cut_off,
            cut_off=self.done.cut_off + cut_off,
            sizes={name: (self._folder / name).stat().st_size for name in (IDS, ENDS, BAD)},
        )
        new = self._folder / f"{STATE}.new"
        new.write_text(json.dumps(asdict(self.done)), encoding="utf-8")
        for path in (*(self._folder / name for name in (IDS, ENDS, BAD)), new):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        new.replace(self._folder / STATE)

    def _add(self, name: str, data: bytes) -> None:
        with (self._folder / name).open("ab") as stream:
            stream.write(data)


class TokenCache:
    """The encoded records of a folder, by their number; the files stay on the disk."""

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


Outcome = tuple["Entry", Record | ValueError]


def _loaded(entries: Iterable[Entry], size: tuple[int, int]) -> Iterator[Outcome]:
    """Every entry with its record or why it has none, in order; several are read ahead, by as many threads as the process may use."""
    with ThreadPoolExecutor(int(os.environ.get("OMP_NUM_THREADS", "1"))) as pool:
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


def _check_share(folder: Path, done: Done, allowed: float, *, least: int) -> None:
    """Stops the run where too many records are bad; those that were cut off are not."""
    if done.seen < least or done.bad <= allowed * done.seen:
        return
    first = [f"{line['place']}: {line['reason']}" for line in read_rows(folder / BAD) if line["bad"]]
    raise ValueError(
        f"{done.bad} of {done.seen} records are bad, allowed is a share of data.max_bad_share={allowed}. The first of them:\n"
        + "\n".join(first[:NAMED])
        + "\nMend the data or the settings of data=; or raise data.max_bad_share, if so many may be left out"
    )
