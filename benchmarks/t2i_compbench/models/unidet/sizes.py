"""The sizes of a UniDet, as its tensors show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a detector; four stages are res2 to res5. Nothing else of the two published models differs but
    by `variant`.

    Attributes:
        variant: `rs200` has a ResNeSt, norms after all convolutions and four convolutions in each box
            head; `r50` has a ResNet, and two linear layers in each box head.
        stem: channels of the first convolutions, three of rs200 and one of r50.
        blocks: bottlenecks of each stage.
        widths: channels within a stage's bottlenecks.
        outputs: channels of each stage.
        features: channels of the pyramid p3 to p7, and of the convolutions of the box heads.
        hidden: width of the linear layers of the box heads.
        classes: without the background, which is one more column.
    """

    variant: Literal["rs200", "r50"]
    stem: tuple[int, ...]
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    outputs: tuple[int, ...]
    features: int
    hidden: int
    classes: int
