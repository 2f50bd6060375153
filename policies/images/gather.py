"""Stage program `samples` of pictures that exist already: they are checked before anything is scored, and listed where they lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonlines
from hydra.utils import instantiate

from harness.chain import parse
from harness.types import Config, Prompt
from policies.images.findings import Finding, describe, errors
from policies.images.folder import INDEX, Picture, Shelf, leave_out, shelves
from policies.images.looks import check_files
from policies.images.names import check_names
from policies.images.protocol import protocol
from policies.images.shares import Shares, complete, share

if TYPE_CHECKING:
    from harness.protocols import Benchmark, Workspace

LINT, PROTOCOL = "lint.txt", "protocol.json"


@dataclass(frozen=True, kw_only=True)
class Set:
    """The pictures that were found for the prompts of a benchmark, and what was found wrong with them."""

    prompts: Sequence[Prompt]
    found: Mapping[str, Shelf]
    shares: Shares
    findings: Sequence[Finding]


def gather(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Checks all pictures, and writes `samples.jsonl` as the harness does but for the images, which stay where they are.

    Beside it: `protocol.json` with what tables and reports must say of the set, and `lint.txt` with every finding.

    Raises:
        ValueError: the set is not fit to be scored; the message lists what is wrong with it.
    """
    there = find(settings)
    owned = [(prompt, picture) for prompt in there.prompts for picture in there.shares[prompt.id]]
    folder = Path(settings["folder"])
    looked = check_files(
        folder, owned, there.found, mixed_sizes=settings["mixed_sizes"], progress=work.progress
    )
    findings = [*there.findings, *looked]
    lint = work.folder / LINT
    lint.write_text(f"{describe(findings, None) or 'nothing was found'}\n", encoding="utf-8")
    taken = take(settings, there, findings, lint)
    with jsonlines.open(
        work.folder / INDEX, "w", dumps=json.dumps
    ) as stream:  # in ASCII: paths need not be UTF-8
        stream.write_all(_rows(there.prompts, taken))
    said = protocol(settings, there.prompts, there.shares, taken, findings)
    (work.folder / PROTOCOL).write_text(json.dumps(said, indent=1), encoding="utf-8")


def find(settings: Config) -> Set:
    """What there is for the benchmark's prompts, judged by names and numbers alone.

    Raises:
        ValueError: it is no folder of pictures.
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
        found = shelves(folder, asked)
    except ValueError as error:
        raise ValueError(f"policies.folder={folder}: {error}") from None
    shares, tallies = share(prompts, count, found)
    return Set(
        prompts=prompts,
        found=found,
        shares=shares,
        findings=[*tallies, *check_names(folder, prompts, count, found, texts)],
    )


def take(settings: Config, there: Set, findings: Sequence[Finding], lint: Path | None = None) -> Shares:
    """Prompt id -> the pictures to be scored: of all prompts, or with `allow_partial` of those that are complete.

    Args:
        settings: those of the stage.
        there: the set.
        findings: all that is known by now.
        lint: a file that lists them whole.

    Raises:
        ValueError: there are errors and they are not allowed, or nothing of a category is complete.
    """
    wrong, partial = errors(findings), settings["allow_partial"]
    taken = complete(
        there.shares,
        settings["images_per_prompt"],
        {picture for finding in wrong for picture in finding.pictures},
    )
    counts = {
        name: [one.id in taken for one in there.prompts if one.category == name] for name in there.found
    }
    if wrong and not partial:
        problem = "the set is not fit to be scored"
    elif empty := [name for name, done in counts.items() if not any(done)]:
        several = " and ".join(f"0 of {len(counts[name])} {name} prompts" for name in empty)
        problem = f"{several} are complete, which leaves nothing to score{leave_out([name for name in counts if name not in empty])}"
    else:
        assert partial or len(taken) == len(there.prompts), "a prompt that lacks pictures is a finding"
        return taken
    whole = f"\nthe whole list: {lint}" if lint else ""
    raise ValueError(f"policies.folder={settings['folder']}: {problem}\n{describe(wrong)}{whole}")


def _rows(prompts: Sequence[Prompt], taken: Shares) -> Iterator[dict[str, Any]]:
    pairs = (
        (prompt, number, picture)
        for prompt in prompts
        for number, picture in enumerate(taken.get(prompt.id, ()))
    )
    for index, (prompt, number, picture) in enumerate(pairs):
        chain = _chain(picture)
        yield {
            "index": index,
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "category": prompt.category,
            "facts": dict(prompt.facts),
            "number": number,
            "seed": picture.seed,
            "chain": chain,
            "faults": list(parse(chain).faults) if chain else [],
            "truncated": False,
            "image": str(picture.image),
        }


def _chain(picture: Picture) -> str:
    return (
        picture.chain
        if isinstance(picture.chain, str)
        else picture.chain.read_text(encoding="utf-8").removesuffix("\n")
    )
