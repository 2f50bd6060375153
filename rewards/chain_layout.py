"""R_spa: are the planned boxes where the prompt asks? A judge sees them drawn on a blank canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.chain import draw_layout
from harness.types import Chain, Question, Sample, Score
from rewards.judged import Rubric, judge_scores

if TYPE_CHECKING:
    from harness.protocols import Judge


class ChainLayout:
    """Prompt-layout reward of GoT-R1 (arXiv 2505.17022, section 3); 0 when the chain plans no box.

    Args:
        judge: scores the canvas.
        rubric: the question, see `Rubric`.
        size: side of the canvas in pixels.
    """

    name = "spa"
    scope = "chain"

    def __init__(self, *, judge: Judge, rubric: str = "spatial", size: int = 448) -> None:
        self.judge = judge
        self.rubric = Rubric(rubric, "prompt")
        self.external = self.rubric.external
        self.size = size

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        drawn = [_plans_a_box(sample.chain) for sample in samples]
        questions = [
            self._question(sample) for sample, has_box in zip(samples, drawn, strict=True) if has_box
        ]
        judged = iter(judge_scores(self.judge, questions))
        nothing = Score(value=0.0, evidence={"planned": "nothing"})
        return [next(judged) if has_box else nothing for has_box in drawn]

    def _question(self, sample: Sample) -> Question:
        text = self.rubric.fill({"prompt": sample.prompt.text})
        canvas = draw_layout(sample.chain, self.size)
        facts = {"prompt": sample.prompt, "chain": sample.chain}
        return Question(kind="spatial", text=text, lead=self.rubric.lead, images=(canvas,), facts=facts)


def _plans_a_box(chain: Chain) -> bool:
    return any(planned.box is not None for planned in chain.objects)
