"""Means over a step against plain loops."""

from __future__ import annotations

import pytest
import torch

from harness.trainers.aggregate import KINDS, Counts, aggregate

TERMS = torch.tensor(
    [
        [1.0, 2.0, 3.0, 4.0, 5.0],
        [6.0, 7.0, 8.0, 9.0, 1.5],
        [0.5, 2.5, 3.5, 4.5, 5.5],
        [9.0, 9.0, 9.0, 9.0, 9.0],
    ],
    dtype=torch.float64,
)
ACTIONS = torch.tensor([[1, 1, 0, 1, 1], [0, 0, 0, 1, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
IMAGE = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]).bool()
COUNTS = Counts(samples=4, actions=8, with_chain=2, with_image=3)
HORIZON = 7


def rows(stage: bool | None) -> list[list[float]]:
    """Each sample's terms of actions: all, of the chain (False) or of the image (True)."""
    found = []
    for row in range(4):
        places = [column for column in range(5) if ACTIONS[row, column]]
        found.append([TERMS[row, c].item() for c in places if stage is None or bool(IMAGE[row, c]) == stage])
    return found


def mean_of_means(samples: list[list[float]], count: int) -> float:
    total = 0.0
    for terms in samples:
        if terms:
            total += sum(terms) / len(terms)
    return total / count


def naive(kind: str) -> float:
    if kind == "sample":
        return mean_of_means(rows(None), 4)
    everything = sum(sum(terms) for terms in rows(None))
    if kind == "token":
        return everything / 8
    if kind == "fixed":
        return everything / HORIZON / 4
    return (mean_of_means(rows(False), 2) + mean_of_means(rows(True), 3)) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_is_that_of_plain_loops(kind: str) -> None:
    found = aggregate(kind, TERMS, ACTIONS, IMAGE, COUNTS, HORIZON)
    assert found.item() == pytest.approx(naive(kind), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
def test_the_shares_of_micro_batches_add_up_to_the_mean_of_the_step(kind: str, size: int) -> None:
    total = 0.0
    for start in range(0, 4, size):
        rows_of = slice(start, start + size)
        part = aggregate(kind, TERMS[rows_of], ACTIONS[rows_of], IMAGE[rows_of], COUNTS, HORIZON)
        total += part.item()
    assert total == pytest.approx(naive(kind), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_without_actions_has_the_mean_0(kind: str) -> None:
    nothing = Counts(samples=0, actions=0, with_chain=0, with_image=0)
    assert aggregate(kind, TERMS, torch.zeros_like(ACTIONS), IMAGE, nothing, HORIZON).item() == 0
