"""Published files that a benchmark reads and the project may not hold: fetched from GitHub at one
commit, and checked.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.files import writing

if TYPE_CHECKING:
    import httpx2

GITHUB = "https://raw.githubusercontent.com"
TIMEOUT_S = 30.0

Check = Callable[[Path], None]  # raises ValueError where a file is not the right one


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published file: its name in the target folder, its path on the server
    (OWNER/REPOSITORY/COMMIT/PATH), and its check.
    """

    name: str
    path: str
    check: Check


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where files come from: GitHub, or the server named by the environment variable `mirror`, which
    holds the same paths.

    `by_hand` says how to get them where there is no network.
    """

    mirror: str
    by_hand: str

    @property
    def advice(self) -> str:
        """What to do when something cannot be had."""
        again = "What was fetched is kept: run the same command again. Where there is no network, "
        return f"{again}{self.by_hand}; or set {self.mirror} to a server with the same paths as {GITHUB}"


def fill(to: Path, files: Sequence[Published], source: Source) -> None:
    """Fills the folder `to`; files that are there and right are not fetched again.

    Raises:
        ValueError: a file cannot be had or is not the one that was published; says what to do.
        OSError: it cannot be written.
    """
    import httpx2

    base = os.environ.get(source.mirror) or GITHUB
    with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        for number, file in enumerate(files, start=1):
            said, place = f"{number}/{len(files)} {file.name}", to / file.name
            if place.is_file() and _is_right(place, file.check):
                print(f"{said}: there", file=sys.stderr)
                continue
            content = _get(client, f"{base.rstrip('/')}/{quote(file.path)}", source)
            _write_checked(place, content, file.check, source)
            print(f"{said}: {len(content)} bytes", file=sys.stderr)


def has_sum(expected: str) -> Check:
    """The check for a file of this SHA-256."""

    def check(file: Path) -> None:
        if (digest := hashlib.sha256(file.read_bytes()).hexdigest()) != expected:
            raise ValueError(f"its SHA-256 is {digest}, that of the published file is {expected}")

    return check


def _is_right(file: Path, check: Check) -> bool:
    try:
        check(file)
    except ValueError:
        return False
    return True


def _get(client: httpx2.Client, address: str, source: Source) -> bytes:
    import httpx2

    try:
        return client.get(address).raise_for_status().content
    except httpx2.HTTPStatusError as error:
        raise ValueError(
            f"{address} answers {error.response.status_code} {error.response.reason_phrase}. {source.advice}"
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ValueError(
            f"{address} cannot be fetched: {error or type(error).__name__}. {source.advice}"
        ) from error


def _write_checked(file: Path, content: bytes, check: Check, source: Source) -> None:
    """Gives a file its name once it is right."""
    with writing(file) as new:
        new.write_bytes(content)
        try:
            check(new)
        except ValueError as error:
            raise ValueError(f"what came as {file.name} is refused: {error}. {source.advice}") from None
