"""The scores of many images, computed and printed as summary_scores.py does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Share:
    """`correct` of `count` images or prompts."""

    correct: int
    count: int

    @property
    def mean(self) -> float:
        return self.correct / self.count


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is right: of the images, of the prompts (one right image is enough), and of each tag's images,
    in the order they came.
    """

    images: Share
    prompts: Share
    tags: Mapping[str, Share]

    @property
    def overall(self) -> float:
        """GenEval's score: the mean of the tags' means, each counting the same however many images it has."""
        return float(np.mean([share.mean for share in self.tags.values()]))

    def text(self) -> str:
        """As the official program prints it."""
        lines = [
            "Summary",
            "=======",
            f"Total images: {self.images.count}",
            f"Total prompts: {self.prompts.count}",
            f"% correct images: {self.images.mean:.2%}",
            f"% correct prompts: {self.prompts.mean:.2%}",
            "",
            "Task breakdown",
            "==============",
            *(
                f"{tag:<16} = {share.mean:.2%} ({share.correct} / {share.count})"
                for tag, share in self.tags.items()
            ),
            "",
            f"Overall score (avg. over tasks): {self.overall:.5f}",
        ]
        return "".join(f"{line}\n" for line in lines)


def summarise(images: Iterable[tuple[str, str, bool]]) -> Summary:
    """The summary of images: the tag of each, what tells its prompt from others, and whether it is right.

    Raises:
        ValueError: there is no image.
    """
    tags: dict[str, list[bool]] = {}
    prompts: dict[str, list[bool]] = {}
    for tag, prompt, correct in images:
        tags.setdefault(tag, []).append(correct)
        prompts.setdefault(prompt, []).append(correct)
    if not tags:
        raise ValueError("there is no judged image: nothing can be summed up")
    return Summary(
        images=_share(list(chain.from_iterable(tags.values()))),
        prompts=_share([any(own) for own in prompts.values()]),
        tags={tag: _share(own) for tag, own in tags.items()},
    )


def _share(correct: list[bool]) -> Share:
    return Share(correct=sum(correct), count=len(correct))
