"""Keys and passwords, which must reach no file: plans, scripts, logs, status and reports are kept and shared.

A secret is the value of an environment variable whose name says so (`OPENAI_API_KEY`, `HF_TOKEN`), or what
stands before the `@` of an address (`https://USER:PASSWORD@HOST`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from typing import Any, TextIO

VARIABLE = re.compile(r"(?:.*_)?(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)", re.I)
ASSIGNMENT = re.compile(
    r"(?:^|[\s,;'\"])(?:[A-Z0-9_]*_)?(?:APIKEY|KEY|TOKEN|SECRET|PASSWORD)=(?![\"']?[$`])[^\s,;]"
)
ADDRESS = re.compile(r"(?<=://)[^\s/?#]*@")
LEAST = 8  # characters: a shorter value may be a common word
MASK = "***"


def masked(text: str) -> str:
    """The text with `***` in place of every secret."""
    for value in sorted(_values().values(), key=len, reverse=True):
        text = text.replace(value, MASK)
    return ADDRESS.sub(f"{MASK}@", text)


def check(settings: Any, where: str) -> None:
    """Checks that texts which will be written to files hold no secret.

    Args:
        settings: a text, or texts within lists and mappings.
        where: what they are, for the message: "the command".

    Raises:
        ValueError: one holds a secret, which the message does not show.
    """
    values = tuple(_values().items())
    for name, text in _texts(settings, where):
        if found := _secret_in(text, values):
            raise ValueError(
                f"{name} holds {found}, which would reach the plan, the logs and the report. Put it into"
                " an environment variable, and give the variable's name where a setting asks for one, such as"
                " judge.serving.key_variable"
            )


@contextmanager
def masked_output() -> Iterator[None]:
    """Masks secrets in what this process prints on stdout and stderr while the block runs."""
    with redirect_stdout(_Masked(sys.stdout)), redirect_stderr(_Masked(sys.stderr)):
        yield


class _Masked:
    """A text stream that masks secrets in each piece that is written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(masked(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _texts(settings: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in nested settings, after the name by which a message calls it."""
    if isinstance(settings, str):
        yield where, settings
    elif isinstance(settings, Mapping):
        begin = f"{where}." if ": " in where else f"{where}: "
        for name, value in settings.items():
            yield from _texts(value, f"{begin}{name}")
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value, where)


@lru_cache(maxsize=4096)  # cells of a study share most of their texts
def _secret_in(text: str, values: tuple[tuple[str, str], ...]) -> str | None:
    """What kind of secret a text holds; None for none."""
    for name, value in values:
        if value in text:
            return f"the value of the environment variable {name}"
    if ADDRESS.search(text):
        return "an address with a user or password"
    return "the value of a key or password" if ASSIGNMENT.search(text) else None


def _values() -> dict[str, str]:
    """Name -> value of the environment variables that hold secrets."""
    return {
        name: value.strip()
        for name, value in os.environ.items()
        if VARIABLE.fullmatch(name) and len(value.strip()) >= LEAST
    }
