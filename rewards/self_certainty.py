"""R_NSC, a control without a judge: how uncertain was the model of its own tokens?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.types import Sample, Score

Tokens = Literal["chain", "image", "both"]


class NegativeSelfCertainty:
    """Negative self-certainty (idea: arXiv 2509.25562) as the reward 1 - mean / limit, clipped to [0, 1].

    Self-certainty is KL(uniform || distribution of the token) (arXiv 2502.18581), here its mean over the
    tokens that were sampled. Without clipping the reward is linear in it, so that advantages that are
    normalized within a group do not depend on the limit. The evidence keeps the mean, in nats.

    Args:
        tokens: those of the `chain`, of the `image`, or `both`.
        limit: the self-certainty with reward 0, in nats; far above what occurs.
    """

    name = "nsc"
    needs_certainty = True

    def __init__(self, *, tokens: Tokens, limit: float) -> None:
        if tokens not in ("chain", "image", "both"):
            raise ValueError(f"tokens={tokens!r}: give chain, image or both")
        if not 0 < limit < float("inf"):
            raise ValueError(f"limit={limit}: give a number of nats above 0")
        self.scope: Tokens = tokens
        self._limit = limit

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> Score:
        if sample.certainty is None:
            return Score(value=None, unscored="the sample has no self-certainty: only GRPO measures it")
        certainty = self._chosen(sample, sample.certainty)
        if not certainty:
            return Score(value=None, unscored=f"no token was sampled (tokens: {self.scope})")
        mean = sum(certainty) / len(certainty)
        value = 1 - mean / self._limit
        evidence = {"self_certainty": mean, "clipped": not 0 <= value <= 1}
        return Score(value=min(max(value, 0.0), 1.0), evidence=evidence)

    def _chosen(self, sample: Sample, certainty: Sequence[float]) -> Sequence[float]:
        """The values of the tokens that count. A forced begin-of-image was not sampled."""
        length = len(sample.tokens.chain)
        chain, image = certainty[: length - sample.tokens.forced_end], certainty[length:]
        return {"chain": chain, "image": image, "both": [*chain, *image]}[self.scope]
