"""The fit of image and prompt by a model that gives one number, such as HPS v2.1 (R_HPS) or CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.plugin_values import number, one_each
from harness.types import Sample, Score

if TYPE_CHECKING:
    from harness import protocols


class PromptSimilarity:
    """A raw similarity h as the reward (h - low) / (high - low), clipped to [0, 1].

    In a product the range decides the weight: a spread of 0.02 around h = 0.25 moves the total by 8 %
    without scaling and by 20 % between 0.15 and 0.35. A sample at or below `low` has the reward 0, so
    the evidence keeps h and says at which end it was clipped.

    Args:
        similarity: the model.
        low: the similarity with reward 0.
        high: the similarity with reward 1.
    """

    name = "similarity"
    scope = "image"

    def __init__(self, *, similarity: protocols.Similarity, low: float, high: float) -> None:
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(f"low={low} and high={high}: give two finite numbers, the lower one first")
        self.similarity = similarity
        self.low, self.high = low, high

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        images, prompts = [sample.image for sample in samples], [sample.prompt.text for sample in samples]
        raw = self.similarity.similarity(images, prompts) if samples else []
        who = f"similarity {type(self.similarity).__name__}"
        values = one_each(raw, len(samples), who, "values", "sample")
        return [self._score(value, who) for value in values]

    def _score(self, given: Any, who: str) -> Score:
        if given is None:
            return Score(value=None, unscored=f"{type(self.similarity).__name__} gave no similarity")
        raw = number(given)
        if raw is None:
            raise ValueError(f"{who} gave {given!r}: it must give a number, or None where it has none")
        value = (raw - self.low) / (self.high - self.low)
        clipped = "low" if value < 0 else "high" if value > 1 else None
        return Score(value=min(max(value, 0.0), 1.0), evidence={"similarity": raw, "clipped": clipped})
