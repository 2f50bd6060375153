"""BLIP-VQA (`BLIPvqa_eval/`): the questions for the noun phrases of a prompt, and the score of their
answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from benchmarks.mode import Mode

MOST = 8  # questions about one image
MOST_WORDS = 50  # of one question
NOT_ASKED = ("top", "the side", "the left", "the right")
DELETED = re.compile(r"[.!\"()*#:;~]")

# What corrected mode takes for no phrase at all, where it is all that a phrase consists of (Q16).
PRONOUNS = (
    "i me you he him she her it we us they them who whom which what that this these those one other "
    "others another each both all "
    "myself yourself himself herself itself ourselves themselves something everything nothing anything "
    "someone everyone"
)
PLACES = (
    "top bottom side sides left right front back rear middle center centre background foreground "
    "inside outside"
)
DETERMINERS = "a an the its his her their my your our some any every either neither"
NOTHING = frozenset(f"{PRONOUNS} {PLACES} {DETERMINERS}".split())


def questions(chunks: Sequence[str], *, mode: Mode) -> tuple[str, ...]:
    """What is asked about an image of a prompt with these noun phrases, in order: "a red vase" -> "a red
    vase?".

    At most eight; the official script fills up with blank questions, which count as answered by yes and
    are left out here. Official mode leaves out four phrases as they are written, corrected mode all that
    are nothing but a pronoun or a place (Q16).
    """
    asked = [
        chunk
        for chunk in chunks
        if (chunk not in NOT_ASKED if mode == "official" else _names_something(chunk))
    ]
    return tuple(f"{chunk}?" for chunk in asked[:MOST])


def clean(question: str) -> str:
    """The question as the tokenizer gets it: lower case, without some marks and trailing spaces, at most
    50 words.
    """
    return " ".join(DELETED.sub("", question.lower()).rstrip(" ").split(" ")[:MOST_WORDS])


def product(probabilities: Sequence[float], *, mode: Mode) -> float | None:
    """The score of an image from P(yes) of each question that was asked.

    Official mode: their product in float32, of 4 decimals before and after (Q15), and 1 where nothing was
    asked. Corrected mode: their geometric mean (Q17), unrounded, and None where nothing was asked.
    """
    if mode == "corrected":
        return math.prod(probabilities) ** (1 / len(probabilities)) if probabilities else None
    score = np.float32(1)
    for probability in probabilities:
        score *= np.float32(f"{probability:.4f}")
    return float(f"{score:.4f}")


def _names_something(chunk: str) -> bool:
    return not all(word in NOTHING for word in chunk.lower().split())
