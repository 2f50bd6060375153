"""Does a metric see left and right? The scores of images beside those of the same images mirrored, for prompts that say a side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.analysis.statistics import bootstrap_interval, prompt_means

FALLS, BLIND, CANNOT_TELL = "falls", "blind", "cannot tell"


def verdict(pairs: Sequence[tuple[str, float, float]]) -> dict[str, Any] | None:
    """What mirroring does to a category's scores.

    Args:
        pairs: prompt id, score, and score of the mirrored image, of every image of a prompt with left or right.

    Returns:
        The number of `images` and `prompts`, the means over prompts `score` and `mirrored`, their difference `drop` with its
        95% interval (`low`, `high`; paired by prompt, None with fewer than two), and the `verdict`: "falls" where the
        interval lies above 0, else "blind"; "cannot tell" with fewer than two prompts, or where nothing scored above 0 that
        could fall. None without pairs.
    """
    if not pairs:
        return None
    before = _means([(prompt, score) for prompt, score, _ in pairs])
    after = _means([(prompt, mirrored) for prompt, _, mirrored in pairs])
    interval = bootstrap_interval(before - after)
    falls = interval.low is not None and interval.low > 0
    return {
        "images": len(pairs),
        "prompts": len(before),
        "score": float(before.mean()),
        "mirrored": float(after.mean()),
        "drop": float((before - after).mean()),
        "low": interval.low,
        "high": interval.high,
        "verdict": CANNOT_TELL
        if interval.low is None or not (before > 0).any()
        else FALLS
        if falls
        else BLIND,
    }


def note(found: dict[str, Any] | None) -> str | None:
    """What every table says of a metric that was found blind."""
    if found is None or found["verdict"] != BLIND:
        return None
    return (
        f"blind to left and right: mirrored images score {found['mirrored']:.2f}, these {found['score']:.2f}"
    )


def _means(values: Sequence[tuple[str, float]]) -> np.ndarray:
    return np.array(list(prompt_means(values).values()), dtype=float)
