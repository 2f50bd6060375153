"""An advantage that one outlier in a group does not shift."""

from statistics import median

from harness.protocols import Advantage


class AgainstMedian(Advantage):
    """The total minus the group's median, over the mean distance from it, between -bound and bound."""

    def __init__(self, *, bound: float) -> None:
        if not bound > 0:
            raise ValueError(f"bound={bound}: give a number above 0")
        self._bound = bound

    def __call__(self, groups):
        return [self._advantages([grade.total for grade in group]) for group in groups]

    def _advantages(self, totals):
        middle = median(totals or [0.0])
        distance = sum(abs(total - middle) for total in totals) / max(1, len(totals))
        scores = [(total - middle) / max(distance, 1e-8) for total in totals]
        return [min(max(score, -self._bound), self._bound) for score in scores]
