from __future__ import annotations

import pytest

from harness.chain import parse
from harness.preference.pairs import check_pairs, pair_chains
from harness.types import Prompt


def written(*prompts: str, number: int = 0, chain: str = "A cat."):
    found = []
    for prompt in prompts:
        found.append((Prompt(id=prompt, text=f"a {prompt}", category="color", number=number), parse(chain)))
    return found


def test_pairs_follow_the_prompts_of_the_first_arm():
    pairs = pair_chains("full", written("a", "b", chain="X"), "base", written("b", "a", chain="Y"))
    assert [(pair.prompt.id, pair.chain_x.text, pair.chain_y.text) for pair in pairs] == [
        ("a", "X", "Y"),
        ("b", "X", "Y"),
    ]
    assert {(pair.x, pair.y) for pair in pairs} == {("full", "base")}


def test_the_images_of_a_prompt_are_pairs_of_their_own():
    x, y = written("a") + written("a", number=1), written("a", number=1) + written("a")
    assert [pair.prompt.number for pair in pair_chains("x", x, "y", y)] == [0, 1]


def test_arms_with_different_prompts_are_refused():
    message = (
        r"full and base were planned for different prompts \(full 2, base 3; only full has a, number 0"
        r" \('a a'\); only base has c, number 0 \('a c'\); only base has d, .*\): give both the same"
        r" benchmarks and evaluation settings"
    )
    with pytest.raises(ValueError, match=message):
        pair_chains("full", written("a", "b"), "base", written("b", "c", "d"))


def test_two_chains_of_an_arm_for_one_prompt_are_refused():
    with pytest.raises(ValueError, match=r"base has two chains for a, number 0 \('a a'\): give one"):
        pair_chains("full", written("a"), "base", written("a", "a"))


def test_pairs_of_different_arms_pass():
    check_pairs([["full", "base"], ("sum", "base"), ["sum", "full"]], ["base", "full", "sum"])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["full2", "base"]], r"pairs names full2 \(nearest: full\); arms are base, full"),
        ([["full", "full"]], r"pairs has \['full', 'full'\]: a pair needs two different arms"),
        ([["full"]], "a pair needs two different arms"),
        (["ab"], "a pair needs two different arms"),
        ([["full", "base"], ["base", "full"]], "has base and full twice: each pair is asked in both orders"),
    ],
)
def test_a_wrong_pair_says_what_is_allowed(pairs, message):
    with pytest.raises(ValueError, match=message):
        check_pairs(pairs, ["base", "full"])
