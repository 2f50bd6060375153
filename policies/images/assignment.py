"""Assigns images to prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from harness.types import Prompt
from policies.images.findings import MISSING, SURPLUS, Finding
from policies.images.folder import INDEX, ImageFile, ImageGroup, normalized

NAME_BYTES = 255  # the longest file name that common file systems hold

Assignment = dict[str, Sequence[ImageFile]]  # prompt id -> its images in order


def assign(
    prompts: Sequence[Prompt], count: int, groups: Mapping[str, ImageGroup]
) -> tuple[Assignment, list[Finding]]:
    """Return every prompt's images, and a finding for each text that does not have `count` images per
    prompt.

    Prompts of the same text share its images equally, in order. They have none where the images do not
    divide evenly.
    """
    prompts_by_text: dict[tuple[int, str], list[Prompt]] = {}
    for prompt in prompts:
        key = id(groups[prompt.category]), normalized(prompt.text)
        prompts_by_text.setdefault(key, []).append(prompt)
    assignment: Assignment = {}
    findings = []
    for (_, text), same_text in prompts_by_text.items():
        images = groups[same_text[0].category].images.get(text, ())
        each, rest = divmod(len(images), len(same_text))
        for position, prompt in enumerate(same_text):
            assignment[prompt.id] = [] if rest else images[position * each : (position + 1) * each]
        wanted = count * len(same_text)
        if len(images) != wanted:
            kind = MISSING if len(images) < wanted else SURPLUS
            findings.append(Finding(kind=kind, text=_count_text(same_text, len(images), wanted)))
    return assignment, findings


def complete(assignment: Assignment, count: int, rejected: Collection[ImageFile]) -> Assignment:
    """Return the first `count` images of every prompt that has so many which are not rejected."""
    chosen: Assignment = {}
    for prompt_id, images in assignment.items():
        valid = [image for image in images if image not in rejected]
        if len(valid) >= count:
            chosen[prompt_id] = valid[:count]
    return chosen


def _count_text(prompts: Sequence[Prompt], images: int, wanted: int) -> str:
    prompt = prompts[0]
    several = f" for {len(prompts)} prompts of this text" if len(prompts) > 1 else ""
    return f"{prompt.id} {prompt.text!r}: {images} of {wanted}{several}{_name_hint(prompt.text)}"


def _name_hint(text: str) -> str:
    """Return a hint where no file can have the text as its name."""
    longest = len(f"{text}_000000.png".encode())
    return f" (no file can be named so: give it in {INDEX})" if "/" in text or longest > NAME_BYTES else ""
