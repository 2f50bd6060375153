"""Which prompt gets which pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from harness.types import Prompt
from policies.images.findings import MISSING, SURPLUS, Finding
from policies.images.folder import INDEX, Picture, Shelf, same

NAME_BYTES = 255  # the longest file name that common file systems hold

Shares = dict[str, Sequence[Picture]]  # prompt id -> its pictures in order


def share(prompts: Sequence[Prompt], count: int, found: Mapping[str, Shelf]) -> tuple[Shares, list[Finding]]:
    """Every prompt's pictures, and a finding for each text that has not `count` of them.

    Prompts of the same text take equal shares of their pictures, in order: none where these do not come out even.
    """
    alike: dict[tuple[int, str], list[Prompt]] = {}
    for prompt in prompts:
        alike.setdefault((id(found[prompt.category]), same(prompt.text)), []).append(prompt)
    shares: Shares = {}
    findings = []
    for (_, text), group in alike.items():
        there = found[group[0].category].pictures.get(text, ())
        each, rest = divmod(len(there), len(group))
        for place, prompt in enumerate(group):
            shares[prompt.id] = [] if rest else there[place * each : (place + 1) * each]
        if len(there) != count * len(group):
            findings.append(
                Finding(
                    kind=MISSING if len(there) < count * len(group) else SURPLUS,
                    text=_tally(group, len(there), count),
                )
            )
    return shares, findings


def complete(shares: Shares, count: int, spoilt: Collection[Picture]) -> Shares:
    """The first `count` pictures of every prompt that has as many which are not spoilt."""
    sound = {name: [picture for picture in own if picture not in spoilt] for name, own in shares.items()}
    return {name: own[:count] for name, own in sound.items() if len(own) >= count}


def _tally(group: Sequence[Prompt], there: int, count: int) -> str:
    many = f" for {len(group)} prompts of this text" if len(group) > 1 else ""
    return (
        f"{group[0].id} {group[0].text!r}: {there} of {count * len(group)}{many}{_unnameable(group[0].text)}"
    )


def _unnameable(text: str) -> str:
    longest = len(f"{text}_000000.png".encode())
    return f" (no file can be named so: give it in {INDEX})" if "/" in text or longest > NAME_BYTES else ""
