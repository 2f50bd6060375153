"""Writes the report of a study, at any time: `python -m harness.report reward_components`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.paths import user_path
from harness.report.build import write_report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.report",
        description="Write reports/STUDY from the results that its cells have so far.",
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
    given = parser.parse_args(arguments)
    try:
        print(write_report(given.outputs / "studies" / given.study, given.reports) / "index.html")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
