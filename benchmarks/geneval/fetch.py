"""Fetches the prompts and class names of GenEval at one commit and checks their SHA-256 sums
(`sources.json`).

The project holds none of these files. The environment variable GENEVAL_MIRROR names a server with the
same paths as https://raw.githubusercontent.com.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.download import Published, Source, fill, has_sum
from benchmarks.geneval.files import METADATA, NAMES, PROMPTS, sums

MIRROR = "GENEVAL_MIRROR"
REPOSITORY = "djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/"
FOLDERS = {METADATA: "prompts/", PROMPTS: "prompts/", NAMES: "evaluation/"}
BY_HAND = (
    f"clone github.com/djghosh13/geneval elsewhere, bring prompts/{METADATA} and evaluation/{NAMES} "
    "into one folder here and set "
    "GENEVAL_DIR to it"
)


def prompts(to: Path) -> None:
    """Fills the folder `to`; files that are there and right are not fetched again.

    Raises:
        ValueError: a file cannot be had or is not the one that was published; says what to do.
        OSError: it cannot be written.
    """
    files = [
        Published(name=name, path=REPOSITORY + FOLDERS[name] + name, check=has_sum(digest))
        for name, digest in sums().items()
    ]
    fill(to, files, Source(mirror=MIRROR, by_hand=BY_HAND))
