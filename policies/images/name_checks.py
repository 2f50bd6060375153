"""The checks of names and numbers, before any image is opened."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from harness.names import nearest
from harness.types import Prompt
from policies.images.findings import (
    ABSENT,
    LOOKALIKE,
    NAMELESS,
    NO_CHAIN,
    ORDER,
    OTHER_FILE,
    SAME_NUMBER,
    UNKNOWN_PROMPT,
    UNSUPPORTED_FORMAT,
    Finding,
)
from policies.images.folder import METADATA, ImageFile, ImageGroup, normalized

NEAR = 0.8  # of difflib's similarity
COMPARED = 50  # texts that are compared with the prompts: each takes milliseconds


def check_names(
    folder: Path,
    prompts: Sequence[Prompt],
    count: int,
    groups: Mapping[str, ImageGroup],
    texts: Mapping[str, Collection[str]],
) -> list[Finding]:
    """Return the findings about the names of files.

    Args:
        folder: the folder that paths are shown relative to.
        prompts: the prompts to score.
        count: images per prompt.
        groups: category -> its images.
        texts: category -> the texts of all its prompts, scored or not. Other categories of the benchmark
            are included, because their images may be in the same folder.
    """
    findings: list[Finding] = []
    known = {name: set(map(normalized, category_texts)) for name, category_texts in texts.items()}
    for group in {id(group): group for group in groups.values()}.values():
        own, elsewhere = {}, {}
        for name, category_texts in known.items():
            if groups.get(name) is group or (group.common and name not in groups):
                own[name] = category_texts
            else:
                elsewhere[name] = category_texts
        wanted = dict.fromkeys(normalized(prompt.text) for prompt in prompts if prompt.category in own)
        lacking = [text for text in wanted if text not in group.images]
        findings += _other_files(folder, group)
        for path, name in group.lookalikes:
            if any(text in known.get(name, ()) for text in lacking):
                text = f"{within(folder, path)}/ where {name}/ is wanted"
                findings.append(Finding(kind=LOOKALIKE, text=text))
        findings += _unknown_prompts(group, own, elsewhere, lacking)
        for text in wanted:
            images = group.images.get(text, ())
            findings += _same_numbers(folder, images)
            findings += _absent_files(folder, images, named=group.named)
    for category, group in groups.items():
        findings += _order(category, prompts, count, group)
    return findings


def within(folder: Path, path: Path) -> str:
    """Return the path, relative to the folder where it is within it."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _other_files(folder: Path, group: ImageGroup) -> Iterator[Finding]:
    kinds = (
        (NAMELESS, group.nameless),
        (UNSUPPORTED_FORMAT, group.unsupported),
        (OTHER_FILE, group.others),
    )
    for kind, paths in kinds:
        yield from (Finding(kind=kind, text=within(folder, path)) for path in paths)


def _unknown_prompts(
    group: ImageGroup,
    own: Mapping[str, Collection[str]],
    elsewhere: Mapping[str, Collection[str]],
    lacking: Sequence[str],
) -> Iterator[Finding]:
    """Yield the texts that are no prompt of the group's categories, often a prompt with another spelling."""
    known = set[str]().union(*own.values())
    for place, text in enumerate(text for text in group.images if text not in known):
        hint = next((f", a prompt of {name}" for name, texts in elsewhere.items() if text in texts), "")
        if not hint and place < COMPARED:
            near = nearest(text, lacking, NEAR) or nearest(text, sorted(known), NEAR)
            hint = f", close to {near!r}" if near else ""
        if not hint and any(source.name == METADATA for source in group.sources):
            hint = f", nor is it a rewritten one: its {METADATA} has the tag and objects of no prompt"
        yield Finding(
            kind=UNKNOWN_PROMPT,
            text=f"{text!r} ({len(group.images[text])} pictures){hint}",
            images=tuple(group.images[text]),
        )


def _same_numbers(folder: Path, images: Sequence[ImageFile]) -> Iterator[Finding]:
    """Yield the numbers that several images of a prompt have."""
    for number, same_number in groupby(images, key=lambda image: image.number):
        found = tuple(same_number)
        if len(found) > 1:
            names = " and ".join(within(folder, image.path) for image in found)
            yield Finding(kind=SAME_NUMBER, text=f"{number} of {found[0].text!r}: {names}", images=found)


def _absent_files(folder: Path, images: Sequence[ImageFile], *, named: bool) -> Iterator[Finding]:
    """Yield the missing files of a prompt: its chains, and its images where an index lists them."""
    for image in images:
        if not named and not image.path.exists():
            yield Finding(kind=ABSENT, text=within(folder, image.path), images=(image,))
        elif isinstance(image.chain, Path) and not image.chain.is_file():
            yield Finding(kind=NO_CHAIN, text=within(folder, image.chain), images=(image,))


def _order(category: str, prompts: Sequence[Prompt], count: int, group: ImageGroup) -> Iterator[Finding]:
    """Yield a finding if the sorted numbers do not follow the prompt file, `count` images per prompt."""
    texts = [normalized(prompt.text) for prompt in prompts if prompt.category == category]
    images: list[ImageFile] = []
    for text in dict.fromkeys(texts):
        images += group.images.get(text, ())
    if not group.named or len(images) != count * len(texts):
        return
    images.sort(key=lambda image: image.number)
    for place, image in enumerate(images):
        text = texts[place // count]  # officially, image k of prompt i has the number 10 * i + k
        if image.text != text:
            yield Finding(
                kind=ORDER,
                text=f"{category}: the picture at place {place} is of {image.text!r}, the file has {text!r}"
                " there",
            )
            return
