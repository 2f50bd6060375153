"""R_spa: do the planned boxes stand as the prompt asks? A judge sees them drawn and labelled on a blank canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.chain import draw_layout
from harness.types import Question, Sample, Score
from rewards.judged import Rubric, judge_scores

if TYPE_CHECKING:
    from harness.protocols import Judge


class ChainLayout:
    """Prompt-plan layout reward of GoT-R1 (arXiv 2505.17022, section 3); 0 where the chain plans no box at all.

    Args:
        judge: who looks at the canvas.
        rubric: the question, see `Rubric`.
        size: side of the canvas, pixels.
    """

    name = "spa"

    def __init__(self, *, judge: Judge, rubric: str = "spatial", size: int = 448) -> None:
        self.judge = judge
        self.rubric = Rubric(rubric, "prompt")
        self.size = size

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        planned = [any(thing.box is not None for thing in sample.chain.objects) for sample in samples]
        judged = iter(
            judge_scores(
                self.judge,
                [self._question(sample) for sample, drawn in zip(samples, planned, strict=True) if drawn],
            )
        )
        return [
            next(judged) if drawn else Score(value=0.0, evidence={"planned": "nothing"}) for drawn in planned
        ]

    def _question(self, sample: Sample) -> Question:
        text = self.rubric.fill({"prompt": sample.prompt.text})
        canvas = draw_layout(sample.chain, self.size)
        facts = {"prompt": sample.prompt, "chain": sample.chain}
        return Question(kind="spatial", text=text, lead=self.rubric.lead, images=(canvas,), facts=facts)
