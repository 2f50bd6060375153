"""A reward for plans whose boxes keep apart."""

from itertools import combinations

from harness.types import Score


class Apart:
    """1 where no planned boxes overlap by more than `tolerance` (IoU), 0 if two coincide or there is none."""

    name = "apart"
    scope = "chain"

    def __init__(self, *, tolerance: float) -> None:
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance={tolerance}: give a number from 0, below 1")
        self._tolerance = tolerance

    def __call__(self, samples):
        return [self._score(sample.chain) for sample in samples]

    def _score(self, chain):
        boxes = [thing.box for thing in chain.objects if thing.box is not None]
        overlaps = [one.iou(other) for one, other in combinations(boxes, 2)]
        overlap = max(overlaps, default=0.0 if boxes else 1.0)
        value = min(1.0, (1 - overlap) / (1 - self._tolerance))
        return Score(value=value, evidence={"boxes": len(boxes), "overlap": overlap})
