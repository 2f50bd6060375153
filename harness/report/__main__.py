"""Writes the report of a study, at any time: `python -m harness.report reward_components`.

With `--compare` it writes a comparison of the arms on chosen prompts instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.paths import user_path
from harness.report.build import write_report
from harness.report.comparison import write_comparison

COUNT = 12


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.compare and (given.arms is not None or given.count is not None):
        parser.error("--arms and --count choose what --compare shows: give --compare too")
    if given.count is not None and given.count < 1:
        parser.error(f"--count={given.count}: give a whole number from 1")
    study = given.outputs / "studies" / given.study
    try:
        if given.compare:
            arms = None if given.arms is None else [name.strip() for name in given.arms.split(",")]
            folder = write_comparison(
                study, given.reports, given.compare, arms=arms, count=given.count or COUNT
            )
        else:
            folder = write_report(study, given.reports)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(folder / "index.html")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.report",
        description="Write reports/STUDY from the results that its cells have so far. With --compare, write"
        " reports/STUDY-comparison instead: the images of all arms side by side, for chosen prompts.",
    )
    parser.add_argument("study", help="a study that was swept, such as reward_components")
    parser.add_argument(
        "--outputs",
        type=user_path,
        default=Path("outputs"),
        help="the outputs_dir of the sweep (default: outputs)",
    )
    parser.add_argument(
        "--reports",
        type=user_path,
        default=Path("reports"),
        help="the folder of the reports (default: reports)",
    )
    parser.add_argument(
        "--compare",
        action="append",
        metavar="PROMPTS",
        help="'A>B': the prompts where arm A is right and arm B wrong (in quotes); or a category; or the"
        " number, the id or the text of a prompt, or words of it; may be repeated",
    )
    parser.add_argument("--arms", metavar="A,B", help="the arms that --compare shows (default: all)")
    parser.add_argument("--count", type=int, help=f"the most prompts for each --compare (default: {COUNT})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
