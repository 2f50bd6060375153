"""A preference study: the shares of the votes that arms win, and the differences of two arms' shares.

The claims of the study rest on its first judge. The outcome of x on a prompt (`harness.analysis.votes`) is
its share of the votes against y, and 1 minus it is that of y: 2 * outcome - 1 is the difference of both.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.analysis.bradley_terry import Strengths, strengths
from harness.analysis.contrasts import Contrast
from harness.analysis.results import PairResult, StudyResult
from harness.analysis.statistics import prompt_means
from harness.analysis.verdicts import VerdictAgreement, verdict_agreement
from harness.analysis.votes import PairVotes, Tally, outcomes, read_pairs, tally
from harness.votes import VoteRow, unreadable

Pair = tuple[str, str]


class Preference:
    """The votes of a preference study.

    `judges` are those of the plan, the one that decides first, with their labels. `pairs` are the pairs of
    arms in this run, and `categories` the sets of prompts with votes, in the order of the study.
    """

    def __init__(self, study: StudyResult) -> None:
        settings = study.study["preference"]
        self.judges: dict[str, str] = settings["judges"]
        self.tolerance: float = settings["unscored_tolerance"]
        self.pairs: list[Pair] = list(dict.fromkeys((pair.x, pair.y) for pair in study.pairs))
        self._study = study
        self._rows: dict[tuple[str, Pair, int], list[VoteRow]] = {}
        for pair in study.pairs:
            for row in pair.votes or ():
                self._rows.setdefault((row.judge, (pair.x, pair.y), pair.seed), []).append(row)
        voted = {row.category for rows in self._rows.values() for row in rows}
        self.categories = [category for category in study.categories if category in voted]

    @property
    def first(self) -> str:
        """The judge that decides."""
        return next(iter(self.judges), "")

    def results_of(self, pair: Pair) -> list[PairResult]:
        """Return the results of a pair, one for every seed."""
        return [result for result in self._study.pairs if (result.x, result.y) == pair]

    def rows(
        self, judge: str, pair: Pair, category: str | None = None, seed: int | None = None
    ) -> list[VoteRow]:
        """Return the votes of a judge on a pair, of all sets and seeds or of one."""
        found: list[VoteRow] = []
        for (name, asked, voted_seed), rows in self._rows.items():
            if (name, asked) == (judge, pair) and seed in (None, voted_seed):
                found += [row for row in rows if category in (None, row.category)]
        return found

    def votes(self, judge: str, pair: Pair, category: str | None = None) -> list[PairVotes]:
        """Return the votes of a judge on a pair of arms by pair of chains, of every seed."""
        found: list[PairVotes] = []
        for seed in self._study.seeds:
            found += read_pairs(self.rows(judge, pair, category, seed))
        return found

    def tally(self, judge: str, pair: Pair, category: str | None = None) -> Tally:
        """Return the tally of a judge on a pair of arms, over all sets or one."""
        return tally(self.votes(judge, pair, category))

    def lean(self, judge: str) -> Tally:
        """Return the tally of a judge over all pairs and sets, for its lean and consistency."""
        votes: list[PairVotes] = []
        for pair in self.pairs:
            votes += self.votes(judge, pair)
        return tally(votes)

    def unreadable(self, judge: str) -> str | None:
        """Return how many of a judge's answers are no vote, for a reader; None if all are."""
        rows: list[VoteRow] = []
        for pair in self.pairs:
            rows += self.rows(judge, pair)
        return unreadable(rows)

    def agreement(self, judge: str, other: str, pair: Pair) -> VerdictAgreement:
        """Return how far two judges agree on which arm of a pair is better, by prompt."""
        return verdict_agreement(outcomes(self.votes(judge, pair)), outcomes(self.votes(other, pair)))

    def strengths(self, arms: Iterable[str]) -> Strengths | None:
        """Return the strengths of three arms or more by the first judge; None with fewer or no votes."""
        compared = [arm for arm in arms if any(arm in pair for pair in self.pairs)]
        found = {pair: outcomes(self.votes(self.first, pair)) for pair in self.pairs}
        return strengths(compared, found) if len(compared) > 2 else None

    def outcomes(self, arm: str, other: str, category: str, seed: int) -> dict[str, float | None]:
        """Return prompt -> the first judge's outcome of `arm` against `other`; empty without votes."""
        won = outcomes(read_pairs(self.rows(self.first, (arm, other), category, seed)))
        lost = outcomes(read_pairs(self.rows(self.first, (other, arm), category, seed)))
        return won or {prompt: None if value is None else 1 - value for prompt, value in lost.items()}

    def means(self, arm: str, category: str) -> dict[str, float | None]:
        """Return prompt -> the share of the votes that an arm wins, the mean over its opponents and seeds."""
        values: list[tuple[str, float | None]] = []
        for pair in self.pairs:
            if arm in pair and not self._over_tolerance(pair, category):
                other = pair[1] if arm == pair[0] else pair[0]
                for seed in self._study.seeds:
                    values += self.outcomes(arm, other, category, seed).items()
        return prompt_means(values)

    def differences(self, contrast: Contrast) -> dict[str, np.ndarray]:
        """Return category -> (seeds, prompts), `better` minus `than` in shares; NaN where unscored."""
        found = {}
        for category in contrast.categories:
            by_seed = []
            for seed in self._study.seeds:
                by_seed.append(self.outcomes(contrast.better, contrast.than, category, seed))
            prompts = sorted(set().union(*by_seed))
            values = [[one.get(prompt) for prompt in prompts] for one in by_seed]
            found[category] = 2 * np.array(values, dtype=float) - 1
        return found

    def why_missing(self, contrast: Contrast) -> str | None:
        """Return why two arms cannot be compared over some sets, None where they can."""
        arms = {contrast.better, contrast.than}
        pair = next((pair for pair in self.pairs if set(pair) == arms), None)
        if pair is None:
            return f"nobody voted on {contrast.better} and {contrast.than}"
        for result in self.results_of(pair):
            if result.votes is None:
                return f"votes on {result.arm} {result.state}"
        for category in contrast.categories:
            if category not in self.categories:
                return f"{category} was not measured"
            if over := self._over_tolerance(pair, category):
                return f"{category}: {over}"
        return None

    def absence(self, arm: str, category: str) -> str:
        """Return why an arm has no share of the votes on a set."""
        reasons = []
        for pair in self.pairs:
            if arm in pair:
                reasons.append(self.why_missing(Contrast(*pair, (category,))))
        return next(filter(None, reasons), "no votes" if not reasons else "unscored")

    def _over_tolerance(self, pair: Pair, category: str) -> str | None:
        """Return how many of the first judge's answers are no vote where they are too many."""
        rows = self.rows(self.first, pair, category)
        missing = sum(row.vote is None for row in rows)
        if missing <= self.tolerance * len(rows):
            return None
        return f"{missing} of {len(rows)} answers unreadable (tolerance {self.tolerance:.0%})"
