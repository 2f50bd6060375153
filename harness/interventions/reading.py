"""What a benchmark says of one prompt and its chains: relation, colors, roles, whether a chain is right."""

from __future__ import annotations

from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

from harness.chain import BOX_END, BOX_START, END, OBJ_END, OBJ_START
from harness.relations import AXES, SYMMETRIC, Relation, Roles, centers_agree, roles_by_name, roles_by_order
from harness.settings import choice
from harness.types import Box, Chain, Prompt, Region

if TYPE_CHECKING:
    from harness.protocols import Benchmark

TAGS = (OBJ_START, OBJ_END, BOX_START, BOX_END, END)
ROLES, RULES = ("name", "order"), ("own", "center")


class Reading:
    """One prompt as its benchmark reads it; what a benchmark does not offer follows the general rule.

    Args:
        benchmark: offers `relation`, `colors`, `roles`, `relation_holds`, `oracle_chain`, `place`, or not.
        prompt: whose chains are read.
        roles: `name` finds subject and object of the relation by their names, `order` takes the first two
            objects that have a box.
        rule: `own` is the benchmark's rule of when a relation holds between two boxes, where it has one;
            `center` compares centers for all words that have a direction or are symmetric.

    Raises:
        ValueError: a setting is none of those allowed.
    """

    def __init__(
        self, benchmark: Benchmark, prompt: Prompt, *, roles: str = "name", rule: str = "own"
    ) -> None:
        self.prompt = prompt
        self._benchmark = benchmark
        self._roles = choice("roles", roles, ROLES)
        self._rule = choice("rule", rule, RULES)
        # A name with a tag of the grammar cannot be written into a chain.
        self._readable = not any(tag in prompt.text for tag in TAGS)

    @cached_property
    def relation(self) -> Relation | None:
        """The prompt's relation, or None where it says none."""
        offered = self._benchmark.relation
        return offered(self.prompt) if offered and self._readable else None

    @cached_property
    def colors(self) -> tuple[tuple[str, str], ...]:
        """The (color, object) pairs of a prompt that asks for colors alone; none for other prompts."""
        offered = self._benchmark.colors
        return offered(self.prompt) if offered and self._readable else ()

    def roles(self, chain: Chain) -> Roles | None:
        """Which objects of the chain are subject and object of the relation; None where one has no box."""
        if self._roles == "order":
            return roles_by_order(chain)
        if self.relation is None:
            return None
        if self._benchmark.roles:
            return self._benchmark.roles(self.prompt, chain)
        return roles_by_name(chain, (self.relation.subject, self.relation.object))

    def boxes(self, chain: Chain) -> tuple[Box, Box] | None:
        """The boxes of subject and object, or None where one has no box."""
        roles = self.roles(chain)
        if roles is None:
            return None
        subject, other = (chain.objects[place].box for place in roles)
        assert subject is not None and other is not None
        return subject, other

    def holds(self, subject: Region, other: Region) -> bool:
        """Whether the prompt's relation holds between two boxes; always where the prompt says none."""
        if self.relation is None:
            return True
        word, own = self.relation.word, self._benchmark.relation_holds
        if own and (self._rule == "own" or word not in (*AXES, *SYMMETRIC)):
            return own(word, subject, other)
        return centers_agree(word, subject, other)

    def right(self, chain: Chain) -> bool | None:
        """Whether the chain plans what the prompt says; None where the prompt says nothing to check."""
        if self.relation is not None:
            boxes = self.boxes(chain)
            return boxes is not None and self.holds(*boxes)
        if self.colors:
            return all(color in chain.text.lower() for color, _ in self.colors)
        return None

    def place(self, box: Box) -> Box:
        """The nearest box that images of the benchmark can show."""
        return self._benchmark.place(box) if self._benchmark.place else box

    @property
    def writes_chains(self) -> bool:
        """Whether the benchmark writes clean chains itself."""
        return self._benchmark.oracle_chain is not None

    def oracle_chain(self, style: str, boxes: tuple[Box, Box] | None, rng: Random) -> str | None:
        """The benchmark's own clean chain of the prompt, or None where it has none."""
        offered = self._benchmark.oracle_chain
        return offered(self.prompt, style, boxes, rng) if offered else None
