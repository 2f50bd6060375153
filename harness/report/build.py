"""Writes a study's report folder, all of it or nothing."""

from __future__ import annotations

import json
from pathlib import Path

from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.files import writing_folder
from harness.report.cost import run_tables
from harness.report.folder import check_report_folder, not_written
from harness.report.gallery import gallery_sheet, make_gallery
from harness.report.origin import origin_of
from harness.report.page import Contents, write_pages
from harness.report.partial import Partial, partial_of, without_claims
from harness.report.tables import score_tables


def write_report(study_folder: Path, reports_dir: Path) -> Path:
    """Write `reports_dir/<study>/` from `outputs/studies/<study>` and return it.

    Cells may be in any state. While some are still to come, the report says that it is partial and decides no
    claim. A reader sees the old report or the new one, never a part.

    Raises:
        ValueError: the study does not exist, or its report cannot be written there.
    """
    study = read_study(study_folder)
    partial = partial_of(study)
    analysis = Analysis(without_claims(study) if partial else study)
    report = check_report_folder(reports_dir, study.name)
    try:
        with writing_folder(report) as folder:
            _write(analysis, partial, folder)
    except OSError as error:
        raise ValueError(not_written(report, error)) from error
    return report


def _write(analysis: Analysis, partial: Partial | None, folder: Path) -> None:
    from harness.report.figures import draw_figures  # matplotlib, only when a report is written

    tables = [*score_tables(analysis), *run_tables(analysis)]
    if partial:
        tables = list(map(partial.marked, tables))
    (folder / "tables").mkdir()
    for table in tables:
        table.write(folder / "tables")
    (folder / "figures").mkdir()
    captions = draw_figures(analysis, folder / "figures")
    if partial:
        captions = {name: f"{partial.mark} {caption}" for name, caption in captions.items()}
    exhibits = make_gallery(analysis)
    sheet = gallery_sheet(exhibits)
    if sheet is not None:
        sheet.save(folder / "figures" / "gallery.png", optimize=True)
    origin = origin_of(analysis.study)
    if partial:
        origin["partial"] = partial.record()
    text = json.dumps(origin, indent=2, ensure_ascii=False) + "\n"
    (folder / "provenance.json").write_text(text, encoding="utf-8")
    tables_by_name = {table.name: table for table in tables}
    contents = Contents(
        analysis=analysis,
        partial=partial,
        tables=tables_by_name,
        captions=captions,
        exhibits=exhibits,
        origin=origin,
    )
    write_pages(folder, contents)
