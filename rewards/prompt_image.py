"""R_PI: does the image show what the prompt asks for? A judge sees both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.types import Question, Sample, Score
from rewards.judged import Rubric, judge_scores

if TYPE_CHECKING:
    from harness.protocols import Judge


class PromptImage:
    """Prompt-image reward of GoT-R1 (arXiv 2505.17022, section 3)."""

    name = "pi"
    scope = "image"

    def __init__(self, *, judge: Judge, rubric: str = "prompt_image") -> None:
        self.judge = judge
        self.rubric = Rubric(rubric, "prompt")
        self.external = self.rubric.external

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        return judge_scores(self.judge, [self._question(sample) for sample in samples])

    def _question(self, sample: Sample) -> Question:
        text = self.rubric.fill({"prompt": sample.prompt.text})
        return Question(
            kind="prompt_image",
            text=text,
            lead=self.rubric.lead,
            images=(sample.image,),
            facts={"prompt": sample.prompt},
        )
