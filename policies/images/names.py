"""What names and numbers tell of a set of pictures, before a file is opened."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from harness.names import nearest
from harness.types import Prompt
from policies.images.findings import (
    ABSENT,
    BESIDE,
    CHAINLESS,
    NAMELESS,
    ORDER,
    SAME_NUMBER,
    STRANGER,
    UNREAD,
    Finding,
)
from policies.images.folder import Picture, Shelf, same

NEAR = 0.8  # of difflib's similarity
COMPARED = 50  # texts that are compared with the prompts: each takes milliseconds


def check_names(
    folder: Path,
    prompts: Sequence[Prompt],
    count: int,
    found: Mapping[str, Shelf],
    texts: Mapping[str, Collection[str]],
) -> list[Finding]:
    """What is wrong with the shelves' names.

    Args:
        folder: what files are named within.
        prompts: those to be scored.
        count: pictures of each.
        found: category -> its shelf.
        texts: category -> the texts of its prompts, those that are not scored too; also of categories that are not asked for, whose
            pictures may lie in a folder of several categories.
    """
    findings = []
    spelt = {name: {same(text) for text in known} for name, known in texts.items()}
    for shelf in {id(shelf): shelf for shelf in found.values()}.values():
        own = {
            name: known
            for name, known in spelt.items()
            if found.get(name) is shelf or (shelf.common and name not in found)
        }
        elsewhere = {name: known for name, known in spelt.items() if name not in own}
        wanted = dict.fromkeys(same(prompt.text) for prompt in prompts if prompt.category in own)
        findings += [
            *_files(folder, shelf),
            *_strangers(shelf, own, elsewhere, [text for text in wanted if text not in shelf.pictures]),
        ]
        for pictures in (shelf.pictures.get(text, ()) for text in wanted):
            findings += [*_twice(folder, pictures), *_lost(folder, pictures, named=shelf.named)]
    return findings + [
        finding for category in found for finding in _order(category, prompts, count, found[category])
    ]


def within(folder: Path, path: Path) -> str:
    """The path, short where it lies within the folder."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _files(folder: Path, shelf: Shelf) -> Iterator[Finding]:
    for kind, paths in ((NAMELESS, shelf.nameless), (UNREAD, shelf.unread), (BESIDE, shelf.beside)):
        yield from (Finding(kind=kind, text=within(folder, path)) for path in paths)


def _strangers(
    shelf: Shelf,
    own: Mapping[str, Collection[str]],
    elsewhere: Mapping[str, Collection[str]],
    lacking: Sequence[str],
) -> Iterator[Finding]:
    """Texts of no prompt of the shelf's categories: most often one of its prompts, spelt another way."""
    known = set[str]().union(*own.values())
    for place, text in enumerate(text for text in shelf.pictures if text not in known):
        hint = next((f", a prompt of {name}" for name, texts in elsewhere.items() if text in texts), "")
        if not hint and place < COMPARED:
            near = nearest(text, lacking, NEAR) or nearest(text, sorted(known), NEAR)
            hint = f", close to {near!r}" if near else ""
        yield Finding(
            kind=STRANGER,
            text=f"{text!r} ({len(shelf.pictures[text])} pictures){hint}",
            pictures=tuple(shelf.pictures[text]),
        )


def _twice(folder: Path, pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Numbers that several pictures of a prompt bear."""
    for number, same_number in groupby(pictures, key=lambda picture: picture.number):
        own = tuple(same_number)
        if len(own) > 1:
            names = " and ".join(within(folder, picture.image) for picture in own)
            yield Finding(kind=SAME_NUMBER, text=f"{number} of {own[0].text!r}: {names}", pictures=own)


def _lost(folder: Path, pictures: Sequence[Picture], *, named: bool) -> Iterator[Finding]:
    """Files of a prompt that ought to be there: its chains, and its pictures where it is an index that names them."""
    for picture in pictures:
        if not named and not picture.image.exists():
            yield Finding(kind=ABSENT, text=within(folder, picture.image), pictures=(picture,))
        elif isinstance(picture.chain, Path) and not picture.chain.is_file():
            yield Finding(kind=CHAINLESS, text=within(folder, picture.chain), pictures=(picture,))


def _order(category: str, prompts: Sequence[Prompt], count: int, shelf: Shelf) -> Iterator[Finding]:
    """Whether the sorted numbers give the prompts in the order of their file, `count` pictures of each (10*i + k officially)."""
    official = [same(prompt.text) for prompt in prompts if prompt.category == category for _ in range(count)]
    ranked = sorted(
        (picture for text in dict.fromkeys(official) for picture in shelf.pictures.get(text, ())),
        key=lambda picture: picture.number,
    )
    if not shelf.named or len(ranked) != len(official):
        return
    for place, (picture, text) in enumerate(zip(ranked, official, strict=True)):
        if picture.text != text:
            yield Finding(
                kind=ORDER,
                text=f"{category}: the picture at place {place} is of {picture.text!r}, the file has {text!r} there",
            )
            return
