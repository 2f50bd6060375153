"""The report is written again while cells finish, and never in the way of the study or its last report."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import processes
from harness.launch import partial
from harness.launch.partial import PartialReports
from harness.report.build import write_report
from harness.stages.status import Status

PATIENCE_S = 180.0
WRITER = """
import os, sys, time
study, reports = sys.argv[1:]
with open(os.path.join(reports, "begun"), "a") as file:
    file.write(f"{os.getpid()}\\n")
while os.path.exists(os.path.join(reports, "hold")):
    time.sleep(0.01)
"""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    return folder


@pytest.fixture
def watched(reports: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PartialReports:
    """Partial reports whose process notes its id, and ends once the file `hold` is gone."""
    (tmp_path / "study").mkdir()
    (tmp_path / "writer.py").write_text(WRITER)
    monkeypatch.setattr(partial, "MODULE", "writer")
    monkeypatch.setattr(partial, "PAUSE", 0)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return PartialReports(tmp_path / "study", reports)


def begun(reports: Path) -> list[int]:
    file = reports / "begun"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def states(*given: str) -> dict[str, Status]:
    return {f"cell{number}": Status(state=state) for number, state in enumerate(given)}  # type: ignore[arg-type]


def test_a_report_is_written_once_per_change_and_never_twice_at_a_time(
    watched: PartialReports, reports: Path
) -> None:
    hold = reports / "hold"
    hold.touch()
    with watched:
        watched.update(states("running", "failed", "planned"))
        assert watched._writer is None, "nothing is there to report"
        watched.update(states("done", "running", "planned", "planned"))
        until(lambda: len(begun(reports)) == 1)
        for state in ("running", "done", "lost"):
            watched.update(states("done", state, "planned", "planned"))
        first = watched._writer
        hold.unlink()
        until(lambda: first.poll() is not None)
        watched.update(states("done", "done", "lost", "running"))
        until(lambda: len(begun(reports)) == 2)
        second = watched._writer
        until(lambda: second.poll() is not None)
        watched.update(states("done", "done", "lost", "running"))
        watched.update(states("done", "done", "lost", "done"))
        assert watched._writer is None, "nothing is new, or the sweep writes the whole report now"
    assert len(begun(reports)) == 2


def test_between_reports_the_processor_is_left_to_the_jobs(
    watched: PartialReports, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(partial.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(partial, "PAUSE", 8)
    with watched:
        watched.update(states("done", "running", "running"))
        watched._writer.wait()
        now[0] += 5  # as long as it wrote
        for waited in (0, 39):
            now[0] += waited
            watched.update(states("done", "done", "running"))
            assert watched._writer is None
        now[0] += 1
        watched.update(states("done", "done", "running"))
        watched._writer.wait()
    assert len(begun(reports)) == 2


def test_the_first_report_is_announced_once(
    watched: PartialReports, reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with watched:
        for ended in (1, 2):
            watched.update(states(*["done"] * ended, "running"))
            writer = watched._writer
            until(lambda writer=writer: writer.poll() is not None)
            watched.update(states(*["done"] * ended, "running"))
    line = f"partial report, written again as cells finish: {reports / 'study' / 'index.html'}\n"
    assert capsys.readouterr().out == line


def test_the_writer_ends_with_the_block(watched: PartialReports, reports: Path) -> None:
    (reports / "hold").touch()
    with watched:
        watched.update(states("done", "running"))
        until(lambda: begun(reports))
    assert not processes.is_alive(begun(reports)[0])


def test_a_writer_that_cannot_start_ends_no_sweep(
    watched: PartialReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(partial, "_start", refuse)
    with watched:
        watched.update(states("done", "running"))
        assert watched._writer is None


def test_without_a_folder_for_reports_none_is_written(tmp_path: Path) -> None:
    with PartialReports(tmp_path, None) as none:
        none.update(states("done", "running"))
        assert none._writer is None


def test_a_sweep_reports_what_is_in_and_ends_with_the_whole_report(sweeps: Any, reports: Path) -> None:
    page = reports / "toy" / "index.html"
    where = f"reports_dir={reports}"
    assert sweeps.run("arms=baseline", where).returncode == 0
    assert "artial" not in page.read_text(), "the baseline is all there is"
    sweeps.hold.touch()
    sweep = sweeps.start("arms=baseline,half,bad", "arm.bad=trainers.fault=raise", where)
    line = next(line for line in sweep.stdout if line.startswith("partial report"))
    assert line == f"partial report, written again as cells finish: {page}\n"
    assert "<strong>Partial report</strong>, written 20" in page.read_text()
    assert "1 of 3 arms in. In: baseline. Still to come: half (" in page.read_text()
    sweeps.hold.unlink()
    out, err = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 1, err
    assert "partial report" not in out, "only the first one has a line"
    assert out.splitlines()[-1] == f"report: {page.parent}"
    text = page.read_text()
    assert "artial" not in text and "1 of 3 cells missing" in text


def test_a_killed_sweep_takes_the_writer_along_and_the_next_one_ends_with_the_report_of_a_quiet_one(
    sweeps: Any, reports: Path, tmp_path: Path
) -> None:
    assert sweeps.run("arms=baseline").returncode == 0
    sweeps.hold.touch()
    words = ("arms=baseline,half", f"reports_dir={reports}")
    sweep = sweeps.start(*words)
    seen: list[int] = []
    sweeps.until(lambda: bool(seen.extend(writers(sweep.pid)) or seen))
    sweep.kill()
    sweep.communicate()
    sweeps.until(lambda: not processes.is_alive(seen[0]))
    sweeps.hold.unlink()
    assert sweeps.run(*words).returncode == 0
    study = sweeps.outputs / "studies" / "toy"
    again = write_report(study, tmp_path / "again")
    assert contents(reports / "toy") == contents(again)
    assert [file.name for file in reports.iterdir()] == ["toy"], "no half of a report is left"


def writers(sweep: int) -> list[int]:
    """The processes that write a report for a sweep."""
    found = []
    for child in psutil.Process(sweep).children():
        with suppress(psutil.Error):  # it has ended
            if partial.MODULE in child.cmdline():
                found.append(child.pid)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}
