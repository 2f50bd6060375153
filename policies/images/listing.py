"""Stage program `samples` for images that exist already: checks them, and lists them where they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from harness.chain import parse
from harness.files import read_user_text, write_rows, write_text
from harness.samples import INDEX, SampleRow
from harness.types import Config, Prompt
from policies.images.assignment import Assignment, assign, complete
from policies.images.findings import ODD_SIZE, Finding, describe, errors
from policies.images.folder import ImageFile, ImageGroup, read_groups, score_others
from policies.images.image_checks import check_files
from policies.images.name_checks import check_names
from policies.images.protocol_notes import protocol

if TYPE_CHECKING:
    from harness.protocols import Benchmark, Workspace

LINT, PROTOCOL = "lint.txt", "protocol.json"
# The key order of these rows, which differs from that of drawn samples.
KEYS = (
    *("index", "prompt_id", "prompt", "category", "facts", "number"),
    *("seed", "chain", "faults", "truncated", "image"),
)


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The images for the prompts of a benchmark, by category and by prompt, and the findings about them."""

    prompts: Sequence[Prompt]
    groups: Mapping[str, ImageGroup]
    assignment: Assignment
    findings: Sequence[Finding]


def list_images(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Check all images, and write `samples.jsonl` as for drawn samples, but with the paths of the images.

    Also writes `protocol.json`, the notes of tables and reports about the set, and `lint.txt` with every
    finding.

    Raises:
        ValueError: the set cannot be scored; the message lists the errors.
    """
    image_set = find(settings)
    images = []
    for prompt in image_set.prompts:
        images += [(prompt, image) for image in image_set.assignment[prompt.id]]
    file_findings = check_files(
        Path(settings["folder"]),
        images,
        image_set.groups,
        mixed_sizes=settings["mixed_sizes"],
        progress=work.progress,
    )
    findings = [*image_set.findings, *file_findings]
    lint = work.folder / LINT
    write_text(lint, f"{describe(findings, None) or 'nothing was found'}\n")
    chosen = choose(settings, image_set, findings, lint)
    # Paths need not be UTF-8, so the rows are ASCII.
    write_rows(work.folder / INDEX, _rows(image_set.prompts, chosen), ascii_only=True)
    notes = protocol(settings, image_set, chosen, findings)
    write_text(work.folder / PROTOCOL, json.dumps(notes, indent=1))


def find(settings: Config) -> ImageSet:
    """Return the images for the benchmark's prompts, checked by names and numbers only.

    Raises:
        ValueError: it is no folder of images.
    """
    benchmark: Benchmark = instantiate(settings["benchmark"], _convert_="all")
    prompts, count, folder = (
        benchmark.prompts(settings["split"]),
        settings["images_per_prompt"],
        Path(settings["folder"]),
    )
    texts: dict[str, set[str]] = {}
    for prompt in prompts:
        texts.setdefault(prompt.category, set()).add(prompt.text)
    asked = list(texts)
    for name in benchmark.all_categories:
        texts.setdefault(name, set()).update(benchmark.texts(name))
    try:
        groups = read_groups(folder, asked, prompts, texts)
    except ValueError as error:
        raise ValueError(f"policies.folder={folder}: {error}") from None
    assignment, findings = assign(prompts, count, groups)
    findings += check_names(folder, prompts, count, groups, texts)
    return ImageSet(prompts=prompts, groups=groups, assignment=assignment, findings=findings)


def choose(
    settings: Config, image_set: ImageSet, findings: Sequence[Finding], lint: Path | None = None
) -> Assignment:
    """Return prompt id -> the images to score: of all prompts, or with `allow_partial` of the complete
    ones.

    Args:
        settings: those of the stage.
        image_set: the set.
        findings: all findings so far.
        lint: the file that lists them all.

    Raises:
        ValueError: there are errors and they are not allowed, or sizes differ that may not, or no prompt of
            a category is complete.
    """
    wrong, partial = errors(findings), settings["allow_partial"]
    rejected: set[ImageFile] = set()
    for finding in wrong:
        rejected.update(finding.images)
    chosen = complete(image_set.assignment, settings["images_per_prompt"], rejected)
    if wrong and not partial:
        problem = "the image set cannot be scored"
    elif any(finding.kind is ODD_SIZE for finding in wrong):
        problem = "allow_partial=true does not say which size to score"
    elif empty := _empty_categories(image_set, chosen):
        counts = " and ".join(f"0 of {count} {name} prompts" for name, count in empty.items())
        others = score_others([name for name in image_set.groups if name not in empty])
        problem = f"{counts} are complete, which leaves nothing to score{others}"
    else:
        assert partial or len(chosen) == len(image_set.prompts), "a prompt that lacks images is a finding"
        return chosen
    full_list = f"\nfull list: {lint}" if lint else ""
    raise ValueError(f"policies.folder={settings['folder']}: {problem}\n{describe(wrong)}{full_list}")


def _empty_categories(image_set: ImageSet, chosen: Assignment) -> dict[str, int]:
    """Return category -> the number of its prompts, for categories without any chosen prompt."""
    empty = {}
    for category in image_set.groups:
        ids = [prompt.id for prompt in image_set.prompts if prompt.category == category]
        if not any(prompt_id in chosen for prompt_id in ids):
            empty[category] = len(ids)
    return empty


def _rows(prompts: Sequence[Prompt], chosen: Assignment) -> Iterator[dict[str, Any]]:
    index = 0
    for prompt in prompts:
        for number, image in enumerate(chosen.get(prompt.id, ())):
            row = _row(prompt, image, index=index, number=number).to_json()
            yield {key: row[key] for key in KEYS}
            index += 1


def _row(prompt: Prompt, image: ImageFile, *, index: int, number: int) -> SampleRow:
    chain = image.chain if isinstance(image.chain, str) else _read_chain(image.chain)
    return SampleRow(
        index=index,
        prompt_id=prompt.id,
        number=number,
        prompt=prompt.text,
        category=prompt.category,
        facts=prompt.facts,
        seed=image.seed,
        chain=chain,
        faults=tuple(parse(chain).faults) if chain else (),
        image=str(image.path),
    )


def _read_chain(file: Path) -> str:
    return read_user_text(file).removesuffix("\n")
