"""Finds the images of prompts in a folder that another program has filled. It reports nothing: the checks
do.

A folder has one of four layouts:

- T2I-CompBench's: `samples/PROMPT_000012.png`, with all categories in one `samples/`, or each in its own
  `CATEGORY/samples/`. The number counts over prompts and images, so the images of a prompt are in its
  order. If the model writes chains, they are in `chains/PROMPT_000012.txt` beside `samples/`.
- GenEval's, with one folder per prompt: `00012/metadata.jsonl` holds the prompt, and
  `00012/samples/00000.png` and so on are its images in the order of their numbers. Other names are not
  images. A rewritten prompt belongs to the one that has the other entries of its metadata (tag, objects).
- GoT-R1's, with one folder per prompt that is named by it: `PROMPT/generated_image_0.jpg` and so on, with
  their common chain in `PROMPT/reasoning_chain.txt`. All categories in one folder, or each in its own. A
  prompt with a slash is a folder in a folder.
- Ours: a `samples.jsonl` (of a `samples` stage, or of `harness.generate`), whose rows may hold any prompt
  and chain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.files import parse_json, read_user_rows, read_user_text
from harness.samples import INDEX, SampleRow
from harness.types import Prompt

SAMPLES, CHAINS, METADATA = "samples", "chains", "metadata.jsonl"
NAME = re.compile(r"(?P<prompt>.*)_(?P<number>[0-9]+)", re.DOTALL)
REASONING = "reasoning_chain.txt"
GENERATED = re.compile(r"generated_image_([0-9]+)")
NUMBERED = re.compile(r"[0-9]+\.png")
SUPPORTED = {".png", ".jpg", ".jpeg", ".webp"}
UNSUPPORTED = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jxl", ".ppm", ".svg", ".tif", ".tiff"}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFile:
    """An image of a prompt, and its chain: the text, or the file that holds it; empty without a chain.

    `number` comes from the name of the file, or is the row's position in `samples.jsonl`. `seed` is None
    where it is not known.
    """

    path: Path
    text: str
    number: int
    chain: str | Path
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """Images that were numbered together: text of a prompt -> its images in order.

    `sources` are the files and folders that were read. `common` is False for the folder of a single
    category. `named` is True where the names of files hold prompt and number. `rewritten` are the prompts
    whose images were made from another text. `nameless` are images whose names hold neither, `unsupported`
    images of another format, `others` all other files. `lookalikes` are folders whose names are almost that
    of a category which has none: (folder, category).
    """

    sources: tuple[Path, ...]
    images: Mapping[str, Sequence[ImageFile]]
    common: bool = True
    named: bool = True
    rewritten: frozenset[str] = frozenset()
    nameless: tuple[Path, ...] = field(default=())
    unsupported: tuple[Path, ...] = field(default=())
    others: tuple[Path, ...] = field(default=())
    lookalikes: tuple[tuple[Path, str], ...] = field(default=())


def normalized(text: str) -> str:
    """Return the text in the form for comparisons: some file systems separate accents from their letters."""
    return unicodedata.normalize("NFC", text)


def read_groups(
    folder: Path,
    categories: Sequence[str],
    prompts: Sequence[Prompt] = (),
    texts: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> dict[str, ImageGroup]:
    """Return category -> the group of its images.

    Args:
        folder: in one of the layouts.
        categories: those to score.
        prompts: those to score, which rewritten prompts are compared with.
        texts: category -> the texts of all its prompts, also of categories that are not scored.

    Raises:
        ValueError: the folder has none of the layouts, or no images of a category.
    """
    if (folder / INDEX).is_file():
        return dict.fromkeys(categories, _indexed(folder))
    if not folder.is_dir():
        raise ValueError(
            f"there is no such folder: give one that holds {SAMPLES}/PROMPT_000000.png and so on"
        )
    numbered = [path for path in folder.iterdir() if re.fullmatch("[0-9]+", path.name) and path.is_dir()]
    if any((path / METADATA).is_file() for path in numbered):
        return dict.fromkeys(categories, _numbered(sorted(numbered), prompts, texts))
    own = {name: folder / name for name in categories if _holds_images(folder / name)}
    others = [name for name in categories if name not in own]
    if others and not _holds_images(folder, without=own.values()):
        raise ValueError(_no_images(folder, others) + score_others(list(own)))
    groups = {name: _group(path) for name, path in own.items()}
    if others:
        common = _group(folder, without=own.values(), lookalikes=_lookalikes(folder, others))
        groups |= dict.fromkeys(others, common)
    return {name: groups[name] for name in categories}


def _holds_images(folder: Path, without: Collection[Path] = ()) -> bool:
    return (folder / SAMPLES).is_dir() or any(True for _ in _generated(folder, without))


def _group(
    folder: Path, without: Collection[Path] | None = None, lookalikes: Sequence[tuple[Path, str]] = ()
) -> ImageGroup:
    """Return the group of a category's folder or, with the folders that it is `without`, of all others."""
    read = _named(folder) if (folder / SAMPLES).is_dir() else _by_folders(folder, without or ())
    return replace(read, common=without is not None, lookalikes=tuple(lookalikes))


def _generated(folder: Path, without: Collection[Path] = ()) -> Iterator[Path]:
    """Yield the images of GoT-R1's layout within a folder, but those in the folders that it is `without`."""
    for path in folder.rglob("generated_image_*"):
        if GENERATED.fullmatch(path.stem) and path.parent != folder and not set(path.parents) & set(without):
            yield path


def _lookalikes(folder: Path, wanted: Sequence[str]) -> list[tuple[Path, str]]:
    """Return the folders within whose names differ from a wanted one in case, punctuation or a final s."""
    plain = {_plain(name): name for name in wanted}
    found = []
    for path in sorted(folder.iterdir()):
        name = plain.get(_plain(path.name), path.name)
        if path.name != name and path.is_dir():
            found.append((path, name))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold().removesuffix("s")


def _no_images(folder: Path, categories: Sequence[str]) -> str:
    hint = f". Give the folder above {SAMPLES}/" if folder.name == SAMPLES else ""
    if any(GENERATED.fullmatch(path.stem) for path in folder.iterdir()):
        hint = ". Give the folder above: this one holds the images of one prompt"
    similar = _lookalikes(folder, [*categories, SAMPLES])
    for name in categories:
        if (folder / name).is_dir():
            similar += _lookalikes(folder / name, [SAMPLES])
    for path, wanted in similar:
        hint += f". There is {path.relative_to(folder)}/: should it be {wanted}/?"
    return (
        f"there are no {' and no '.join(categories)} images, neither {categories[0]}/{SAMPLES}/ nor"
        f" {SAMPLES}/ with PROMPT_000000.png and so on, nor 00000/{METADATA}, nor"
        f" PROMPT/generated_image_0.jpg, nor {INDEX}{hint}"
    )


def score_others(categories: Sequence[str]) -> str:
    """Return how to score the other categories alone; empty where there are none."""
    if not categories:
        return ""
    return f". To score the others alone: benchmarks.categories=[{','.join(categories)}]"


def _named(folder: Path) -> ImageGroup:
    """Return the group of a folder whose file names hold prompt and number."""
    chains = folder / CHAINS if (folder / CHAINS).is_dir() else None
    images: list[ImageFile] = []
    nameless, unsupported, others = [], [], []
    for path in sorted((folder / SAMPLES).iterdir()):
        kind, name = path.suffix.lower(), NAME.fullmatch(path.stem)
        if path.name.startswith(".") or kind not in SUPPORTED | UNSUPPORTED:
            others.append(path)
        elif kind in UNSUPPORTED:
            unsupported.append(path)
        elif not name:
            nameless.append(path)
        else:
            text, number = normalized(name["prompt"]), int(name["number"])
            chain = chains / f"{path.stem}.txt" if chains else ""
            images.append(ImageFile(path=path, text=text, number=number, chain=chain))
    return ImageGroup(
        sources=(folder / SAMPLES, *([chains] if chains else [])),
        images=_by_prompt(sorted(images, key=lambda image: image.number), images),
        nameless=tuple(nameless),
        unsupported=tuple(unsupported),
        others=tuple(others),
    )


def _numbered(
    folders: Sequence[Path], prompts: Sequence[Prompt], texts: Mapping[str, Collection[str]]
) -> ImageGroup:
    """Return the group of folders that hold one prompt each, with images named by their numbers."""
    images: list[ImageFile] = []
    others, sources, rewritten = [], [], set()
    known = {normalized(text) for category in texts.values() for text in category}
    scored = {prompt.category for prompt in prompts}
    for folder in folders:
        metadata = _metadata(folder / METADATA)
        text = normalized(str(metadata["prompt"]))
        if text not in known:
            same = [prompt for prompt in prompts if _has_objects(metadata, prompt.facts)]
            if len(same) == 1:
                text = normalized(same[0].text)
                rewritten.add(text)
            elif metadata.get("tag") in set(texts) - scored:  # rewritten, of a category that is not scored
                continue
        sources += [path for path in (folder / METADATA, folder / SAMPLES) if path.exists()]
        for path in (folder / SAMPLES).glob("*"):
            if NUMBERED.fullmatch(path.name):
                images.append(ImageFile(path=path, text=text, number=int(path.stem), chain=""))
            else:
                others.append(path)
    return ImageGroup(
        sources=tuple(sources),
        images=_by_prompt(sorted(images, key=lambda image: (image.number, image.path)), images),
        named=False,
        rewritten=frozenset(rewritten),
        others=tuple(sorted(others)),
    )


def _by_folders(folder: Path, without: Collection[Path]) -> ImageGroup:
    """Return the group of folders that are named by their prompts, with numbered images and one chain."""
    images: list[ImageFile] = []
    unsupported, others = [], []
    folders = sorted({path.parent for path in _generated(folder, without)})
    has_chains = any((path / REASONING).is_file() for path in folders)
    for prompt_folder in folders:
        text = normalized(prompt_folder.relative_to(folder).as_posix())
        chain = prompt_folder / REASONING if has_chains else ""
        for path in sorted(path for path in prompt_folder.iterdir() if path not in folders):
            kind, name = path.suffix.lower(), GENERATED.fullmatch(path.stem)
            if name and kind in SUPPORTED:
                images.append(ImageFile(path=path, text=text, number=int(name[1]), chain=chain))
            elif name and kind in UNSUPPORTED:
                unsupported.append(path)
            elif path.name != REASONING:
                others.append(path)
    return ImageGroup(
        sources=tuple(folders),
        images=_by_prompt(sorted(images, key=lambda image: image.number), images),
        named=False,
        unsupported=tuple(unsupported),
        others=tuple(others),
    )


def _by_prompt(ordered: Sequence[ImageFile], listed: Sequence[ImageFile]) -> dict[str, list[ImageFile]]:
    """Return text -> its images in their order, with the texts in the order of `listed`."""
    images: dict[str, list[ImageFile]] = {image.text: [] for image in listed}
    for image in ordered:
        images[image.text].append(image)
    return images


def _has_objects(metadata: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the metadata agree with the facts of a prompt in everything but its text."""
    objects = {name: value for name, value in facts.items() if name != "prompt"}
    return bool(objects) and all(metadata.get(name) == value for name, value in objects.items())


def _metadata(metadata: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = parse_json(read_user_text(metadata))
        if not isinstance(found["prompt"], str):
            raise TypeError(f"the prompt is {repr(found['prompt'])[:40]}")
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{metadata} must hold the line of the prompt file for the images beside it,"
            f' {{"prompt": ...}}: {error!r}'
        ) from None


def _indexed(folder: Path) -> ImageGroup:
    """Return the group that `samples.jsonl` lists. Rows with `prompt_id` and `number` may be in any order."""
    images, rows = [], []
    kind = "a row with prompt, image and chain"
    for line, row in read_user_rows(folder / INDEX, SampleRow.from_user_json, kind=kind):
        path = folder / row.image
        image = ImageFile(
            path=path, text=normalized(row.prompt), number=line - 1, chain=row.chain, seed=row.seed
        )
        images.append(image)
        rows.append((row.prompt_id, row.number, image))
    rows.sort(key=lambda row: row[:2])
    return ImageGroup(
        sources=(folder / INDEX, *_image_sources(folder, images)),
        images=_by_prompt([image for *_, image in rows], images),
        named=False,
    )


def _image_sources(folder: Path, images: Sequence[ImageFile]) -> Iterator[Path]:
    """Yield the folders of the images, but files in `folder` itself: it holds more than images."""
    paths = [image.path if image.path.parent == folder else image.path.parent for image in images]
    yield from (path for path in sorted(set(paths)) if path.exists())
