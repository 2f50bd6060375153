"""Relations of prompts and roles of planned objects; `tests/conformance` has the official values."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.t2i_compbench.colors import colors_of
from harness.chain import format_chain, parse
from harness.relations import (
    AXES,
    centers_agree,
    phrases_of,
    relation_of,
    roles_by_name,
    roles_by_order,
    without_article,
)
from harness.types import Box, Chain, PlannedObject

BOX = Box(0, 0, 10, 10)


def chain_of(*names: str, without: str = "") -> Chain:
    return parse(
        format_chain(*[PlannedObject(name=name, box=None if name == without else BOX) for name in names])
    )


def test_the_published_prompts_have_the_published_counts(data_dir: Path) -> None:
    prompts = (data_dir / "t2i_compbench" / "spatial_val.txt").read_text(encoding="utf-8").splitlines()
    found = Counter(relation.word for relation in map(relation_of, prompts) if relation)
    assert {word: found[word] for word in AXES} == dict(zip(AXES, (51, 56, 56, 52), strict=True))
    assert (found["next to"], found["near"], found["on side of"]) == (24, 24, 37)


def test_most_color_prompts_name_two_colors(data_dir: Path) -> None:
    prompts = (data_dir / "t2i_compbench" / "color_val.txt").read_text(encoding="utf-8").splitlines()
    assert sum(len(colors_of(prompt)) == 2 for prompt in prompts) == 240
    assert colors_of("a green bench and a Blue bowl") == (("green", "bench"), ("blue", "bowl"))
    assert colors_of("a teal bench and a blue bowl") == ()


def test_phrases_are_those_of_the_prompt_with_their_articles() -> None:
    assert phrases_of(" the Dog on the Left of an oak  tree\n") == ("the Dog", "an oak  tree")
    assert phrases_of("a dog and a cat") is None


def test_one_article_is_taken_from_a_name() -> None:
    assert [*map(without_article, ("an oak", "The a cat", "anvil", "a"))] == ["oak", "a cat", "anvil", "a"]


def test_roles_by_name_share_most_words_with_the_names() -> None:
    chain = chain_of("old man", "tree", "young man", "oak tree")
    assert roles_by_name(chain, ("young man", "the oak of the tree")) == (2, 3)
    assert roles_by_name(chain, ("man", "tree")) == (0, 1)
    assert roles_by_name(chain, ("man", "old man")) is None
    assert roles_by_name(chain, ("man", "the car")) is None


def test_an_object_without_a_box_has_no_role() -> None:
    assert roles_by_order(chain_of("cat", "dog", "lamp", without="cat")) == (1, 2)
    assert roles_by_name(chain_of("cat", "dog", without="cat"), ("cat", "dog")) is None
    assert roles_by_order(chain_of("cat", "dog", without="dog")) is None


@pytest.mark.parametrize(("word", "axis"), [(word, axis) for word, (axis, _) in AXES.items()])
def test_equal_centers_satisfy_no_direction_and_every_symmetric_word(word: str, axis: int) -> None:
    assert not centers_agree(word, BOX, BOX) and centers_agree("near", BOX, BOX)
    moved = Box(100, 0, 110, 10) if axis == 0 else Box(0, 100, 10, 110)
    assert centers_agree(word, BOX, moved) != centers_agree(word, moved, BOX)
