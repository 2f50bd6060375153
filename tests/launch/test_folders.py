from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.composition.arguments import UsageError
from harness.launch.folders import check_path, check_private, umask


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("mode", "group", "said"),
    [
        (0o700, False, None),
        (0o755, False, None),
        (0o775, True, None),
        (0o775, False, "your group can write {folder} (mode 775) and so change what your jobs run."),
        (0o777, False, "your group and everybody can write {folder} (mode 777)"),
        (0o757, True, "everybody can write {folder} (mode 757)"),
    ],
)
def test_a_folder_that_others_can_write_is_refused_with_the_command_that_mends_it(
    tmp_path, mode, group, said
):
    folder = tmp_path / "a study"
    (folder / "cells").mkdir(parents=True)
    for path in (folder, folder / "cells"):
        path.chmod(mode)
    if said is None:
        check_private(folder, group=group)
        return
    with pytest.raises(UsageError) as refused:
        check_private(folder, group=group)
    assert str(refused.value).startswith(said.format(folder=folder))
    assert ("set group_writable=true" in str(refused.value)) == (mode == 0o775)
    command = str(refused.value).partition("To forbid that: ")[2].partition(". To let")[0]
    assert os.system(command) == 0
    for path in (folder, folder / "cells"):
        check_private(path, group=group)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    if owner:
        with pytest.raises(UsageError, match=f"{tmp_path} belongs to the user"):
            check_private(tmp_path, group=False)
    else:
        check_private(tmp_path, group=False)  # root may write everything anyway
        os.chown(tmp_path, 4243, -1)
        with pytest.raises(UsageError, match=f"{tmp_path} belongs to the user 4243, who could change"):
            check_private(tmp_path, group=False)


@pytest.mark.parametrize(
    ("users", "group", "mode"),
    [(0o002, False, 0o755), (0o077, False, 0o700), (0o000, True, 0o775), (0o077, True, 0o770)],
)
def test_what_a_study_makes_is_writable_for_the_group_only_where_that_was_asked_for(
    tmp_path, users, group, mode
):
    before = os.umask(users)
    try:
        with umask(group=group):
            (tmp_path / "made").mkdir()
        assert os.umask(users) == users, "the user's own umask is back"
    finally:
        os.umask(before)
    assert _mode(tmp_path / "made") == mode


@pytest.mark.parametrize("name", ["a%jb", "10:30", "a\\b", "a\nb", "a\tb"])
def test_a_path_that_scripts_cannot_hold_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"in its path: choose another outputs_dir"):
        check_path(tmp_path / name)
    check_path(tmp_path / "a b'\"$(touch x)`;&é")


def _run(sweeps, users: int, *words: str):
    before = os.umask(users)
    try:
        return sweeps.run("arms=full", f"reports_dir={sweeps.outputs.with_name('reports')}", *words)
    finally:
        os.umask(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("users", "word", "folder_mode", "file_mode"),
    [
        (0o000, "group_writable=false", 0o755, 0o644),
        (0o002, "group_writable=true", 0o775, 0o664),
        (0o077, "group_writable=false", 0o700, 0o600),
    ],
)
def test_all_files_of_a_study_and_its_report_have_the_permissions(
    sweeps, users, word, folder_mode, file_mode
):
    ended = _run(sweeps, users, word)
    assert ended.returncode == 0, ended.stderr
    reports = sweeps.outputs.with_name("reports")
    assert (reports / "toy" / "report.md").is_file()
    for folder in (sweeps.outputs, reports):
        for path in (folder, *folder.rglob("*")):
            assert _mode(path) == (folder_mode if path.is_dir() else file_mode), path


@pytest.mark.slow
def test_a_study_of_an_older_run_that_the_group_can_write_is_refused_before_anything_is_submitted(sweeps):
    folder = sweeps.outputs / "studies" / "toy"
    folder.mkdir(parents=True)
    folder.chmod(0o775)
    refused = _run(sweeps, 0o022)
    assert refused.returncode == 2 and f"chmod -R go-w {folder}" in refused.stderr
    assert not list(folder.rglob("*.pkl")) and not (sweeps.outputs / "stages").exists()
    assert _run(sweeps, 0o022, "group_writable=maybe").returncode == 2
    assert _run(sweeps, 0o022, "group_writable=true").returncode == 0
