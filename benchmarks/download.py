"""Fetches published files from GitHub at one commit and checks them: files that the project may not ship."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from harness.files import writing

GITHUB = "https://raw.githubusercontent.com"
TIMEOUT_S = 30.0

Check = Callable[[Path], None]  # raises ValueError when a file is not the published one


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published file: its `name` in the local folder, its `path` on the server, and its `check`.

    The path is OWNER/REPOSITORY/COMMIT/PATH.
    """

    name: str
    path: str
    check: Check


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where files come from: GitHub, or the server that the environment variable `mirror` names.

    The mirror serves the same paths as GitHub. `by_hand` says how to get the files without a network.
    """

    mirror: str
    by_hand: str

    @property
    def advice(self) -> str:
        """What to do after a failure."""
        return (
            "Files that were fetched are kept: run the same command again. Without a network, "
            f"{self.by_hand}; or set {self.mirror} to a server with the same paths as {GITHUB}"
        )


def fill(to: Path, files: Sequence[Published], source: Source) -> None:
    """Fetch the files into the folder `to`, except those that it holds already.

    Raises:
        ValueError: a file cannot be fetched or is not the published one; says what to do.
        OSError: a file cannot be written.
    """
    base = (os.environ.get(source.mirror) or GITHUB).rstrip("/")
    for number, file in enumerate(files, start=1):
        label, target = f"{number}/{len(files)} {file.name}", to / file.name
        if target.is_file() and _passes(file.check, target):
            print(f"{label}: there", file=sys.stderr)
            continue
        # Not pooch.retrieve, which leaves files that only their owner may read; caches are shared.
        with writing(target) as new:
            _download(f"{base}/{quote(file.path)}", new, source)
            try:
                file.check(new)
            except ValueError as error:
                raise ValueError(f"the content of {file.name} is refused: {error}. {source.advice}") from None
        print(f"{label}: {target.stat().st_size} bytes", file=sys.stderr)


def has_sum(expected: str) -> Check:
    """Return the check for a file with this SHA-256."""

    def check(file: Path) -> None:
        import pooch

        if (digest := pooch.file_hash(str(file))) != expected:
            raise ValueError(f"its SHA-256 is {digest}, that of the published file is {expected}")

    return check


def _passes(check: Check, file: Path) -> bool:
    try:
        check(file)
    except ValueError:
        return False
    return True


def _download(address: str, file: Path, source: Source) -> None:
    import pooch
    from requests.exceptions import HTTPError, RequestException

    try:
        pooch.HTTPDownloader(timeout=TIMEOUT_S, chunk_size=2**16)(address, str(file), None)
    except HTTPError as error:
        assert error.response is not None
        answer = f"{error.response.status_code} {error.response.reason}"
        raise ValueError(f"{address} answers {answer}. {source.advice}") from error
    except RequestException as error:
        raise ValueError(f"{address} cannot be fetched: {error}. {source.advice}") from error
