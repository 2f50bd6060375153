"""Where a report goes, checked before the training it would be about and again before it is written."""

from __future__ import annotations

import tempfile
from pathlib import Path


def check_place(reports_dir: Path, study: str) -> Path:
    """The folder of the study's report, which can be written there.

    Raises:
        ValueError: the place cannot be written, or holds a folder that is no report.
    """
    target = reports_dir / study
    try:
        if target.exists() and not (target / "report.md").is_file() and any(target.iterdir()):
            raise ValueError(
                f"{target} is not a report and is left alone: choose another reports_dir or move it away"
            )
        reports_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=reports_dir):
            return target
    except OSError as error:
        raise ValueError(not_written(target, error)) from error


def not_written(target: Path, error: OSError) -> str:
    return f"cannot write the report {target} ({error}); free space there or choose another reports_dir"
