"""The merit of a chain: which of two chains is the better description of a prompt, by counting alone.

It has no weights and ignores prose, so it is no copy of the grades that rewards ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.grading import usable
from benchmarks.shapes.scoring import find, relation_strength
from harness.types import Box, Chain, Detection, PlannedObject

_ANYWHERE = Box(0, 0, 0, 0)


class Merit(NamedTuple):
    """Merits compare by `true` first, then by `unasked`, then by `faults`; a greater one is better.

    `true` counts the facts that hold in the boxes: an object of the prompt is planned exactly as asked for,
    with a box that can be drawn; the relation holds between the boxes of its two objects. `unasked` is minus
    the number of planned objects that the prompt does not ask for, `faults` minus that of the chain's faults.
    """

    true: int
    unasked: int
    faults: int


def merit(facts: Facts, chain: Chain) -> Merit:
    """Return the merit of a chain for a prompt with these facts."""
    drawn = find(facts.objects, _as_seen([thing for thing in chain.objects if usable(thing.box)]))
    named = find(facts.objects, _as_seen(chain.objects))
    true = sum(thing is not None for thing in drawn) + (relation_strength(facts, drawn) == 1)
    asked = sum(thing is not None for thing in named)
    return Merit(true=true, unasked=asked - len(chain.objects), faults=-len(chain.faults))


def compare(facts: Facts, first: Chain, second: Chain) -> tuple[str, str]:
    """Return the better chain, `A` for the first, `B` for the second or `tie`, and the reason."""
    merits = merit(facts, first), merit(facts, second)
    reason = "; ".join(f"{name}: {_counts(found)}" for name, found in zip("AB", merits, strict=True))
    choice = "tie" if merits[0] == merits[1] else "A" if merits[0] > merits[1] else "B"
    return choice, f"{reason}."


def _as_seen(objects: Sequence[PlannedObject]) -> list[Detection]:
    """Planned objects as a detector would report them; those without a box lie anywhere."""
    return [Detection(label=thing.name, box=thing.box or _ANYWHERE, score=1.0) for thing in objects]


def _counts(found: Merit) -> str:
    return f"{found.true} facts hold, {-found.unasked} unasked objects, {-found.faults} faults"
