"""`evaluation.agreement`: scores each sample by a reward component, with the score of a reference beside it.

How well the two orders agree is the quality of the component's judge (`harness.analysis.agreement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import plugin_values
from harness.evaluation.human_scores import HumanScores, read_human_scores
from harness.paths import user_path
from harness.protocols import Scorer
from harness.settings import flag
from harness.types import Prompt, Sample, Score

if TYPE_CHECKING:
    from harness.protocols import Component


class JudgeAgreement(Scorer):
    """The value of a reward component, and in its evidence that of a reference.

    The evidence holds `reference`, its value, and `judge`, the evidence of the component. Samples without a
    reference are unscored, and the component is not asked about them.

    Args:
        component: the reward component, with its judge.
        reference: another component, such as the same with an exact judge; or the path of a file of human
            scores (see `harness.evaluation.human_scores`).
        allow_partial: the file may lack images.

    Raises:
        ValueError: the reference is neither, or the file cannot be used.
    """

    def __init__(
        self, *, component: Component, reference: Component | str, allow_partial: bool = False
    ) -> None:
        for name, value in (("component", component), ("reference", reference)):
            if not callable(value) and not (name == "reference" and isinstance(value, str)):
                also = ", or a file of human scores" if name == "reference" else ""
                raise ValueError(f"evaluation.agreement.{name}={value!r}: give a reward component{also}")
        self._component = component
        self._allow_partial = flag("evaluation.agreement.allow_partial", allow_partial)
        self._human: HumanScores | None = None
        self._reference: Component | None = None
        self.external = tuple(getattr(component, "external", ()))
        if isinstance(reference, str):
            file = user_path(reference)
            try:
                self._human = read_human_scores(file)
            except ValueError as error:
                raise ValueError(f"evaluation.agreement.reference: {error}") from None
            self.external += (str(file),)
        else:
            self._reference = reference
            self.external += tuple(getattr(reference, "external", ()))

    def check(self, prompts: Sequence[Prompt], images_per_prompt: int) -> None:
        """Check that the human scores belong to these images.

        Raises:
            ValueError: they do not.
        """
        if self._human is not None:
            self._human.check(prompts, images_per_prompt, allow_partial=self._allow_partial)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Return the component's score of each sample, with the reference in its evidence."""
        references = self._references(samples)
        pairs = zip(samples, references, strict=True)
        asked = [sample for sample, reference in pairs if reference.value is not None]
        judged = iter(_scores(self._component, asked))
        scores = []
        for reference in references:
            if reference.value is None:
                score = Score(value=None, unscored=f"no reference: {reference.unscored}")
            else:
                score = next(judged)
            evidence = {"reference": reference.value, "judge": score.evidence}
            scores.append(Score(value=score.value, evidence=evidence, unscored=score.unscored))
        return scores

    def _references(self, samples: Sequence[Sample]) -> list[Score]:
        """Return the reference's score of each sample; human scores may lie on any scale."""
        if self._reference is not None:
            return _scores(self._reference, samples)
        assert self._human is not None, "a reference is a component or a file"
        values = [self._human.of(sample.prompt) for sample in samples]
        return [Score(value=value, unscored="no human score" if value is None else None) for value in values]


def _scores(component: Component, samples: Sequence[Sample]) -> list[Score]:
    if not samples:
        return []
    who = f"component {type(component).__name__}"
    return plugin_values.scores(component(samples), samples, who)
