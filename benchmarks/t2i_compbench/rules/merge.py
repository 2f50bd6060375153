"""3-in-1: which scores an image of a complex prompt is measured by, and their mean (spec:
`3_in_1_eval/3_in_1.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from benchmarks.mode import Mode

Route = Literal["spatial", "action", "both"]

NEEDED: dict[Route, tuple[str, ...]] = {  # what each route averages, as `merge` calls it
    "spatial": ("attribute", "spatial"),
    "action": ("attribute", "clip"),
    "both": ("attribute", "spatial", "clip"),
}
CLIPSCORE_SCALE = 2.5  # of CLIPScore (arXiv 2104.08718): 2.5 * max(cosine, 0)


def key(prompt: str) -> str:
    """What prompts are told apart by: the text up to the first full stop, in lower case."""
    return prompt.split(".")[0].lower()


def route(prompt: str, spatial: Collection[str], action: Collection[str]) -> Route:
    """Whether a prompt relates things in space, by an action, or by both.

    Args:
        prompt: its text.
        spatial: the `key`s of `complex_val_spatial.txt`; they go first.
        action: the `key`s of `complex_val_action.txt`. What stands in neither file has both.
    """
    own = key(prompt)
    return "spatial" if own in spatial else "action" if own in action else "both"


def merge(
    which: Route, attribute: float, spatial: float | None = None, clip: float | None = None, *, mode: Mode
) -> float:
    """The score of one image: BLIP-VQA's (`attribute`) averaged with 2D-spatial's, with CLIP's cosine, or
    with both.

    Official mode takes the cosine as it is; corrected mode as CLIPScore, capped at 1 (Q20). What the
    route does not need may be None.

    Raises:
        ValueError: a score that the route needs is None.
    """
    if clip is not None and mode == "corrected":
        clip = min(CLIPSCORE_SCALE * max(clip, 0.0), 1.0)
    others = {"spatial": (spatial,), "action": (clip,), "both": (spatial, clip)}[which]
    total = attribute
    for score in others:
        if score is None:
            raise ValueError(f"a prompt of the route {which!r} lacks a score: {spatial=}, {clip=}")
        total += score
    return total / (1 + len(others))
