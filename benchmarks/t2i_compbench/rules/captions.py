"""The text that CLIP compares an image of a complex prompt with: the prompt without its adjectives (spec:
`CLIPScore_eval/`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.language.tokens import Token

JOINTS = (",", "-")  # of adjectives: "soft, fluffy", "blue-green"
CUT = "\0"  # stands where something was cut out
HOLE = re.compile(rf"(?:{CUT}\s*)+")
HOLE_BEFORE_MARK = re.compile(rf"\s*(?:{CUT}\s*)+(?=[.,;:!?]|$)")


def caption(prompt: str, tokens: Sequence[Token], *, mode: Mode) -> str:
    """The prompt without the tokens that are adjectives; only the part of speech decides.

    Official mode joins the others by spaces, so that marks stand apart ("the vase ."). Corrected mode
    cuts the adjectives out of the prompt as it is spelled, with the commas and hyphens between two of
    them (Q19).

    Raises:
        ValueError: corrected mode, and the tokens are not those of the prompt.
    """
    if mode == "official":
        return " ".join(token.text for token in tokens if token.pos != "ADJ")
    text, end = "", 0
    for place, token in enumerate(tokens):
        start = prompt.find(token.text, end)
        if start < 0:
            raise ValueError(
                f"{token.text!r} is not where it should be in {prompt!r}: give the tokens of this "
                "prompt, in order"
            )
        text += prompt[end:start] + (CUT if _is_cut(tokens, place) else token.text)
        end = start + len(token.text)
    return HOLE.sub("", HOLE_BEFORE_MARK.sub("", text + prompt[end:]))


def _is_cut(tokens: Sequence[Token], place: int) -> bool:
    if tokens[place].text not in JOINTS:
        return tokens[place].pos == "ADJ"
    return 0 < place < len(tokens) - 1 and tokens[place - 1].pos == tokens[place + 1].pos == "ADJ"
