"""R_spa as text, the paper's variant of `chain_layout`: a judge reads the planned boxes as coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.types import Chain, Question, Sample, Score
from rewards.judged import Rubric, judge_scores

if TYPE_CHECKING:
    from harness.protocols import Judge


class LayoutText:
    """Prompt-layout reward from text (arXiv 2505.17022, training details); 0 without planned boxes.

    Args:
        judge: reads the boxes. An exact judge reads the chain itself and answers as for the drawn layout.
        rubric: the question, see `Rubric`.
    """

    name = "spa_text"
    scope = "chain"

    def __init__(self, *, judge: Judge, rubric: str = "spatial_text") -> None:
        self.judge = judge
        self.rubric = Rubric(rubric, "prompt", "boxes")
        self.external = self.rubric.external

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        texts = [_boxes(sample.chain) for sample in samples]
        questions = [
            self._question(sample, text) for sample, text in zip(samples, texts, strict=True) if text
        ]
        judged = iter(judge_scores(self.judge, questions))
        nothing = Score(value=0.0, evidence={"planned": "nothing"})
        return [next(judged) if text else nothing for text in texts]

    def _question(self, sample: Sample, boxes: str) -> Question:
        text = self.rubric.fill({"prompt": sample.prompt.text, "boxes": boxes})
        return Question(
            kind="spatial",
            text=text,
            lead=self.rubric.lead,
            facts={"prompt": sample.prompt, "chain": sample.chain},
        )


def _boxes(chain: Chain) -> str:
    """Return one line per planned box, `name: (x1,y1),(x2,y2)`. A name cannot forge another line."""
    lines = []
    for planned in chain.objects:
        box = planned.box
        if box is not None:
            name = " ".join(planned.name.split())
            lines.append(f"{name}: ({box.x1},{box.y1}),({box.x2},{box.y2})")
    return "\n".join(lines)
