"""The rows of `harness.bench gpu` as JSON and as a Markdown table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.files import write_text
from harness.gpu.worker import Outcome
from harness.protocols import Measured
from harness.stages import provenance
from harness.stages.program import utc_now

JSON, MARKDOWN = "gpu.json", "gpu.md"
HEAD = ("phase", "measured", "value", "allowed or aim", "verdict", "note")
PASSED, FAILED, REACHED, MISSED, LEFT_OUT = "passed", "FAILED", "reached", "missed", "left out"


def verdict(measured: Measured) -> str:
    """Of a check: passed or FAILED. Of an aim: reached or missed. Empty for a number that has neither."""
    if measured.at_most is not None:
        return PASSED if measured.value <= measured.at_most else FAILED  # NaN fails
    if measured.aim is not None:
        return REACHED if measured.value >= measured.aim else MISSED
    return ""


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """The checks and phases that failed, in words."""
    failed = []
    for outcome in outcomes:
        if outcome.failure:
            failed.append(f"{outcome.phase} ({outcome.failure})")
        for measured in outcome.measured:
            if verdict(measured) == FAILED:
                failed.append(
                    f"{outcome.phase}, {measured.name} {_text(measured.value)} ({_bound(measured)})"
                )
    return failed


def line(outcome: Outcome) -> str:
    """One line on a phase, as soon as it ends."""
    if outcome.left_out:
        return f"{outcome.phase}: {LEFT_OUT}, {outcome.left_out}"
    state = f"{FAILED}, {outcome.failure}" if failures([outcome]) else "done"
    return f"{outcome.phase}: {state.removesuffix(', ')} ({outcome.seconds:.0f} s)"


def table(outcomes: Sequence[Outcome]) -> str:
    """The Markdown table: a row for each number, and for each phase that failed or was left out."""
    rows = [HEAD, tuple("---" for _ in HEAD)]
    for outcome in outcomes:
        rows += _rows(outcome)
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    if outcome.left_out:
        yield outcome.phase, "", "", "", LEFT_OUT, outcome.left_out
        return
    for measured in outcome.measured:
        value = f"{_text(measured.value)} {measured.unit}".strip()
        yield outcome.phase, measured.name, value, _bound(measured), verdict(measured), measured.note
    if outcome.failure:
        yield outcome.phase, "", "", "", FAILED, outcome.failure
    peak = "" if outcome.peak_gb is None else f"peak {outcome.peak_gb:.1f} GB"
    yield outcome.phase, "time of the phase", f"{outcome.seconds:.0f} s", "", "", peak


def _bound(measured: Measured) -> str:
    if measured.at_most is not None:
        return f"at most {_text(measured.at_most)}"
    return "" if measured.aim is None else f"aim: at least {_text(measured.aim)}"


def _text(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def write(outcomes: Sequence[Outcome], folder: Path, device: str) -> None:
    """Replaces both files."""
    machine = _machine(device)
    passed = not failures(outcomes)
    record = {**machine, "passed": passed, "phases": [_record(outcome) for outcome in outcomes]}
    write_text(folder / JSON, json.dumps(record, indent=1, allow_nan=False) + "\n")
    lines = [f"- {name}: {_shown(value)}" for name, value in machine.items()]
    heading = "# Checks and measurements on a GPU"
    verdict_line = f"- verdict: {PASSED if passed else FAILED}"
    text = "\n".join([heading, "", *lines, verdict_line, "", table(outcomes), ""])
    write_text(folder / MARKDOWN, text)


def _record(outcome: Outcome) -> dict[str, Any]:
    record = asdict(outcome)
    for values, measured in zip(record["measured"], outcome.measured, strict=True):
        values["verdict"] = verdict(measured)
        values["value"] = measured.value if math.isfinite(measured.value) else str(measured.value)
    return record


def _machine(device: str) -> dict[str, Any]:
    """The device, the versions and the commit; "differs" says whether files differ from the commit."""
    import torch

    commit, differs = provenance.commit()
    facts: dict[str, Any] = {
        "written": utc_now(),
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
        "commit": commit,
        "differs": differs,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts["device"] = properties.name
        facts["device memory"] = f"{properties.total_memory / 2**30:.1f} GB"
        facts["CUDA"] = torch.version.cuda
    else:
        facts["device"] = device
    return facts


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return str(value)
