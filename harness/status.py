"""`python -m harness.status [STUDY]`: the cells of a study, or of every study."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.analysis.results import read_plan
from harness.launch.board import line, table
from harness.names import nearest
from harness.paths import user_path
from harness.stages import locks
from harness.stages.status import Status, is_silent, read_status

SHARED = "shared "  # begins the name of a shared stage


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the cells. Returns 0, or 1 where a plan is damaged, or 2 where there is no such study."""
    parser = argparse.ArgumentParser(prog="python -m harness.status", description=__doc__)
    parser.add_argument("study", nargs="?", help="name of a study; default: all")
    parser.add_argument(
        "--outputs",
        type=user_path,
        default=Path("outputs"),
        help="the outputs_dir of the study; default: outputs",
    )
    given = parser.parse_args(argv)
    folders = sorted(file.parent for file in (given.outputs / "studies").glob("*/plan.json"))
    chosen = [folder for folder in folders if given.study in (None, folder.name)]
    if not chosen:
        print(_no_study(given.study, given.outputs, [folder.name for folder in folders]), file=sys.stderr)
        return 2
    damaged = 0
    for folder in chosen:
        try:
            show(folder)
        except ValueError as error:
            damaged = 1
            print(f"error: {error}", file=sys.stderr)
    return damaged


def _no_study(study: str | None, outputs: Path, names: Sequence[str]) -> str:
    wanted = f"no study {study!r}" if study else "no study"
    known = ", ".join(names) or "none was started yet (python -m harness.sweep ablations=NAME)"
    near = nearest(study or "", names)
    question = f" Did you mean {near!r}?" if near else ""
    return (
        f"error: {wanted} under {outputs}.{question} Known: {known}. "
        "For another outputs_dir give --outputs FOLDER"
    )


def show(folder: Path) -> None:
    """Prints a title and every cell: a table on a terminal, else lines."""
    statuses = statuses_of(folder)
    cells = [status for name, status in statuses.items() if not name.startswith(SHARED)]
    done = sum(status.state == "done" for status in cells)
    runner = locks.owner_of(folder / "lock") if locks.is_held(folder / "lock") else None
    running = f"run by {runner}" if runner else "not running"
    title = f"{folder.name}: {done} of {len(cells)} cells done, {running}"
    console = Console()
    if not console.is_terminal:
        print("\n".join([title, *(line(name, status) for name, status in statuses.items())]))
        return
    console.print(table(title, statuses))
    for name, status in statuses.items():
        if status.error:
            console.print(f"{name}: {status.error.splitlines()[-1]}", markup=False)


def statuses_of(folder: Path) -> dict[str, Status]:
    """The shared stages of a study that are not done, then its cells; lost where the process is gone."""
    statuses = {}
    for path in sorted((folder / "shared").glob("*")):
        status = _status(path)
        if (path / "status.json").exists() and status.state != "done":
            statuses[f"{SHARED}{path.name}"] = status
    for cell in read_plan(folder)["cells"]:
        statuses[cell["id"]] = _status(folder / cell["folder"])
    return statuses


def _status(folder: Path) -> Status:
    status = read_status(folder)
    return replace(status, state="lost", eta_s=None) if is_silent(folder, status) else status


if __name__ == "__main__":
    sys.exit(main())
