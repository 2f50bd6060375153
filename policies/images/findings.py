"""Findings about a set of images, by kind, and their text for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.images.folder import INDEX, SUPPORTED, ImageFile

SHOWN = 10
# Pixels per side. Below: a placeholder (the miniature draws 24). Above: a mistake that would need the memory
# of hundreds of images.
LEAST, MOST = 16, 8192


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of finding and the advice about it. An `error` rejects a set; other findings are recorded."""

    title: str
    advice: str
    error: bool = True


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of text. `images` are the images that cannot be scored because of it."""

    kind: Kind
    text: str
    images: tuple[ImageFile, ...] = ()


# Titles, and the advice of kinds that are no errors, appear in the notes of tables.
MISSING = Kind(
    title="prompts that lack pictures",
    advice="generate these images, or score only the complete prompts with policies.allow_partial=true",
)
SURPLUS = Kind(
    title="prompts with too many pictures",
    advice="was a folder copied twice? Remove the surplus, set evaluation.images_per_prompt, or use the first"
    " images of each prompt with policies.allow_partial=true",
)
NAMELESS = Kind(
    title="pictures whose names hold no prompt and number",
    advice="name them PROMPT_000012.png, or remove them",
)
UNSUPPORTED_FORMAT = Kind(
    title="pictures of another format",
    advice=f"convert them to {', '.join(sorted(SUPPORTED))}, without loss where possible",
)
SAME_NUMBER = Kind(title="numbers that a prompt has twice", advice="keep one image of each number")
UNKNOWN_PROMPT = Kind(
    title="prompts that do not belong",
    advice="name the images by the prompts as the prompt file spells them, or remove them",
)
LOOKALIKE = Kind(
    title="folders whose names are almost those of categories",
    advice="rename them as the categories are spelled",
)
ABSENT = Kind(
    title=f"files that {INDEX} names and that are not there", advice="add them, or remove their rows"
)
NO_CHAIN = Kind(
    title="pictures whose chains are missing",
    advice="write them (an empty chain is an empty file), or remove all chains",
)
UNREADABLE = Kind(title="unreadable pictures", advice="generate them again")
BAD_CHAIN = Kind(title="unreadable chains", advice="write them again, in UTF-8")
TINY = Kind(
    title=f"pictures under {LEAST} pixels a side", advice="generate them again: these are placeholders"
)
LARGE = Kind(
    title=f"pictures over {MOST} pixels a side", advice="provide them in the size that the model draws"
)
ANIMATED = Kind(title="pictures with several frames", advice="save the intended frame")
ODD_SIZE = Kind(
    title="pictures of another size than most",
    advice="generate them again, remove them, or score all sizes with policies.mixed_sizes=true",
)
EQUAL = Kind(
    title="pictures with equal bytes",
    advice=(
        "an image was copied, or a filter has blanked several: generate them again, each with its own seed"
    ),
)
ORDER = Kind(
    title="categories whose numbers do not follow the prompt file",
    advice="scored by the prompt in the name all the same; the official 3-in-1 program goes by the sorted"
    " numbers and would give complex prompts the scores of others",
    error=False,
)
MODE = Kind(
    title="pictures that are not RGB", advice="converted by PIL, as the official programs do", error=False
)
OTHER_FILE = Kind(
    title="other files beside the pictures",
    advice="left out; T2I-CompBench's programs stop at them",
    error=False,
)


def printable(text: str | Path) -> str:
    """Return the text on one line, with unprintable characters escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def describe(findings: Sequence[Finding], shown: int | None = SHOWN) -> str:
    """Return the findings by kind, errors first: the first `shown` of each (None: all), and the advice."""
    texts: dict[Kind, list[str]] = {}
    for finding in sorted(findings, key=lambda finding: not finding.kind.error):
        texts.setdefault(finding.kind, []).append(printable(finding.text))
    lines = []
    for kind, kind_texts in texts.items():
        lines.append(f"{kind.title}: {len(kind_texts)}")
        lines += [f"  {text}" for text in kind_texts[:shown]]
        if shown is not None and len(kind_texts) > shown:
            lines.append("  ...")
        lines.append(f"  -> {kind.advice}")
    return "\n".join(lines)


def errors(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings for which a set is rejected."""
    return [finding for finding in findings if finding.kind.error]
