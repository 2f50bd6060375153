"""Stage program `pictures`: every picture that will be asked for is there and can be read, before anything else is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from PIL import Image

from harness.protocols import Config, Workspace
from policies.pictures.folder import SHOWN, Picture, assign, shelves

TABLE = "pictures.json"


def gather(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Reads every picture once and writes `checkpoint/pictures.json`: prompt id -> its pictures, each {image, chain}.

    Raises:
        ValueError: pictures are missing or cannot be read; it names the first of them.
    """
    chosen, _ = choose(settings)
    faults: list[str] = []
    table: dict[str, list[dict[str, str]]] = {}
    for done, ((prompt, _), picture) in enumerate(sorted(chosen.items()), start=1):
        try:
            read(picture.image)
            table.setdefault(prompt, []).append({"image": str(picture.image), "chain": _chain(picture)})
        except ValueError as error:
            faults.append(str(error))
        work.progress(done, len(chosen))
    if faults:
        raise ValueError(f"{len(faults)} of {len(chosen)} pictures or chains cannot be read, the first are:\n" + "\n".join(faults[:SHOWN]))
    (work.folder / "checkpoint").mkdir(exist_ok=True)
    (work.folder / "checkpoint" / TABLE).write_text(json.dumps(table), encoding="utf-8")


def choose(settings: Config) -> tuple[dict[tuple[str, int], Picture], tuple[str, ...]]:
    """(prompt id, number) -> picture, for what the benchmark's prompts need; and the files and folders these are from.

    Raises:
        ValueError: pictures are missing; it names the first prompts concerned.
    """
    prompts = instantiate(settings["benchmark"], _convert_="all").prompts(settings["split"])
    try:
        found = shelves(Path(settings["folder"]), dict.fromkeys(prompt.category for prompt in prompts))
        chosen = assign(prompts, settings["images_per_prompt"], found)
    except ValueError as error:
        raise ValueError(f"policies.folder={settings['folder']}: {error}") from None
    return chosen, tuple(dict.fromkeys(str(part) for shelf in found.values() for part in shelf.parts))


def read(path: Path) -> Image.Image:
    """The picture in RGB.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}): make it anew") from error


def _chain(picture: Picture) -> str:
    if isinstance(picture.chain, str):
        return picture.chain
    try:
        return picture.chain.read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{picture.chain} is not UTF-8 text ({error}): write it anew") from None
