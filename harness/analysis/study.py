"""The analysis of a study: all numbers of a report that need statistics, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np

from harness.analysis import claims
from harness.analysis.agreement import Agreement, agreement, agreements
from harness.analysis.contrasts import Comparison, Contrast, compare
from harness.analysis.mirror import BLIND
from harness.analysis.preference import Preference
from harness.analysis.results import CellResult, StudyResult
from harness.analysis.statistics import Estimate, estimate, macro_estimate, prompt_means
from harness.samples import SampleRow, ScoreRow

DONE = "done"
OTHER_METRIC = "another metric"
_WORST_FIRST = ("failed", "lost", "stopped", "running", "waiting", "planned")


class Analysis:
    """Scores, comparisons and verdicts of a study, with arms and categories in its order.

    An arm is compared only when all its planned seeds are measured: arms with unequal seeds have no
    difference. `categories` are columns. A category that was split by its metrics appears as its columns,
    and claims about the category itself are not measured. `columns` are the categories and the measures of
    plans, which no mean over the categories contains. In a preference study (`preference` is not None) the
    scores are shares of votes.
    """

    def __init__(self, study: StudyResult) -> None:
        self.study = study
        self.arms = study.arms
        self.categories = study.categories
        self.measures = study.measures
        self.columns = (*self.categories, *self.measures)
        self.baseline: str | None = study.study.get("baseline")
        self.full: str | None = study.study.get("full")
        self.published = study.published
        self.preference = Preference(study) if study.study.get("preference") else None
        self._scored: dict[str, list[CellResult]] = {}
        for cell in study.cells:
            for category in dict.fromkeys(row.category for row in cell.rows):
                self._scored.setdefault(category, []).append(cell)
        self._means: dict[tuple[str, str], dict[str, float | None]] = {}
        self._estimates: dict[tuple[str, str], Estimate] = {}
        self._macros: dict[str, Estimate] = {}
        self._seed_means: dict[tuple[str, str, int], dict[str, float | None]] = {}
        self._comparisons: dict[Contrast, Comparison | str] = {}

    @cached_property
    def verdicts(self) -> list[claims.Verdict]:
        """The verdict on every claim, in the order of the study."""
        categories = list(dict.fromkeys(map(self.study.category_of, self.categories)))
        return claims.decide(
            claims.read(self.study.study, categories),
            self.contrast,
            published=self.published,
            seeds=len(self.study.seeds),
        )

    def measured_cells(self, arm: str) -> list[CellResult]:
        """Return the cells of an arm that have scores."""
        return [cell for cell in self.study.cells_of(arm) if cell.measured]

    def state(self, arm: str) -> str:
        """Return `done` when every seed is measured, else the worst state of the others."""
        states = {cell.state for cell in self.study.cells_of(arm) if not cell.measured}
        if not states:
            return DONE
        for state in _WORST_FIRST:
            if state in states:
                return state
        return min(states)

    def scored_cells(self, category: str) -> list[CellResult]:
        """Return the cells that have scores in a column."""
        return self._scored.get(category, [])

    def is_blind(self, category: str) -> bool:
        """Whether the scores of some cell in the column did not drop when its images were mirrored."""
        for cell in self.scored_cells(category):
            facts = cell.metrics.get(category)
            if facts and facts.mirror and facts.mirror["verdict"] == BLIND:
                return True
        return False

    def heading(self, category: str) -> str:
        """Return the column's name as the tables show it, marked where its metric is blind."""
        return f"{category} ({BLIND})" if self.is_blind(category) else category

    def absence(self, arm: str, category: str) -> str:
        """Return why an arm has no number in a column."""
        measured = self.measured_cells(arm)
        if not measured:
            return self.state(arm)
        if self.preference:
            return self.preference.absence(arm, category)
        other = self._in_other_column(arm, category)
        return OTHER_METRIC if len(other) == len(measured) else "unscored"

    def _in_other_column(self, arm: str, category: str) -> list[CellResult]:
        """Return the arm's measured cells whose scores are in another column of the same category."""
        if self.study.category_of(category) == category:
            return []
        return [cell for cell in self.measured_cells(arm) if cell not in self.scored_cells(category)]

    def means(self, arm: str, category: str) -> dict[str, float | None]:
        """Return prompt id -> the mean score of an arm over its measured seeds, None where it is unscored."""
        key = (arm, category)
        if self.preference and key not in self._means:
            self._means[key] = self.preference.means(arm, category)
        elif key not in self._means:
            self._means[key] = _means(self.measured_cells(arm), category)
        return self._means[key]

    def estimate(self, arm: str, category: str) -> Estimate:
        """Return the arm's mean score over prompts, with its interval."""
        key = (arm, category)
        if key not in self._estimates:
            self._estimates[key] = estimate(self.means(arm, category))
        return self._estimates[key]

    def macro(self, arm: str) -> Estimate:
        """Return the arm's mean over the categories, which weigh the same; None where one has no number."""
        if arm not in self._macros:
            self._macros[arm] = macro_estimate([self.means(arm, category) for category in self.categories])
        return self._macros[arm]

    def compare(self, better: str, than: str, category: str) -> Comparison | str:
        """Return the difference of two arms in a column, or the reason why there is none."""
        return self.contrast(Contrast(better, than, (category,)))

    def contrast(self, contrast: Contrast) -> Comparison | str:
        """Return the comparison of two arms over columns, or the reason why there is none."""
        if contrast not in self._comparisons:
            self._comparisons[contrast] = self.why_missing(contrast) or compare(
                self.differences(contrast), contrast.above
            )
        return self._comparisons[contrast]

    def why_missing(self, contrast: Contrast) -> str | None:
        """Return why two arms cannot be compared over these columns, None where they can."""
        for arm in (contrast.better, contrast.than):
            if arm not in self.arms:
                return f"{arm} is not in this run"
            if self.state(arm) != DONE:
                return f"{arm} {self.state(arm)}"
        if self.preference:
            return self.preference.why_missing(contrast)
        for category in contrast.categories:
            if category in self.study.split:
                return f"{category} was scored by unequal metrics"
            if category not in self.columns:
                return f"{category} was not measured"
            for arm in (contrast.better, contrast.than):
                if self._in_other_column(arm, category):
                    return f"{arm} has {OTHER_METRIC}"
        return None

    @cached_property
    def agreements(self) -> dict[str, Agreement]:
        """Arm -> how well its judge agrees with a reference; empty in a study whose scores have none."""
        return agreements({arm: self._scores(arm) for arm in self.arms})

    def agreements_by_category(self, arm: str) -> dict[str, Agreement]:
        """Return category -> the agreement of an arm's judge there, without intervals."""
        found = {}
        for category in self.categories:
            rows = [row for row in self._scores(arm) if row.category == category]
            found[category] = agreement(rows, resamples=0)
        return found

    def _scores(self, arm: str) -> list[ScoreRow]:
        """Return the scores of an arm, of all its measured seeds."""
        rows: list[ScoreRow] = []
        for cell in self.measured_cells(arm):
            rows += cell.scores or ()
        return rows

    def differences(self, contrast: Contrast) -> dict[str, np.ndarray]:
        """Return column -> (seeds, prompts), better minus than; NaN where an arm left the prompt unscored."""
        if self.preference:
            return self.preference.differences(contrast)
        differences = {}
        for category in contrast.categories:
            pairs = []
            for seed in self.study.seeds:
                means = [self.seed_means(arm, category, seed) for arm in (contrast.better, contrast.than)]
                pairs.append(means)
            prompts = sorted({prompt for better, than in pairs for prompt in (*better, *than)})
            rows = []
            for better, than in pairs:
                left = np.array([better.get(prompt) for prompt in prompts], dtype=float)
                right = np.array([than.get(prompt) for prompt in prompts], dtype=float)
                rows.append(left - right)
            differences[category] = np.array(rows)
        return differences

    def seed_means(self, arm: str, category: str, seed: int) -> dict[str, float | None]:
        """Return prompt id -> the mean score of an arm's cell in a column, None where it is unscored."""
        key = (arm, category, seed)
        if key not in self._seed_means:
            cells = [cell for cell in self.measured_cells(arm) if cell.seed == seed]
            self._seed_means[key] = _means(cells, category)
        return self._seed_means[key]

    def split_estimate(self, arm: str, category: str, fact: str, value: object) -> Estimate:
        """Return the `estimate` over the prompts whose `facts[fact]` is `value`."""
        means = _means(self.measured_cells(arm), category, lambda sample: sample.facts.get(fact) == value)
        return estimate(means)

    def split_values(self, fact: str, values: tuple[object, ...]) -> dict[str, list[object]]:
        """Return category -> those of `values` that the fact has there, where it has more than one."""
        facts: dict[str, list[object]] = {category: [] for category in self.categories}
        for sample in self.reference_samples():
            if sample.category in facts:
                facts[sample.category].append(sample.facts.get(fact))
        split = {}
        for category in self.categories:
            present = [value for value in values if value in facts[category]]
            if len(present) > 1:
                split[category] = present
        return split

    def reference_samples(self) -> list[SampleRow]:
        """Return, for every column, the samples of its first measured cell: the prompts of the study."""
        samples: dict[str, list[SampleRow]] = {}
        for cell in self.study.cells:
            known = set(samples)
            for row in cell.samples or () if cell.measured else ():
                if row.category not in known:
                    samples.setdefault(row.category, []).append(row)
        reference: list[SampleRow] = []
        for rows in samples.values():
            reference += rows
        return reference


def _means(
    cells: Iterable[CellResult], category: str, keep: Callable[[SampleRow], bool] | None = None
) -> dict[str, float | None]:
    """Return the prompt means of cells in a column, over the prompts of the samples to keep."""
    rows: list[ScoreRow] = []
    for cell in cells:
        scores = [row for row in cell.rows if row.category == category]
        if keep is not None:
            prompt_ids = {sample.prompt_id for sample in cell.samples or () if keep(sample)}
            scores = [row for row in scores if row.prompt_id in prompt_ids]
        rows += scores
    return prompt_means((row.prompt_id, row.value) for row in rows)
