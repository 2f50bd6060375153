"""Components that know what they need from outside."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Needing(Protocol):
    """A component of any role that needs something from outside; `harness.doctor` asks all of a cell."""

    def missing(self) -> list[str]:
        """What is missing now (a server, a file, a model to fetch), each with what to do."""
        ...
