"""Fetches GenEval's prompts and class names for `harness.fetch`, at one commit, checked by `sources.json`.

The files are not part of the project. The environment variable GENEVAL_MIRROR names a server with the
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
    f"clone github.com/djghosh13/geneval elsewhere, copy prompts/{METADATA} and evaluation/{NAMES} into one "
    "folder here and set GENEVAL_DIR to it"
)


def prompts(to: Path) -> None:
    """Fetch the prompt files into the folder `to`, except those that it holds already.

    Raises:
        ValueError: a file cannot be fetched or is not the published one; says what to do.
        OSError: a file cannot be written.
    """
    files = []
    for name, digest in sums().items():
        path = REPOSITORY + FOLDERS[name] + name
        files.append(Published(name=name, path=path, check=has_sum(digest)))
    fill(to, files, Source(mirror=MIRROR, by_hand=BY_HAND))
