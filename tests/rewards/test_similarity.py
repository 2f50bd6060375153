"""The similarity component on perfect, wrong, middling and unreadable samples."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.chain import parse
from harness.types import Prompt, Sample, Tokens
from rewards.similarity import PromptSimilarity


class Model:
    """Gives the listed similarities and remembers what it compared."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self.asked: list[tuple[Image.Image, str]] = []

    def similarity(self, images, texts):
        self.asked += zip(images, texts, strict=True)
        return self.values


def samples(count: int) -> list[Sample]:
    tokens = Tokens(prompt=(1,), chain=(2,), image=(3,))
    prompts = [Prompt(id=str(n), text=f"{n} dogs", category="color") for n in range(count)]
    images = [Image.new("RGB", (24, 24)) for _ in prompts]
    return [
        Sample(prompt=prompt, chain=parse(""), image=image, tokens=tokens, logprobs=(0.0, 0.0), seed=0)
        for prompt, image in zip(prompts, images, strict=True)
    ]


def test_the_range_of_the_model_becomes_zero_to_one_and_the_raw_value_is_kept():
    scores = PromptSimilarity(similarity=Model(0.15, 0.2, 0.25, 0.35, 0.1, 0.5, -0.3), low=0.15, high=0.35)(
        samples(7)
    )
    assert [score.value for score in scores] == pytest.approx([0.0, 0.25, 0.5, 1.0, 0.0, 1.0, 0.0])
    assert [score.evidence["similarity"] for score in scores] == [0.15, 0.2, 0.25, 0.35, 0.1, 0.5, -0.3]
    assert [score.evidence["clipped"] for score in scores] == [None, None, None, None, "low", "high", "low"]
    json.dumps([dict(score.evidence) for score in scores])


def test_a_model_that_cannot_say_leaves_the_sample_unscored():
    known, unknown = PromptSimilarity(similarity=Model(0.3, None), low=0, high=1)(samples(2))
    assert known.value == pytest.approx(0.3)
    assert unknown.value is None and unknown.unscored == "Model gave no similarity"


def test_the_image_is_compared_with_the_prompt():
    model, given = Model(0.1, 0.2), samples(2)
    PromptSimilarity(similarity=model, low=0, high=1)(given)
    assert model.asked == [(given[0].image, "0 dogs"), (given[1].image, "1 dogs")]


def test_no_samples_ask_nothing():
    model = Model()
    assert PromptSimilarity(similarity=model, low=0, high=1)([]) == [] and model.asked == []


def test_a_model_that_loses_a_value_is_an_error():
    with pytest.raises(ValueError, match="Model gave 1 values for 2 samples"):
        PromptSimilarity(similarity=Model(0.3), low=0, high=1)(samples(2))


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.3), (0.4, 0.3), (float("nan"), 1), (0, float("inf"))])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(ValueError, match=r"low=.* and high=.*: give two finite numbers, the lower one first"):
        PromptSimilarity(similarity=Model(), low=low, high=high)


def test_numbers_of_numpy_and_torch_are_numbers():
    given = (np.float32(0.25), torch.tensor(0.75, dtype=torch.bfloat16))
    found = PromptSimilarity(similarity=Model(*given), low=0, high=1)(samples(2))
    assert [score.value for score in found] == [0.25, 0.75]
    assert [score.evidence["similarity"] for score in found] == [0.25, 0.75]
    assert all(type(score.value) is float for score in found)


def test_a_model_that_gives_no_number_is_named():
    with pytest.raises(ValueError, match="similarity Model gave 'high': it must give a number, or None"):
        PromptSimilarity(similarity=Model("high"), low=0, high=1)(samples(1))
