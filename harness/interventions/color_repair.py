"""The colors that a prompt asks for and its chain leaves out, written into the chain."""

from __future__ import annotations

import re

from harness.chain import END, OBJ_END, OBJ_START
from harness.interventions.case import Case, Change, Intervention
from harness.interventions.edits import body_of


class ColorRepair(Intervention):
    """Writes a missing color before the name of its object, where this makes the chain right."""

    name = "color_repair"
    reads = ("colors",)

    def __call__(self, case: Case) -> Change:
        colors = case.reading.colors
        if not colors:
            return case.unedited("the prompt does not ask for two colors")
        text = body_of(case.chain)
        if _says(text, colors):
            return case.unedited("the chain is right")
        for color, name in colors:
            if not re.search(rf"\b{color}\b", text):
                text = colored(text, color, name, [other for other, _ in colors if other != color])
        if not _says(text, colors):
            return case.unedited("the colors cannot be written into this chain")
        return Change(chain=text + END)


def colored(text: str, color: str, name: str, wrong: list[str]) -> str:
    """Return a chain's text with a color before an object's first tagged name, and no wrong color there.

    A sentence says the color where no tagged name holds the object's.
    """
    tagged = re.compile(
        rf"(?<={re.escape(OBJ_START)})[^<]*\b{re.escape(name)}\b[^<]*(?={re.escape(OBJ_END)})"
    )
    match = tagged.search(text)
    if match is None:
        return f"The {name} is {color}. {text}"
    old = match.group()
    for other in wrong:
        old = re.sub(rf"\b{other}\b\s*", "", old)
    return f"{text[: match.start()]}{color} {old.lstrip()}{text[match.end() :]}"


def _says(text: str, colors: tuple[tuple[str, str], ...]) -> bool:
    return all(color in text.lower() for color, _ in colors)
