"""All numbers of a report that need statistics, computed once from a study's results."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.analysis import claims
from harness.analysis.mirror import BLIND
from harness.analysis.results import CellResult, SampleRow, ScoreRow, StudyResult
from harness.analysis.statistics import Comparison, Estimate, compare, estimate, prompt_means

DONE = "done"
OTHER_METRIC = "another metric"
_WORST_FIRST = ("failed", "lost", "stopped", "running", "waiting", "planned")


class Analysis:
    """Scores, paired differences and verdicts of a study; arms and categories in the order of the plan.

    An arm is compared only when all its planned seeds are measured: a difference of unequal seeds is none. `categories` are
    columns: one that was split by its metrics is there as its parts, and what is claimed of the whole is not measured.
    """

    def __init__(self, study: StudyResult) -> None:
        self.study = study
        self.arms = study.arms
        self.categories = study.categories
        self.baseline: str | None = study.study.get("baseline")
        self.full: str | None = study.study.get("full")
        self.published = study.published
        self._scored: dict[str, list[CellResult]] = {}
        for cell in study.cells:
            for category in dict.fromkeys(row.category for row in cell.scores or ()):
                self._scored.setdefault(category, []).append(cell)
        self._means: dict[tuple[str, str], dict[str, float | None]] = {}
        self._estimates: dict[tuple[str, str], Estimate] = {}
        self._comparisons: dict[tuple[str, str, str], Comparison | str] = {}
        self.claims = claims.read(study.study, list(dict.fromkeys(map(study.category_of, self.categories))))
        self.verdicts = claims.judge(
            self.claims,
            lambda part: self.compare(part.better, part.than, part.category),
            published=self.published,
            seeds=len(study.seeds),
        )

    def measured_cells(self, arm: str) -> list[CellResult]:
        return [cell for cell in self.study.cells_of(arm) if cell.measured]

    def state(self, arm: str) -> str:
        """`done` when every seed is measured, else the worst state of those that are not."""
        states = {cell.state for cell in self.study.cells_of(arm) if not cell.measured}
        if not states:
            return DONE
        return next((state for state in _WORST_FIRST if state in states), sorted(states)[0])

    def scored_cells(self, category: str) -> list[CellResult]:
        """The cells that have scores in a column."""
        return self._scored.get(category, [])

    def is_blind(self, category: str) -> bool:
        """Whether some cell's scores in the column did not fall when its images were mirrored."""
        found = [
            cell.metrics[category].mirror for cell in self.scored_cells(category) if category in cell.metrics
        ]
        return any(mirror["verdict"] == BLIND for mirror in found if mirror)

    def heading(self, category: str) -> str:
        """The column's name as it is shown, marked where its metric is blind."""
        return f"{category} ({BLIND})" if self.is_blind(category) else category

    def absence(self, arm: str, category: str) -> str:
        """Why an arm has no number in a column."""
        measured = self.measured_cells(arm)
        if not measured:
            return self.state(arm)
        return OTHER_METRIC if len(self._elsewhere(arm, category)) == len(measured) else "unscored"

    def _elsewhere(self, arm: str, category: str) -> list[CellResult]:
        """The arm's measured cells whose scores are in another column of the same category."""
        if self.study.category_of(category) == category:
            return []
        return [cell for cell in self.measured_cells(arm) if cell not in self.scored_cells(category)]

    def means(self, arm: str, category: str) -> dict[str, float | None]:
        """Prompt means of an arm over its measured seeds."""
        key = (arm, category)
        if key not in self._means:
            self._means[key] = _means(self.measured_cells(arm), category)
        return self._means[key]

    def estimate(self, arm: str, category: str) -> Estimate:
        key = (arm, category)
        if key not in self._estimates:
            self._estimates[key] = estimate(self.means(arm, category))
        return self._estimates[key]

    def compare(self, better: str, than: str, category: str) -> Comparison | str:
        """The paired difference, or the reason why there is none."""
        key = (better, than, category)
        if key not in self._comparisons:
            self._comparisons[key] = self._compare(*key)
        return self._comparisons[key]

    def _compare(self, better: str, than: str, category: str) -> Comparison | str:
        for arm in (better, than):
            if arm not in self.arms:
                return f"{arm} is not in this run"
            if self.state(arm) != DONE:
                return f"{arm} {self.state(arm)}"
        if category in self.study.split:
            return f"{category} was scored by unequal metrics"
        if category not in self.categories:
            return f"{category} was not measured"
        for arm in (better, than):
            if self._elsewhere(arm, category):
                return f"{arm} has {OTHER_METRIC}"
        return compare(self.means(better, category), self.means(than, category)) or "no prompt scored in both"

    def seed_effects(self, part: claims.Part) -> list[float]:
        """The difference seed by seed (training spread, which intervals over prompts do not show)."""
        if isinstance(self.compare(part.better, part.than, part.category), str):
            return []
        effects = []
        for seed in self.study.seeds:
            left, right = (
                _means([cell for cell in self.measured_cells(arm) if cell.seed == seed], part.category)
                for arm in (part.better, part.than)
            )
            pairs = [(left[prompt], right[prompt]) for prompt in left.keys() & right.keys()]
            differences = sorted(a - b for a, b in pairs if a is not None and b is not None)
            if differences:
                effects.append(sum(differences) / len(differences))
        return effects

    def split_estimate(self, arm: str, category: str, fact: str, value: object) -> Estimate:
        """As `estimate`, over the prompts whose `facts[fact]` is `value`."""
        return estimate(
            _means(self.measured_cells(arm), category, lambda sample: sample.facts.get(fact) == value)
        )

    def split_values(self, fact: str, values: tuple[object, ...]) -> dict[str, list[object]]:
        """Category -> which of `values` that fact takes there, for the categories where it takes more than one."""
        taken: dict[str, list[object]] = {category: [] for category in self.categories}
        for sample in self.reference_samples():
            if sample.category in taken:
                taken[sample.category].append(sample.facts.get(fact))
        found = {
            category: [value for value in values if value in taken[category]] for category in self.categories
        }
        return {category: there for category, there in found.items() if len(there) > 1}

    def reference_samples(self) -> list[SampleRow]:
        """Of every column the samples of the first measured cell that has some: the prompts of the study."""
        found: dict[str, list[SampleRow]] = {}
        for cell in self.study.cells:
            rows = [row for row in cell.samples or () if cell.measured and row.category not in found]
            for row in rows:
                found.setdefault(row.category, []).append(row)
        return [row for rows in found.values() for row in rows]


def _means(
    cells: Iterable[CellResult], category: str, keep: Callable[[SampleRow], bool] | None = None
) -> dict[str, float | None]:
    rows: list[ScoreRow] = []
    for cell in cells:
        kept = None if keep is None else {sample.prompt_id for sample in cell.samples or () if keep(sample)}
        rows += [
            row
            for row in cell.scores or ()
            if row.category == category and (kept is None or row.prompt_id in kept)
        ]
    return prompt_means((row.prompt_id, row.value) for row in rows)
