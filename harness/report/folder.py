"""The folder of a report, checked before the training of a study and before the report is written."""

from __future__ import annotations

import tempfile
from pathlib import Path


def check_report_folder(reports_dir: Path, name: str, kind: str = "report") -> Path:
    """Return the folder of a report, once it is known that it can be written.

    Args:
        reports_dir: the folder of all reports.
        name: the study's name, or that of another kind of report on it.
        kind: what is written there, with the page `<kind>.md`.

    Raises:
        ValueError: the folder cannot be written, or holds something else.
    """
    folder = reports_dir / name
    try:
        if folder.exists() and not (folder / f"{kind}.md").is_file() and any(folder.iterdir()):
            raise ValueError(
                f"{folder} is not a {kind} and is left alone: choose another reports_dir or move it away"
            )
        reports_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=reports_dir):
            return folder
    except OSError as error:
        raise ValueError(not_written(folder, error)) from error


def not_written(folder: Path, error: OSError) -> str:
    """Return the message for a report that cannot be written."""
    return f"cannot write the report {folder} ({error}); free space there or choose another reports_dir"
