"""The prompts of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mini_prompts import Given
from mini_world import CHOSEN

from harness.prompts import chosen_prompts, numbered_prompts

BENCHMARK = Given(given={"color": ["a", "b", "c"], "shape": ["d", "e"]})


def texts(**changes: Any) -> list[str]:
    return [prompt.text for prompt in chosen_prompts(BENCHMARK, {**CHOSEN, **changes})]


def test_all_prompts_some_categories_or_the_first_of_each_are_chosen() -> None:
    assert texts() == ["a", "b", "c", "d", "e"]
    assert texts(categories=["shape"]) == ["d", "e"]
    assert texts(prompts_per_category=1) == ["a", "d"]
    assert texts(prompts_per_category=9, categories=["color"]) == ["a", "b", "c"]


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.categories.*colour.*color"):
        texts(categories=["colour"])
    with pytest.raises(ValueError, match=r"evaluation\.categories is empty: name some of color, shape"):
        texts(categories=[])


def test_lines_of_a_file_are_the_prompts_of_captions(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("a boat\n\n  a lake at night \n")
    assert texts(captions=str(file), categories=["captions"]) == ["a boat", "a lake at night"]
    assert texts(captions=str(file), prompts_per_category=1) == ["a", "d", "a boat"]
    file.write_text("\n")
    with pytest.raises(ValueError, match="holds no text: write one prompt per line"):
        texts(captions=str(file))
    with pytest.raises(ValueError, match=r"evaluation\.captions=.*missing\.txt"):
        texts(captions=str(tmp_path / "missing.txt"))


def test_every_prompt_is_numbered_from_0() -> None:
    evaluation = {**CHOSEN, "categories": ["shape"], "images_per_prompt": 2}
    numbered = [(prompt.text, prompt.number) for prompt in numbered_prompts(BENCHMARK, evaluation)]
    assert numbered == [("d", 0), ("d", 1), ("e", 0), ("e", 1)]
