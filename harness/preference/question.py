"""The question of chain preference: which of two chains is the better description to draw a prompt from?

It is the last question of arXiv 2505.17022 to an MLLM, in our words: the judge sees the prompt and both
chains with their boxes, gives its reasons and selects one. It never sees which arm wrote which chain.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from harness.chain import END, draw_layout, without_control_tokens
from harness.experts.judge.rubric import Rubric
from harness.preference.pairs import ChainPair
from harness.settings import flag
from harness.types import Chain, Question
from harness.votes import Order

DATA_FILES = ("rubrics/*.txt",)  # count in the keys of stages
RUBRICS = Path(__file__).parent / "rubrics"
KIND = "preference"
NOTHING = "(nothing)"
_LABEL_HEIGHT = 32  # pixels above each layout
_GAP = 16  # pixels between the layouts


class PreferenceQuestion:
    """Asks about pairs of chains.

    Args:
        ties: whether the judge may answer that neither is better; the paper's judge may not.
        rubric: a text of `harness/preference/rubrics` without its ending, or the path of your own; null
            takes `preference` with ties and `forced_choice` without.
        layouts: also show the boxes of both chains as an image, which the paper does not.

    Raises:
        ValueError: there is no such rubric, or a setting has a value that is not allowed.
    """

    def __init__(self, *, ties: bool = True, rubric: str | None = None, layouts: bool = False) -> None:
        self.ties = flag("ties", ties)
        self.layouts = flag("layouts", layouts)
        name = rubric or (KIND if ties else "forced_choice")
        self.rubric = Rubric(name, "prompt", "first", "second", folder=RUBRICS)
        self.external = self.rubric.external

    def of(self, pair: ChainPair, order: Order) -> Question:
        """Return the question in which the chain of the first arm of `order` is A."""
        chains = (pair.chain_x, pair.chain_y)
        first, second = chains if order == "xy" else chains[::-1]
        values = {"prompt": pair.prompt.text, "first": _shown(first), "second": _shown(second)}
        return Question(
            kind=KIND,
            text=self.rubric.fill(values),
            images=(draw_layouts(first, second),) if self.layouts else (),
            facts={"prompt": pair.prompt, "first": first, "second": second},
            lead=self.rubric.lead,
            scored=False,
        )


def _shown(chain: Chain) -> str:
    """A chain as a judge reads it: one line of names, prose and boxes, so that it can forge no other line."""
    text = without_control_tokens(chain.text.partition(END)[0])
    return " ".join(text.split()) or NOTHING


def draw_layouts(first: Chain, second: Chain) -> Image.Image:
    """Draw the boxes of both chains side by side, labeled A and B, as one image: many servers take no two."""
    layouts = {"A": draw_layout(first), "B": draw_layout(second)}
    width, height = layouts["A"].size
    canvas = Image.new("RGB", (2 * width + _GAP, height + _LABEL_HEIGHT), "lightgray")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_LABEL_HEIGHT - 8)
    for index, (label, layout) in enumerate(layouts.items()):
        left = index * (width + _GAP)
        draw.text((left + 8, 2), label, fill="black", font=font)
        canvas.paste(layout, (left, _LABEL_HEIGHT))
    return canvas
