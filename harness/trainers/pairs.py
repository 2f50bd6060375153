"""Preference pairs: the best and the worst of a prompt's samples, and the file of a round's pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.files import read_rows, write_rows
from harness.trainers.advantage import LEAST_SPREAD
from harness.types import Group, Tokens


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The samples of a group with the highest and the lowest total.

    `position` is that of the group among all groups of the step.
    """

    position: int
    best: Tokens
    worst: Tokens
    best_total: float
    worst_total: float


@dataclass(frozen=True, kw_only=True)
class StepPairs:
    """The pairs of a step, those of all processes. `unscored` samples were in no pair."""

    step: int
    pairs: tuple[Pair, ...]
    groups_without_pair: int
    unscored: int

    @property
    def groups(self) -> int:
        """How many groups were drawn for the step."""
        return len(self.pairs) + self.groups_without_pair


def pair_of(group: Group, position: int) -> Pair | None:
    """The best and the worst scored sample of a group, the first of equal ones.

    None where no two samples are scored, or where all totals are equal: neither is preferred then.
    """
    best: tuple[float, Tokens] | None = None
    worst: tuple[float, Tokens] | None = None
    for sample, reward in zip(group.samples, group.rewards, strict=True):
        total = reward.total.value
        if total is None:
            continue
        if best is None or total > best[0]:
            best = total, sample.tokens
        if worst is None or total < worst[0]:
            worst = total, sample.tokens
    if best is None or worst is None or best[0] - worst[0] < LEAST_SPREAD:
        return None
    return Pair(position=position, best=best[1], worst=worst[1], best_total=best[0], worst_total=worst[0])


class PairFile:
    """The pairs of the current round on disk, a JSON line for every step.

    Every process holds them in memory too; the file is read once, to resume.

    Args:
        file: where they are.
        writes: whether this process writes the file.
    """

    def __init__(self, file: Path, *, writes: bool) -> None:
        self._file, self._writes = file, writes
        self._steps: dict[int, StepPairs] = {}

    def __getitem__(self, step: int) -> StepPairs:
        return self._steps[step]

    def resume(self, start: int) -> int:
        """Reads what an earlier attempt has drawn for the round that begins with step `start`.

        Returns:
            The number of steps that have their pairs.

        Raises:
            ValueError: the file is damaged.
        """
        rows = read_rows(self._file)
        if not rows or rows[0]["step"] != start:  # of an earlier round
            return 0
        for row in rows:
            self._steps[row["step"]] = _read(row)
        if self._writes:
            write_rows(self._file, rows)  # without a last line that was cut off
        return len(rows)

    def add(self, drawn: StepPairs, *, first: bool) -> None:
        """Keeps the pairs of a step; the first of a round replaces the earlier round."""
        if first:
            self._steps.clear()
        self._steps[drawn.step] = drawn
        if self._writes:
            write_rows(self._file, [asdict(drawn)], "w" if first else "a")


def _read(row: Mapping[str, Any]) -> StepPairs:
    pairs = []
    for pair in row["pairs"]:
        best, worst = _tokens(pair["best"]), _tokens(pair["worst"])
        pairs.append(Pair(**{**pair, "best": best, "worst": worst}))
    return StepPairs(**{**row, "pairs": tuple(pairs)})


def _tokens(ids: Mapping[str, Any]) -> Tokens:
    return Tokens(
        prompt=tuple(ids["prompt"]),
        chain=tuple(ids["chain"]),
        image=tuple(ids["image"]),
        forced_end=ids["forced_end"],
    )
