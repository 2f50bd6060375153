"""What tables and reports must say about a set of images: how it was made, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.types import Config, Prompt
from policies.images.assignment import Assignment
from policies.images.findings import Finding, Kind, printable

_MADE = {"guidance": "guidance", "prompt rewriting": "rewriting"}


def protocol(
    settings: Config,
    prompts: Sequence[Prompt],
    assignment: Assignment,
    chosen: Assignment,
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """Return the content of `protocol.json`: `{"labels": {category: [text, ...]}, "notes": [text, ...]}`.

    A category is labeled as partial if any image of its prompts was left out.
    """
    labels = {}
    for category in dict.fromkeys(prompt.category for prompt in prompts):
        ids = [prompt.id for prompt in prompts if prompt.category == category]
        if any(name not in chosen or len(assignment[name]) > len(chosen[name]) for name in ids):
            labels[category] = [f"partial: {sum(name in chosen for name in ids)} of {len(ids)} prompts"]
    notes = []
    for name, setting in _MADE.items():
        value = settings[setting]
        notes.append(f"{name} {'not recorded' if value is None else value}")
    return {"labels": labels, "notes": [*notes, *_finding_notes(findings)]}


def _finding_notes(findings: Sequence[Finding]) -> list[str]:
    """Return one line per kind of finding. Errors are those of a partial set: their images were left out."""
    counts = Counter(finding.kind for finding in findings)
    first: dict[Kind, str] = {}
    for finding in findings:
        first.setdefault(finding.kind, printable(finding.text))
    notes = []
    for kind, count in counts.items():
        line = f"{kind.title}: {count}, {'first' if count > 1 else 'namely'} {first[kind]}"
        notes.append(f"left out, {line}" if kind.error else f"{line}; {kind.advice}")
    return notes
