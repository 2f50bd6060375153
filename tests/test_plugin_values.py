"""What plugins return is checked where they are called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import plugin_values
from harness.types import Prompt, Region, Score

PROMPT = Prompt(id="p", text="a red cup", category="color", number=1)
WHO = "benchmark Toy: read_results"


def test_results_are_pairs_with_plain_scores_from_any_iterable() -> None:
    given = (pair for pair in [(PROMPT, np.float32(0.5)), [PROMPT, None], (PROMPT, Score(value=np.int64(1)))])
    found = plugin_values.results(given, WHO)
    assert [(prompt, score.value) for prompt, score in found] == [(PROMPT, 0.5), (PROMPT, None), (PROMPT, 1)]
    assert [type(score.value) for _, score in found] == [float, type(None), float]
    assert found[1][1].unscored
    (numbered, _) = plugin_values.results([(replace(PROMPT, number=np.int64(2)), 1)], WHO)[0]
    assert type(numbered.number) is int


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "gave None instead of pairs"),
        ({PROMPT.id: 0.5}, "instead of pairs"),
        ([0.5], "give pairs of a Prompt and a score"),
        ([("a red cup", 0.5)], "give pairs of a Prompt and a score"),
        ([(PROMPT, 0.5, 1)], "give pairs of a Prompt and a score"),
        ([(PROMPT, "0.5")], "is no number"),
        ([(PROMPT, 1.5)], "must lie in"),
        ([(PROMPT, float("nan"))], "must lie in"),
        ([(PROMPT, Score(value=1.0, evidence={"seen": {1, 2}}))], "evidence"),
        ([(replace(PROMPT, number=-1), 1.0)], "number=-1"),
    ],
)
def test_what_are_no_results_is_refused_with_the_plugin_named(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{WHO}") as error:
        plugin_values.results(given, WHO)
    assert said in str(error.value)


def test_located_objects_are_pairs_of_regions_or_reasons() -> None:
    found = [(Region(0, 0, 1, 1), None), "too narrow"]
    assert plugin_values.located(iter(found), 2, "benchmark Toy: locate") == found
    for given, said in (
        (found, "gave 2 pairs of regions for 3 images"),
        ([None] * 3, "gave None: give a pair of regions"),
        ([(Region(0, 0, 1, 1),)] * 3, "give a pair of regions"),
        ([((0, 0, 1, 1), None)] * 3, "give a pair of regions"),
    ):
        with pytest.raises(ValueError, match="benchmark Toy: locate.*" + said):
            plugin_values.located(given, 3, "benchmark Toy: locate")
