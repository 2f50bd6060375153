"""What is said of a set of pictures: findings of some kinds, and how people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.images.folder import INDEX, READ, Picture

SHOWN = 10
LEAST, MOST = (
    16,
    8192,
)  # pixels a side: below, it is a placeholder (the miniature draws 24); above, a mistake that would take the memory of hundreds of pictures


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of finding and what to do about it. With `error`, a set that has it is refused; without, it is recorded."""

    title: str
    advice: str
    error: bool = True


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A line of text; `pictures` are those that cannot be scored for it."""

    kind: Kind
    text: str
    pictures: tuple[Picture, ...] = ()


MISSING = Kind(
    title="prompts that lack pictures",
    advice="make those pictures, or score the complete prompts alone with policies.allow_partial=true",
)
SURPLUS = Kind(
    title="prompts with too many pictures",
    advice="was a folder copied twice? Take the surplus out, give the right evaluation.images_per_prompt, or have the first ones "
    "taken with policies.allow_partial=true",
)
NAMELESS = Kind(
    title="pictures whose names hold no prompt and number",
    advice="name them PROMPT_000012.png, or take them out",
)
UNREAD = Kind(
    title="pictures of another format",
    advice=f"make them {', '.join(sorted(READ))}, without loss where that is possible",
)
SAME_NUMBER = Kind(title="numbers that a prompt has twice", advice="keep one picture of each number")
STRANGER = Kind(
    title="prompts that do not belong",
    advice="name the pictures by the prompts as the prompt file spells them, or take them out",
)
ABSENT = Kind(
    title=f"files that {INDEX} names and that are not there", advice="put them there, or take their rows out"
)
CHAINLESS = Kind(
    title="pictures whose chains are missing",
    advice="write them (an empty chain is an empty file), or take chains/ away",
)
UNREADABLE = Kind(title="unreadable pictures", advice="make them anew")
BAD_CHAIN = Kind(title="unreadable chains", advice="write them anew, in UTF-8")
TINY = Kind(title=f"pictures under {LEAST} pixels a side", advice="make them anew: these are placeholders")
LARGE = Kind(title=f"pictures over {MOST} pixels a side", advice="give them in the size that the model draws")
ANIMATED = Kind(title="pictures with several frames", advice="save the one that is meant")
ODD_SIZE = Kind(
    title="pictures of another size than most",
    advice="make them anew, or say that sizes may differ with policies.mixed_sizes=true",
)
EQUAL = Kind(
    title="pictures with equal bytes",
    advice="a copy stands in for a picture, or a filter has made them blank: make them anew, each with its own seed",
)
ORDER = Kind(
    title="categories whose numbers do not follow the prompt file",
    advice="scored by the prompt in the name all the same; the official 3-in-1 program goes by the sorted numbers and would give complex "
    "prompts the scores of others",
    error=False,
)
MODE = Kind(
    title="pictures that are not RGB", advice="converted by PIL, as the official programs do", error=False
)
BESIDE = Kind(
    title="other files beside the pictures",
    advice="left out; T2I-CompBench's programs stop at them",
    error=False,
)


def plain(text: str | Path) -> str:
    """The text on one line, with what cannot be printed written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def describe(findings: Sequence[Finding], shown: int | None = SHOWN) -> str:
    """The findings by kind, errors first: how many, the first `shown` of each, what to do."""
    groups: dict[Kind, list[str]] = {}
    for finding in sorted(findings, key=lambda finding: not finding.kind.error):
        groups.setdefault(finding.kind, []).append(plain(finding.text))
    lines = []
    for kind, texts in groups.items():
        lines += [f"{kind.title}: {len(texts)}", *(f"  {text}" for text in texts[:shown])]
        lines += ["  ..."] if shown is not None and len(texts) > shown else []
        lines += [f"  -> {kind.advice}"]
    return "\n".join(lines)


def errors(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.kind.error]
