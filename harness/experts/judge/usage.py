"""What a served judge costs: the tokens that its server counts, and their price."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.settings import number

MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of a million tokens, `input` of questions and `output` of answers, in any currency."""

    input: float
    output: float

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """Return what so many tokens cost."""
        return (tokens_in * self.input + tokens_out * self.output) / MILLION


def read_price(setting: Any) -> Price | None:
    """Return the price of `judge.serving.price`; None where it is null.

    Raises:
        ValueError: it does not hold two numbers from 0, `input` and `output`.
    """
    if setting is None:
        return None
    if not isinstance(setting, Mapping) or set(setting) != {"input", "output"}:
        raise ValueError(
            f"judge.serving.price={setting!r}: give the price of a million tokens as"
            " {input: NUMBER, output: NUMBER}, or null"
        )
    names = ("input", "output")
    return Price(**{name: number(f"judge.serving.price.{name}", setting[name], least=0) for name in names})


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Requests that a server answered, and their tokens.

    `counted` is the number of requests for which the server gave its tokens: `tokens_in`, images included,
    and `tokens_out`, thinking included.
    """

    requests: int = 0
    counted: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def since(self, earlier: Usage) -> Usage:
        """Return what was added after `earlier`."""
        return Usage(
            requests=self.requests - earlier.requests,
            counted=self.counted - earlier.counted,
            tokens_in=self.tokens_in - earlier.tokens_in,
            tokens_out=self.tokens_out - earlier.tokens_out,
        )


class Meter:
    """Adds up the usage of many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage = Usage()

    @property
    def usage(self) -> Usage:
        return self._usage

    def add(self, content: Mapping[str, Any]) -> None:
        """Add an answered request; `content` is the chat completion."""
        given = content.get("usage")
        fields = given if isinstance(given, Mapping) else {}
        tokens = [fields.get(name) for name in ("prompt_tokens", "completion_tokens")]
        counts = [count for count in tokens if type(count) is int and count >= 0]
        tokens_in, tokens_out = counts if len(counts) == 2 else (0, 0)
        with self._lock:
            before = self._usage
            self._usage = Usage(
                requests=before.requests + 1,
                counted=before.counted + (len(counts) == 2),
                tokens_in=before.tokens_in + tokens_in,
                tokens_out=before.tokens_out + tokens_out,
            )
