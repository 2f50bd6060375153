"""What `harness.fetch` gets for T2I-CompBench: its prompt files with UniDet's label file, and the noun phrases of the prompts.

The prompt files are taken at one commit and must have the SHA-256 sums of `sources.json`; the label file is checked by its
content (`labels`). Nothing of either is part of the project. The environment variable T2I_COMPBENCH_MIRROR names a server
that holds the same paths as https://raw.githubusercontent.com.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from omegaconf import OmegaConf

from benchmarks.t2i_compbench.files import GET, OLD_COLOR_VAL, STEMS, prompt_file, read_prompts, sums
from benchmarks.t2i_compbench.labels import read_labels

if TYPE_CHECKING:
    import httpx2

MIRROR = "T2I_COMPBENCH_MIRROR"
GITHUB = "https://raw.githubusercontent.com"
PROMPTS = "Karine-Huang/T2I-CompBench/{commit}/examples/dataset/"
COMMIT, OLD_COMMIT = "1b7094991a57f3c22abdd4f6e8ba6c1a15517073", "7710d059c3391fe97fbf9e2ad3813ed0e7d87979"
LABELS = "unidet_labels.csv"
LABELS_PATH = "xingyizhou/UniDet/94cd0e8612e558c1dff64d2928bc969856c9a802/datasets/label_spaces/learned_mAP+M.csv"
TIMEOUT_S = 30.0
SETTINGS = Path(__file__).parent.with_suffix(".yaml")  # of the benchmark
BY_HAND = (
    "What was fetched is kept: run the same command again. Where there is no network, clone github.com/Karine-Huang/T2I-CompBench "
    "elsewhere, bring its folder examples/dataset here and set T2I_COMPBENCH_DIR to it; or set " + MIRROR + " to a server with the same "
    "paths as " + GITHUB
)


def prompts(to: Path) -> None:
    """Fills the folder `to`; files that are there and right are not fetched again.

    Raises:
        ValueError: a file cannot be had or is not the one that was published; says what to do.
        OSError: it cannot be written.
    """
    import httpx2

    base = os.environ.get(MIRROR) or GITHUB
    wanted = list(_wanted())
    with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        for number, (name, path, check) in enumerate(wanted, start=1):
            said = f"{number}/{len(wanted)} {name}"
            if (to / name).is_file() and _is_right(to / name, check):
                print(f"{said}: there", file=sys.stderr)
                continue
            content = _get(client, f"{base.rstrip('/')}/{quote(path)}")
            _write_checked(to / name, content, check)
            print(f"{said}: {len(content)} bytes", file=sys.stderr)


def noun_phrases(to: Path) -> None:
    """Writes what spaCy's `en_core_web_sm` says of every val and train prompt into the file `to` (`language.export`).

    The prompts are read where the benchmark's own settings look for them: T2I_COMPBENCH_DIR, or the cache.

    Raises:
        ValueError: the prompts or the model are not here; says how to get them.
    """
    from benchmarks.t2i_compbench.language.export import write_export

    root = OmegaConf.load(SETTINGS).root
    files = [prompt_file(Path(root), category, part) for category in STEMS for part in ("val", "train")]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(f"{root} lacks {', '.join(missing)}: {GET}")
    old = Path(root) / OLD_COLOR_VAL
    texts = dict.fromkeys(text for file in [*files, *([old] if old.is_file() else [])] for text in read_prompts(file))
    to.parent.mkdir(parents=True, exist_ok=True)
    write_export(texts, to)


Check = Callable[[Path], None]  # raises ValueError where a file is not the right one


def _wanted() -> Iterator[tuple[str, str, Check]]:
    """Name in the folder, path on the server, and how it is checked."""
    for name, digest in sums().items():
        commit = OLD_COMMIT if name == OLD_COLOR_VAL else COMMIT
        yield name, PROMPTS.format(commit=commit) + Path(name).name, _has_sum(digest)
    yield LABELS, LABELS_PATH, _holds_labels


def _has_sum(expected: str) -> Check:
    def check(file: Path) -> None:
        if (digest := hashlib.sha256(file.read_bytes()).hexdigest()) != expected:
            raise ValueError(f"its SHA-256 is {digest}, that of the published file is {expected}")

    return check


def _holds_labels(file: Path) -> None:
    read_labels(file)


def _is_right(file: Path, check: Check) -> bool:
    try:
        check(file)
    except ValueError:
        return False
    return True


def _get(client: httpx2.Client, address: str) -> bytes:
    import httpx2

    try:
        return client.get(address).raise_for_status().content
    except httpx2.HTTPStatusError as error:
        raise ValueError(f"{address} answers {error.response.status_code} {error.response.reason_phrase}. {BY_HAND}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ValueError(f"{address} cannot be fetched: {error or type(error).__name__}. {BY_HAND}") from error


def _write_checked(file: Path, content: bytes, check: Check) -> None:
    """Writes a file under another name, and gives it its own once it is whole and right."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        new.write_bytes(content)
        check(new)
        new.replace(file)
    except ValueError as error:
        raise ValueError(f"what came as {file.name} is refused: {error}. {BY_HAND}") from None
    finally:
        new.unlink(missing_ok=True)
