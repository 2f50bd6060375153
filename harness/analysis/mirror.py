"""The mirror check: whether the scores of a metric drop when images are mirrored left to right.

Only images of prompts that say a side are checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.analysis.statistics import bootstrap_interval, prompt_means

FALLS, BLIND, CANNOT_TELL = "falls", "blind", "cannot tell"


def verdict(pairs: Sequence[tuple[str, float, float]]) -> dict[str, Any] | None:
    """Return the effect of mirroring on a category's scores.

    Args:
        pairs: prompt id, score, and score of the mirrored image, for every image of a prompt with left or
            right.

    Returns:
        The number of `images` and `prompts`; the means over prompts `score` and `mirrored`; their
        difference `drop` with its 95% interval (`low`, `high`; paired by prompt, None with fewer than two);
        and the `verdict`: "falls" where the interval lies above 0, else "blind"; "cannot tell" with fewer
        than two prompts, or where no score is above 0 and could drop. None without pairs.
    """
    if not pairs:
        return None
    before = _means([(prompt, score) for prompt, score, _ in pairs])
    after = _means([(prompt, mirrored) for prompt, _, mirrored in pairs])
    interval = bootstrap_interval(before - after)
    if interval.low is None or not (before > 0).any():
        outcome = CANNOT_TELL
    else:
        outcome = FALLS if interval.low > 0 else BLIND
    return {
        "images": len(pairs),
        "prompts": len(before),
        "score": float(before.mean()),
        "mirrored": float(after.mean()),
        "drop": float((before - after).mean()),
        "low": interval.low,
        "high": interval.high,
        "verdict": outcome,
    }


def note(check: dict[str, Any] | None) -> str | None:
    """Return the note that every table has on a blind metric, None for others."""
    if check is None or check["verdict"] != BLIND:
        return None
    mirrored, score = check["mirrored"], check["score"]
    return f"blind to left and right: mirrored images score {mirrored:.2f}, these {score:.2f}"


def _means(values: Sequence[tuple[str, float]]) -> np.ndarray:
    return np.array(list(prompt_means(values).values()), dtype=float)
