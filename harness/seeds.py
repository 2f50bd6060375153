"""Seeds derived from their purpose, so that no random state has to be saved or restored."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def derive(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and its position, the same on every machine."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def of_batch(seeds: Iterable[int], random: str) -> list[int]:
    """The seeds of one rollout: each sample's own, or the first one for all if `random` is `upstream`."""
    listed = list(seeds)
    return listed[:1] * len(listed) if random == "upstream" else listed
