"""Seeds derived from what they are for, so that no random state has to be carried along or restored."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def derive(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and its place, the same on every machine."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def of_batch(seeds: Iterable[int], random: str) -> list[int]:
    """The seeds of one rollout under `rollout.random`: every sample's own, or the first one's for all (`upstream`: a single stream)."""
    own = list(seeds)
    return own[:1] * len(own) if random == "upstream" else own
