"""Which file is which picture of which prompt, in a folder that another program has filled.

Either the files are named as T2I-CompBench's generator names them, `samples/PROMPT_000012.png`: all categories in one
`samples/`, or each in a `CATEGORY/samples/`. The number counts on over prompts and pictures, so a prompt's pictures are
told apart by its order. Chains, where the model writes any, are `chains/PROMPT_000012.txt` beside it.

Or every prompt has a folder of its own, as GenEval's generator makes them: `00012/metadata.jsonl` holds the prompt,
`00012/samples/00000.png` and so on are its pictures in the order of their numbers. As in GenEval, other names are no pictures.

Or the folder is one of ours, with a `samples.jsonl` (a `samples` stage, or what `harness.generate` writes), whose rows may
hold any prompt and chain.

Nothing is judged here, so that all that is wrong can be told at once.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INDEX, SAMPLES, CHAINS, METADATA = "samples.jsonl", "samples", "chains", "metadata.jsonl"
NAME = re.compile(r"(?P<prompt>.*)_(?P<number>[0-9]+)", re.DOTALL)
NUMBERED = re.compile(r"[0-9]+\.png")
READ = {".png", ".jpg", ".jpeg", ".webp"}
UNREAD = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jxl", ".ppm", ".svg", ".tif", ".tiff"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture of a prompt, and its chain: the text, or the file it is in; empty where there is none.

    `number` is that of the file's name, or its place in `samples.jsonl`; `seed` is None where it is not known.
    """

    image: Path
    text: str
    number: int
    chain: str | Path
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Pictures that were numbered together: text of a prompt -> its pictures in order.

    `parts` are the files and folders that were read. `common` is False for a category's own folder, `named` is True where prompt
    and number stand in the files' names. `nameless` are pictures whose names hold neither, `unread` those of
    another format, `beside` all other files.
    """

    parts: tuple[Path, ...]
    pictures: Mapping[str, Sequence[Picture]]
    common: bool = True
    named: bool = True
    nameless: tuple[Path, ...] = field(default=())
    unread: tuple[Path, ...] = field(default=())
    beside: tuple[Path, ...] = field(default=())


def same(text: str) -> str:
    """The text in the form in which texts are compared: some file systems take accents apart from their letters."""
    return unicodedata.normalize("NFC", text)


def shelves(folder: Path, categories: Sequence[str]) -> dict[str, Shelf]:
    """Category -> the shelf its pictures are on.

    Raises:
        ValueError: it is no folder of pictures, or holds none of a category.
    """
    if (folder / INDEX).is_file():
        return dict.fromkeys(categories, _indexed(folder))
    if not folder.is_dir():
        raise ValueError(
            f"there is no such folder: give one that holds {SAMPLES}/PROMPT_000000.png and so on"
        )
    numbered = sorted(
        place for place in folder.iterdir() if re.fullmatch("[0-9]+", place.name) and place.is_dir()
    )
    if any((place / METADATA).is_file() for place in numbered):
        return dict.fromkeys(categories, _numbered(numbered))
    places = {name: folder / name if (folder / name / SAMPLES).is_dir() else folder for name in categories}
    if absent := [name for name, place in places.items() if not (place / SAMPLES).is_dir()]:
        raise ValueError(
            _absent(folder, absent) + leave_out([name for name in categories if name not in absent])
        )
    read = {place: _named(place, common=place == folder) for place in dict.fromkeys(places.values())}
    return {name: read[place] for name, place in places.items()}


def _absent(folder: Path, categories: Sequence[str]) -> str:
    above = f". The folder to give is the one above {SAMPLES}/" if folder.name == SAMPLES else ""
    places = f"neither {categories[0]}/{SAMPLES}/ nor {SAMPLES}/ with PROMPT_000000.png and so on, nor 00000/{METADATA}, nor {INDEX}"
    return f"there are no {' and no '.join(categories)} pictures, {places}{above}"


def leave_out(others: Sequence[str]) -> str:
    """The way to score the other categories alone; empty where there are none."""
    return f". The others are scored alone with benchmarks.categories=[{','.join(others)}]" if others else ""


def _named(place: Path, *, common: bool) -> Shelf:
    """The shelf of files that carry prompt and number in their names."""
    chains = place / CHAINS if (place / CHAINS).is_dir() else None
    pictures: dict[str, list[Picture]] = {}
    nameless, unread, beside = [], [], []
    for path in sorted((place / SAMPLES).iterdir()):
        kind, name = path.suffix.lower(), NAME.fullmatch(path.stem)
        if path.name.startswith(".") or kind not in READ | UNREAD:
            beside.append(path)
        elif kind in UNREAD:
            unread.append(path)
        elif not name:
            nameless.append(path)
        else:
            chain = chains / f"{path.stem}.txt" if chains else ""
            picture = Picture(image=path, text=same(name["prompt"]), number=int(name["number"]), chain=chain)
            pictures.setdefault(picture.text, []).append(picture)
    return Shelf(
        parts=(place / SAMPLES, *([chains] if chains else [])),
        common=common,
        pictures={text: sorted(own, key=lambda picture: picture.number) for text, own in pictures.items()},
        nameless=tuple(nameless),
        unread=tuple(unread),
        beside=tuple(beside),
    )


def _numbered(places: Sequence[Path]) -> Shelf:
    """The shelf of folders that hold one prompt each, and its pictures under their numbers alone."""
    pictures: dict[str, list[Picture]] = {}
    beside = []
    for place in places:
        text = _prompt_in(place / METADATA)
        for path in (place / SAMPLES).glob("*"):
            if NUMBERED.fullmatch(path.name):
                pictures.setdefault(text, []).append(
                    Picture(image=path, text=text, number=int(path.stem), chain="")
                )
            else:
                beside.append(path)
    return Shelf(
        parts=tuple(
            part for place in places for part in (place / METADATA, place / SAMPLES) if part.exists()
        ),
        pictures={
            text: sorted(own, key=lambda picture: (picture.number, picture.image))
            for text, own in pictures.items()
        },
        named=False,
        beside=tuple(sorted(beside)),
    )


def _prompt_in(metadata: Path) -> str:
    try:
        return same(str(json.loads(metadata.read_text(encoding="utf-8"))["prompt"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{metadata} must hold the line of the prompt file that the pictures beside it are of, {{"prompt": ...}}: {error!r}'
        ) from None


def _indexed(folder: Path) -> Shelf:
    """The shelf that `samples.jsonl` describes; rows that name the prompt's id and the picture's number may stand in any order."""
    pictures: dict[str, list[tuple[tuple[str, int], Picture]]] = {}
    for place, line in enumerate((folder / INDEX).read_text(encoding="utf-8").split("\n")):
        if not line:
            continue
        try:
            order, picture = _row(folder, place, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {place + 1} of {folder / INDEX} is no row with prompt, image and chain: {error}"
            ) from None
        pictures.setdefault(picture.text, []).append((order, picture))
    ordered = {
        text: [picture for _, picture in sorted(own, key=lambda one: one[0])]
        for text, own in pictures.items()
    }
    images = [picture.image for own in ordered.values() for picture in own]
    places = sorted(
        {image if image.parent == folder else image.parent for image in images}
    )  # the folder holds more than pictures
    return Shelf(
        parts=(folder / INDEX, *(place for place in places if place.exists())), pictures=ordered, named=False
    )


def _row(folder: Path, place: int, row: Mapping[str, Any]) -> tuple[tuple[str, int], Picture]:
    text, image, chain = (str(row[name]) for name in ("prompt", "image", "chain"))
    order = (str(row.get("prompt_id", "")), int(row.get("number", 0)))
    return order, Picture(
        image=folder / image, text=same(text), number=place, chain=chain, seed=row.get("seed")
    )
