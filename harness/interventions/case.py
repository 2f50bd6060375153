"""What an intervention receives and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, ClassVar

from harness.chain import END
from harness.interventions.pool import Pool
from harness.interventions.reading import Reading
from harness.types import Chain, Prompt, SampledChain

NO_RELATION = "the prompt says no relation"
NO_DIRECTION = "the relation has no direction"
UNCLEAR_BOXES = "the boxes of this chain cannot be told apart"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What to draw an image from.

    Attributes:
        chain: ids as sampled, or a text that ends with begin-of-image.
        caption: the text that replaces the prompt's text; None keeps the prompt's.
        applied: whether the intervention could be applied. If not, this is what its baseline draws.
        reason: why it was not applied.
        details: plain JSON values that say what changed: boxes, names, the source of the chain.
    """

    chain: SampledChain | str
    caption: str | None = None
    applied: bool = True
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image to draw.

    Attributes:
        reading: its prompt, as the benchmark reads it.
        chains: the chains that the policy wrote for it: its own one, then as many further candidates as the
            intervention asks for.
        pool: the own chains of the whole split.
        rng: random numbers for this image and intervention.
    """

    reading: Reading
    chains: Sequence[SampledChain]
    pool: Pool
    rng: Random

    @property
    def prompt(self) -> Prompt:
        return self.reading.prompt

    @property
    def own(self) -> SampledChain:
        """The chain that the image would be drawn from without an intervention."""
        return self.chains[0]

    @property
    def chain(self) -> Chain:
        """The same, parsed."""
        return self.own.chain

    @cached_property
    def text(self) -> str:
        """The same as text up to its begin-of-image."""
        return self.chain.text.partition(END)[0] + END

    def no_box(self) -> str:
        """Why the chain has no roles: which object of the relation lacks a box."""
        relation = self.reading.relation
        if relation is None:
            return NO_RELATION
        return f"the chain has no box for {relation.subject!r} or {relation.object!r}"

    def unedited(self, reason: str) -> Change:
        """The own text, as interventions on texts draw it where they cannot be applied."""
        return Change(chain=self.text, applied=False, reason=reason)

    def unchanged(self, reason: str) -> Change:
        """The own ids, as interventions on sampled chains draw them where they cannot be applied."""
        return Change(chain=self.own, applied=False, reason=reason)


class Intervention(ABC):
    """The base class of the components of `intervention=`."""

    name: str
    """Names it in seeds and tables."""

    candidates: int = 1
    """How many chains of a prompt it chooses from, its own one included."""

    reads: ClassVar[tuple[str, ...]] = ()
    """What it reads of a prompt: `relation`, `colors`. A benchmark must offer one of them."""

    baseline: ClassVar[str] = "reencoded"
    """The name of the intervention that its arm is compared with, on the same checkpoint: what it draws where
    it cannot be applied."""

    @abstractmethod
    def __call__(self, case: Case) -> Change:
        """Return what to draw the image from. Equal cases give equal changes."""
