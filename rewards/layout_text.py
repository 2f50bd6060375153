"""R_spa without a picture: a judge reads the planned boxes as coordinates. The paper's variant of `chain_layout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.types import Chain, Question, Sample, Score
from rewards.judged import Rubric, judge_scores

if TYPE_CHECKING:
    from harness.protocols import Judge


class LayoutText:
    """Prompt-layout layout reward from coordinate text (arXiv 2505.17022, training details); 0 where the chain plans no box at all.

    Args:
        judge: who reads the boxes; an exact one knows the chain itself and answers as it does to the drawn layout.
        rubric: the question, see `Rubric`.
    """

    name = "spa_text"

    def __init__(self, *, judge: Judge, rubric: str = "spatial_text") -> None:
        self.judge = judge
        self.rubric = Rubric(rubric, "prompt", "boxes")

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        written = [_boxes(sample.chain) for sample in samples]
        questions = [
            self._question(sample, boxes) for sample, boxes in zip(samples, written, strict=True) if boxes
        ]
        judged = iter(judge_scores(self.judge, questions))
        return [
            next(judged) if boxes else Score(value=0.0, evidence={"planned": "nothing"}) for boxes in written
        ]

    def _question(self, sample: Sample, boxes: str) -> Question:
        text = self.rubric.fill({"prompt": sample.prompt.text, "boxes": boxes})
        return Question(
            kind="spatial",
            text=text,
            lead=self.rubric.lead,
            facts={"prompt": sample.prompt, "chain": sample.chain},
        )


def _boxes(chain: Chain) -> str:
    """One line per planned box, `name: (x1,y1),(x2,y2)`; a name cannot forge another line."""
    placed = [(" ".join(thing.name.split()), thing.box) for thing in chain.objects if thing.box is not None]
    return "\n".join(f"{name}: ({box.x1},{box.y1}),({box.x2},{box.y2})" for name, box in placed)
