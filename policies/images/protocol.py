"""What tables and reports must say of a set of pictures: how it was made, and what of it was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.types import Config, Prompt
from policies.images.findings import Finding, Kind, plain
from policies.images.shares import Shares


def protocol(
    settings: Config, prompts: Sequence[Prompt], shares: Shares, taken: Shares, findings: Sequence[Finding]
) -> dict[str, Any]:
    """`{"labels": {category: [text, ...]}, "notes": [text, ...]}`; a category is labelled if anything of its prompts was left out."""
    labels = {}
    for category in dict.fromkeys(prompt.category for prompt in prompts):
        own = [prompt.id for prompt in prompts if prompt.category == category]
        if any(name not in taken or len(shares[name]) > len(taken[name]) for name in own):
            labels[category] = [f"partial: {sum(name in taken for name in own)} of {len(own)} prompts"]
    made = [
        f"{name} {'not recorded' if settings[key] is None else settings[key]}" for name, key in MADE.items()
    ]
    return {"labels": labels, "notes": [*made, *_found(findings)]}


MADE = {"guidance": "guidance", "prompt rewriting": "rewriting"}


def _found(findings: Sequence[Finding]) -> list[str]:
    """A line a kind; of errors, which a set has only where they are allowed, that they were left out."""
    counts = Counter(finding.kind for finding in findings)
    first: dict[Kind, str] = {}
    for finding in findings:
        first.setdefault(finding.kind, plain(finding.text))
    lines = {
        kind: f"{kind.title}: {count}, {'first' if count > 1 else 'namely'} {first[kind]}"
        for kind, count in counts.items()
    }
    return [f"left out, {line}" if kind.error else f"{line}; {kind.advice}" for kind, line in lines.items()]
