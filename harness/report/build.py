"""Writes a study's report folder, all of it or nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

from harness.analysis.analysis import Analysis
from harness.analysis.results import read_study
from harness.report.cost import run_tables
from harness.report.gallery import gallery_sheet, make_gallery
from harness.report.origin import origin_of
from harness.report.page import Contents, write_pages
from harness.report.place import check_place, not_written
from harness.report.tables import score_tables

_ABANDONED_S = 3600


def write_report(study_folder: Path, reports_dir: Path) -> Path:
    """Writes `reports_dir/<study>/` from `outputs/studies/<study>` and returns it, whatever state the cells are in.

    It is made in a folder beside its place and then swapped in, so that no reader meets half a report.

    Raises:
        ValueError: no such study, a folder in its place that is no report, or a place that cannot be written.
    """
    analysis = Analysis(read_study(study_folder))
    target = check_place(reports_dir, analysis.study.name)
    try:
        _clear_abandoned(reports_dir, analysis.study.name)
        made = Path(tempfile.mkdtemp(prefix=f".{analysis.study.name}-", dir=reports_dir))
        try:
            made.chmod(0o755)
            _write(analysis, made)
            _swap(made, target)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise ValueError(not_written(target, error)) from error
    return target


def _write(analysis: Analysis, folder: Path) -> None:
    from harness.report.figures import draw_figures  # matplotlib, only when a report is written

    tables = [*score_tables(analysis), *run_tables(analysis)]
    (folder / "tables").mkdir()
    for table in tables:
        table.write(folder / "tables")
    (folder / "figures").mkdir()
    captions = draw_figures(analysis, folder / "figures")
    exhibits = make_gallery(analysis)
    sheet = gallery_sheet(exhibits)
    if sheet is not None:
        sheet.save(folder / "figures" / "gallery.png", optimize=True)
    origin = origin_of(analysis.study)
    (folder / "provenance.json").write_text(
        json.dumps(origin, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    tables_by_name = {table.name: table for table in tables}
    write_pages(
        folder,
        Contents(
            analysis=analysis, tables=tables_by_name, captions=captions, exhibits=exhibits, origin=origin
        ),
    )


def _swap(made: Path, target: Path) -> None:
    """Puts the new folder in the old one's place."""
    if not target.exists():
        made.rename(target)
        return
    old = made.with_name(made.name + ".old")
    target.rename(old)
    made.rename(target)
    shutil.rmtree(old)


def _clear_abandoned(reports_dir: Path, study: str) -> None:
    """Removes what a killed report left behind."""
    for folder in reports_dir.glob(f".{study}-*"):
        if time.time() - folder.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)
