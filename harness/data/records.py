"""Training data of SFT (`data=`) that comes from a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.seeds import derive
from harness.types import Record

if TYPE_CHECKING:
    from harness.protocols import Benchmark


class CutOffError(ValueError):
    """The crop to the policy's shape removes an object of a record's image. The data is not at fault."""


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A record that is in memory already (`harness.protocols.Entry`)."""

    record: Record

    @property
    def place(self) -> str:
        return self.record.prompt.id

    def load(self, size: tuple[int, int]) -> Record:
        return self.record


class BenchmarkRecords:
    """`data=benchmark`: the endless records of the benchmark, whose images have the policy's size already."""

    endless = True
    max_bad_share = 0.0

    def __init__(self, *, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self.external: tuple[str, ...] = benchmark.external
        self.listing: tuple[tuple[str, int], ...] = ()

    def count(self, limit: int | None) -> int:
        assert limit is not None
        return limit

    def entries(self, seed: int | None, count: int) -> Iterator[_Ready]:
        assert seed is not None
        records: Iterable[Record] = self._benchmark.records(derive(seed, "sft"), count)
        return (_Ready(record=record) for record in records)
