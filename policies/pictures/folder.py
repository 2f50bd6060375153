"""Which file is which picture of which prompt, in a folder that another program has filled.

Either the files are named as T2I-CompBench's generator names them, `samples/PROMPT_000012.png`: all categories in one
`samples/`, or each in a `CATEGORY/samples/`. The number counts on over prompts and pictures, so a prompt's pictures are
told apart by its order. Chains, where the model writes any, are `chains/PROMPT_000012.txt` beside it.

Or the folder is one of ours, with a `samples.jsonl` (a `samples` stage, or what `harness.generate` writes), whose rows may
hold any prompt and chain.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.types import Prompt

INDEX, SAMPLES, CHAINS = "samples.jsonl", "samples", "chains"
NAME = re.compile(r"(?P<prompt>.*)_(?P<number>[0-9]+)\.(?:png|jpe?g|webp)", re.DOTALL | re.IGNORECASE)
NAME_BYTES = 255  # the longest file name that common file systems hold
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture, and its chain: the text, or the file it is in; empty where there is none."""

    image: Path
    chain: str | Path


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Pictures that were numbered together: text of a prompt -> its pictures in order; `parts` are what was read."""

    parts: tuple[Path, ...]
    pictures: Mapping[str, Sequence[Picture]]


def shelves(folder: Path, categories: Iterable[str]) -> dict[str, Shelf]:
    """Category -> the shelf its pictures are on.

    Raises:
        ValueError: it is no folder of pictures, or two files claim to be the same picture.
    """
    if (folder / INDEX).is_file():
        return dict.fromkeys(categories, _indexed(folder))
    if not folder.is_dir():
        raise ValueError(f"there is no such folder: give one that holds {SAMPLES}/PROMPT_000000.png and so on")
    places = {name: folder / name if (folder / name / SAMPLES).is_dir() else folder for name in categories}
    for name, place in places.items():
        if not (place / SAMPLES).is_dir():
            raise ValueError(
                f"there are no {name} pictures, neither {name}/{SAMPLES}/ nor {SAMPLES}/ with PROMPT_000000.png and so on, nor {INDEX}"
            )
    read = {place: _named(place) for place in set(places.values())}
    return {name: read[place] for name, place in places.items()}


def assign(prompts: Sequence[Prompt], count: int, found: Mapping[str, Shelf]) -> dict[tuple[str, int], Picture]:
    """(prompt id, number) -> picture, for the first `count` pictures of every prompt.

    Prompts of the same text take equal shares of their pictures, in order.

    Raises:
        ValueError: pictures or chains are missing; it names the first prompts concerned.
    """
    alike: dict[tuple[tuple[Path, ...], str], list[Prompt]] = {}
    for prompt in prompts:
        alike.setdefault((found[prompt.category].parts, prompt.text), []).append(prompt)
    chosen: dict[tuple[str, int], Picture] = {}
    lacking: list[str] = []
    for (_, text), group in alike.items():
        there = found[group[0].category].pictures.get(text, ())
        each, rest = divmod(len(there), len(group))
        if rest or each < count:
            many = f" for {len(group)} prompts of this text" if len(group) > 1 else ""
            lacking.append(f"  {group[0].id} {text!r}: {len(there)} of {count * len(group)}{many}{_unnameable(text)}")
            continue
        for place, prompt in enumerate(group):
            own = there[place * each : place * each + count]
            chosen |= {(prompt.id, number): picture for number, picture in enumerate(own)}
    if lacking:
        lines = [*lacking[:SHOWN], *(["  ..."] if len(lacking) > SHOWN else []), *_strangers(alike, found)]
        raise ValueError(f"{len(lacking)} of {len(alike)} prompts lack pictures; there are\n" + "\n".join(lines))
    _check_chains([picture.chain for picture in chosen.values()])
    return chosen


def _check_chains(chains: Sequence[str | Path]) -> None:
    if missing := [str(path) for path in chains if isinstance(path, Path) and not path.is_file()]:
        lines = "\n".join(f"  {path}" for path in missing[:SHOWN])
        raise ValueError(f"{len(missing)} of {len(chains)} chains are missing (an empty one is an empty file), the first are:\n{lines}")


def _strangers(alike: Mapping[tuple[tuple[Path, ...], str], object], found: Mapping[str, Shelf]) -> list[str]:
    """A line on pictures of no prompt that is asked for: most often the same prompt, spelt another way."""
    names = [text for shelf in found.values() for text in shelf.pictures if (shelf.parts, text) not in alike]
    distinct = list(dict.fromkeys(names))
    return [f"and pictures of {len(distinct)} other prompts, such as {distinct[0]!r}"] if distinct else []


def _unnameable(text: str) -> str:
    longest = len(f"{text}_000000.png".encode())
    return f" (no file can be named so: give it in {INDEX})" if "/" in text or longest > NAME_BYTES else ""


def _named(place: Path) -> Shelf:
    """The shelf of files that carry prompt and number in their names; other files are none of ours."""
    chains = place / CHAINS if (place / CHAINS).is_dir() else None
    numbered: dict[str, dict[int, Path]] = {}
    for path in sorted((place / SAMPLES).iterdir()):
        if not (name := NAME.fullmatch(path.name)):
            continue
        own, number = numbered.setdefault(name["prompt"], {}), int(name["number"])
        if number in own:
            raise ValueError(f"{own[number]} and {path.name} are both picture {number} of {name['prompt']!r}: keep one")
        own[number] = path
    pictures = {
        text: [Picture(image=path, chain=chains / f"{path.stem}.txt" if chains else "") for _, path in sorted(own.items())]
        for text, own in numbered.items()
    }
    return Shelf(parts=(place / SAMPLES, *([chains] if chains else [])), pictures=pictures)


def _indexed(folder: Path) -> Shelf:
    """The shelf that `samples.jsonl` describes."""
    pictures: dict[str, list[Picture]] = {}
    for number, line in enumerate((folder / INDEX).read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            text, image, chain = (str(row[name]) for name in ("prompt", "image", "chain"))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of {folder / INDEX} is no row with prompt, image and chain: {error}") from None
        pictures.setdefault(text, []).append(Picture(image=folder / image, chain=chain))
    places = {picture.image.parent for own in pictures.values() for picture in own}
    return Shelf(parts=(folder / INDEX, *sorted(places)), pictures=pictures)
