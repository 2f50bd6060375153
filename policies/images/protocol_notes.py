"""What tables and reports must say about a set of images: how it was made, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.types import Config
from policies.images.assignment import Assignment
from policies.images.findings import Finding, Kind, printable
from policies.images.folder import normalized

if TYPE_CHECKING:
    from policies.images.listing import ImageSet

_MADE = {"guidance": "guidance", "prompt rewriting": "rewriting"}


def protocol(
    settings: Config,
    image_set: ImageSet,
    chosen: Assignment,
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """Return the content of `protocol.json`: `{"labels": {category: [text, ...]}, "notes": [text, ...]}`.

    A category is labeled as partial if any image of its prompts was left out, and as rewritten if images
    were made from other texts than its prompts.
    """
    labels: dict[str, list[str]] = {}
    assignment = image_set.assignment
    for category, group in image_set.groups.items():
        prompts = [prompt for prompt in image_set.prompts if prompt.category == category]
        ids = [prompt.id for prompt in prompts]
        if any(name not in chosen or len(assignment[name]) > len(chosen[name]) for name in ids):
            labels[category] = [f"partial: {sum(name in chosen for name in ids)} of {len(ids)} prompts"]
        rewritten = sum(one.id in chosen and normalized(one.text) in group.rewritten for one in prompts)
        if rewritten:
            labels.setdefault(category, []).append(f"rewritten prompts: {rewritten} of {len(ids)}")
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
