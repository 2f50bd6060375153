"""R_sem: does the chain match the prompt in content? A judge reads both, the chain without its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.types import Question, Sample, Score
from rewards.judged import Rubric, judge_scores

if TYPE_CHECKING:
    from harness.protocols import Judge


class ChainSemantics:
    """Prompt-chain semantic reward of GoT-R1 (arXiv 2505.17022, section 3)."""

    name = "sem"
    scope = "chain"

    def __init__(self, *, judge: Judge, rubric: str = "semantic") -> None:
        self.judge = judge
        self.rubric = Rubric(rubric, "prompt", "chain")
        self.external = self.rubric.external

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        return judge_scores(self.judge, [self._question(sample) for sample in samples])

    def _question(self, sample: Sample) -> Question:
        text = self.rubric.fill({"prompt": sample.prompt.text, "chain": sample.chain.bare_text})
        return Question(
            kind="semantic",
            text=text,
            lead=self.rubric.lead,
            facts={"prompt": sample.prompt, "chain": sample.chain},
        )
