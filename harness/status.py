"""`python -m harness.status [STUDY]`: the cells of a study, or of every study there is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.analysis.results import read_plan
from harness.launch.board import line, table
from harness.stages import locks
from harness.stages.status import Status, is_silent, read_status


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the cells; returns 0, 1 where a plan is damaged, or 2 where there is no such study."""
    parser = argparse.ArgumentParser(prog="python -m harness.status", description=__doc__)
    parser.add_argument("study", nargs="?", help="name of a study; all of them if left out")
    parser.add_argument(
        "--outputs",
        type=Path,
        default=Path("outputs"),
        help="the outputs_dir of the study (default: outputs)",
    )
    given = parser.parse_args(argv)
    studies = sorted(file.parent for file in (given.outputs / "studies").glob("*/plan.json"))
    chosen = [folder for folder in studies if given.study in (None, folder.name)]
    if not chosen:
        asked = f"no study {given.study!r}" if given.study else "no study"
        known = (
            ", ".join(folder.name for folder in studies)
            or "none was started yet (python -m harness.sweep ablations=NAME -m)"
        )
        print(
            f"error: {asked} under {given.outputs}. Known: {known}. Another outputs_dir is named with --outputs FOLDER",
            file=sys.stderr,
        )
        return 2
    damaged = 0
    for folder in chosen:
        try:
            show(folder)
        except ValueError as error:
            damaged = 1
            print(f"error: {error}", file=sys.stderr)
    return damaged


def show(folder: Path) -> None:
    statuses = statuses_of(folder)
    done = sum(status.state == "done" for name, status in statuses.items() if not name.startswith("shared "))
    total = sum(not name.startswith("shared ") for name in statuses)
    runner = locks.owner_of(folder / "lock") if locks.is_held(folder / "lock") else None
    title = f"{folder.name}: {done} of {total} cells done, " + (
        f"run by {runner}" if runner else "not running"
    )
    console = Console()
    if console.is_terminal:
        console.print(table(title, statuses))
        for name, status in statuses.items():
            if status.error:
                console.print(f"{name}: {status.error.splitlines()[-1]}", markup=False)
    else:
        print("\n".join([title, *(line(name, status) for name, status in statuses.items())]))


def statuses_of(folder: Path) -> dict[str, Status]:
    """The planned cells of a study, after the shared stages that are being made; one whose process is gone is lost."""
    plan = read_plan(folder)
    shared = sorted(path for path in (folder / "shared").glob("*") if (path / "status.json").exists())
    found = {f"shared {path.name}": _status(path) for path in shared if _status(path).state != "done"}
    return found | {cell["id"]: _status(folder / cell["folder"]) for cell in plan["cells"]}


def _status(folder: Path) -> Status:
    status = read_status(folder)
    return replace(status, state="lost", eta_s=None) if is_silent(folder, status) else status


if __name__ == "__main__":
    sys.exit(main())
