"""Whether two studies have the same numbers: every file of every stage, and every table."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMES = {"seconds"}  # columns of metrics.jsonl that differ from run to run
COST = "cost.csv"  # a table of times and memory alone


def files_of(stage: Path) -> dict[str, bytes]:
    """The content of a stage's files by name, without its times and places."""
    files = {str(path.relative_to(stage)): path.read_bytes() for path in stage.rglob("*") if path.is_file()}
    record = json.loads(files.pop("stage.json"))
    made = {name: record[name] for name in ("key", "program", "settings", "inputs")}
    for name, content in files.items():
        if name == "metrics.jsonl":
            files[name] = _timeless(content)
    return {**files, "stage.json": json.dumps(made).encode()}


def _timeless(rows: bytes) -> bytes:
    kept: list[dict[str, Any]] = []
    for line in rows.splitlines():
        kept.append({name: value for name, value in json.loads(line).items() if name not in TIMES})
    return json.dumps(kept).encode()


def differences(outputs: Path, other: Path) -> list[str]:
    """The files of stages that one folder of outputs lacks or holds with another content."""
    found = []
    names = [{stage.name for stage in (folder / "stages").iterdir()} for folder in (outputs, other)]
    found += [f"only one has {name}" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        ours, theirs = files_of(outputs / "stages" / name), files_of(other / "stages" / name)
        found += [
            f"{name}/{file}"
            for file in sorted(ours.keys() | theirs.keys())
            if ours.get(file) != theirs.get(file)
        ]
    return found


def table_differences(report: Path, other: Path) -> list[str]:
    """The names of the tables of one report that the other lacks or holds with other numbers."""
    return _unequal(_tables(report), _tables(other))


def _unequal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]


def _tables(report: Path) -> dict[str, list[list[str]]]:
    tables = {}
    for path in report.glob("tables/*.csv"):
        if path.name != COST:
            with path.open(newline="") as file:
                tables[path.name] = list(csv.reader(file))
    return tables
