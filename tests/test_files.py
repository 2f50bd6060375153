"""Files and folders are written whole or not at all, whatever is killed; JSON lines of ours and of users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from harness import files
from harness.files import (
    read_rows,
    read_user_rows,
    swap_folder,
    truncate_rows,
    write_rows,
    write_text,
    writing,
    writing_folder,
)
from harness.paths import cache

ROWS = [{"index": 0, "text": "a\u2028b é"}, {"index": 1, "text": "日本"}, {"index": 2, "text": ""}]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(script: str, *arguments: Path) -> None:
    """Runs a script in a process that must die by SIGKILL. `die` kills it."""
    head = """
        import os, signal, sys
        from pathlib import Path
        from harness import files
        def die(*arguments, **settings):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    program = textwrap.dedent(head) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def make_folder(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "content").write_text(content)
    return folder


def test_the_cache_is_below_the_users_cache_or_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache("x") == tmp_path / "got-r1-harness" / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache("x") == tmp_path / "home" / ".cache" / "got-r1-harness" / "x"

    def no_home() -> Path:
        raise RuntimeError("no home directory")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache("x").parts[-2:] == ("got-r1-harness", "x")


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_written_and_replaced(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "new" / "folder" / "file.txt"
    for content in ("one", "two"):
        with writing(file, durable=durable) as new:
            assert not file.exists() or file.read_text() == "one"
            new.write_text(content)
        assert file.read_text() == content
    write_text(file, "é")
    assert file.read_bytes() == "é".encode()
    assert names(file.parent) == ["file.txt"]


def test_a_durable_file_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    replace, fsync = Path.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("replace"), replace(self, to)))
    with writing(tmp_path / "file", durable=True) as new:
        new.write_text("x")
    assert events == ["fsync", "replace"]


def test_an_error_within_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(LookupError), writing(file) as new:
        new.write_text("half")
        raise LookupError
    with pytest.raises(LookupError), writing(tmp_path / "another"):
        raise LookupError
    assert file.read_text() == "old" and names(tmp_path) == ["file"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def test_a_kill_before_the_rename_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    killed("Path.replace = die\nfiles.write_text(Path(sys.argv[1]), 'new')", file)
    assert file.read_text() == "old" and len(names(tmp_path)) == 2
    write_text(tmp_path / "another", "x")
    assert len(names(tmp_path)) == 3, "of another file nothing is removed"
    write_text(file, "newer")
    assert file.read_text() == "newer" and names(tmp_path) == ["another", "file"]


def test_what_another_machine_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    left = tmp_path / ".file.elsewhere.7.7.new"
    others = [".file.elsewhere.7.new", ".file.new", ".files.elsewhere.7.7.new", "file.elsewhere.7.7.new"]
    for path in (left, *(tmp_path / name for name in others)):
        path.touch()
        os.utime(path, (0, 0))
    (tmp_path / ".file.elsewhere.8.8.new").touch()
    write_text(tmp_path / "file", "x")
    assert names(tmp_path) == sorted([*others, ".file.elsewhere.8.8.new", "file"])


def test_a_file_that_a_living_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with writing(file) as slow:
        slow.write_text("slow")
        thread = threading.Thread(target=write_text, args=(file, "fast"))
        thread.start()
        thread.join()
        assert file.read_text() == "fast"
    assert file.read_text() == "slow" and names(tmp_path) == ["file"]


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    contents = {letter * 200_000 for letter in "abc"}
    write_text(file, "a" * 200_000)
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        for content in contents:
            write_text(file, content)
    stop.set()
    reader.join()
    assert seen <= contents


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of swapping folders: in one step, and that of systems and file systems without it."""
    if request.param == "two renames":
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    return request.param


def test_a_folder_takes_the_place_of_another(tmp_path: Path, way: str) -> None:
    target = tmp_path / "target"
    for content in ("one", "two"):
        swap_folder(make_folder(tmp_path / "made", content), target)
        assert (target / "content").read_text() == content
        assert names(tmp_path) == ["target"]


def test_a_folder_that_cannot_take_the_place_leaves_the_old_one(tmp_path: Path, way: str) -> None:
    target = make_folder(tmp_path / "target", "old")
    with pytest.raises(OSError):
        swap_folder(tmp_path / "missing", target)
    assert (target / "content").read_text() == "old" and names(tmp_path) == ["target"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, way: str) -> None:
    target = tmp_path / "deep" / "target"
    for content in ("one", "two"):
        with writing_folder(target) as new:
            (new / content).write_text(content)
            assert not target.exists() or names(target) == ["one"]
        assert names(target) == [content] and names(target.parent) == ["target"]
    with pytest.raises(LookupError), writing_folder(target) as new:
        (new / "three").touch()
        raise LookupError
    assert names(target) == ["two"] and names(target.parent) == ["target"]


KILLED_FOLDER = """
    with files.writing_folder(Path(sys.argv[1])) as new:
        (new / "content").write_text("new")
        {}
"""


@pytest.mark.parametrize(
    "deadly",
    [
        "die()",
        "files.swap_folder = die",
        "files._exchange = die",
        "files._exchange = lambda first, second: False; Path.rename = die",
    ],
    ids=["in the block", "before the swap", "before the exchange", "before the first rename"],
)
def test_a_kill_leaves_the_old_folder_and_the_next_write_cleans_up(tmp_path: Path, deadly: str) -> None:
    target = make_folder(tmp_path / "target", "old")
    killed(KILLED_FOLDER.format(deadly), target)
    assert (target / "content").read_text() == "old" and len(names(tmp_path)) == 2
    with writing_folder(target) as new:
        (new / "content").write_text("newer")
    assert (target / "content").read_text() == "newer" and names(tmp_path) == ["target"]


def test_a_kill_after_the_exchange_leaves_the_new_folder(tmp_path: Path) -> None:
    target = make_folder(tmp_path / "target", "old")
    killed(KILLED_FOLDER.format("files.shutil.rmtree = die"), target)
    assert (target / "content").read_text() == "new"
    with writing_folder(target) as new:
        (new / "content").write_text("newer")
    assert names(tmp_path) == ["target"]


def test_after_a_kill_between_two_renames_the_next_write_has_the_old_folder_again(tmp_path: Path) -> None:
    target = make_folder(tmp_path / "target", "old")
    script = """
        files._exchange = lambda first, second: False
        rename = Path.rename
        Path.rename = lambda self, to: die() if self.name.endswith(".new") else rename(self, to)
        with files.writing_folder(Path(sys.argv[1])) as new:
            (new / "content").write_text("new")
    """
    killed(script, target)
    assert not target.exists()
    with pytest.raises(LookupError), writing_folder(target):
        raise LookupError
    assert (target / "content").read_text() == "old" and names(tmp_path) == ["target"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two renames are needed")
def test_a_reader_always_finds_a_whole_folder(tmp_path: Path) -> None:
    target = make_folder(tmp_path / "target", "old")
    seen: list[bool] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append(target.is_dir())

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(200):
        with writing_folder(target) as new:
            (new / "content").write_text(str(number))
    stop.set()
    reader.join()
    assert seen and all(seen)


@pytest.mark.parametrize("ascii_only", [False, True])
def test_rows_are_written_appended_and_read_again(tmp_path: Path, ascii_only: bool) -> None:
    file = tmp_path / "rows.jsonl"
    assert read_rows(file) == []
    write_rows(file, ROWS[:1], "a", ascii_only=ascii_only)
    write_rows(file, ROWS[1:], "a", ascii_only=ascii_only)
    appended = file.read_bytes()
    assert read_rows(file) == ROWS and appended.isascii() == ascii_only
    assert appended.decode() == "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in ROWS)
    write_rows(file, iter(ROWS), ascii_only=ascii_only)
    assert file.read_bytes() == appended and names(tmp_path) == ["rows.jsonl"]


def test_a_path_that_is_no_utf_8_needs_ascii(tmp_path: Path) -> None:
    rows = [{"image": os.fsdecode(b"caf\xe9.png")}]
    with pytest.raises(UnicodeEncodeError):
        write_rows(tmp_path / "rows.jsonl", rows)
    write_rows(tmp_path / "rows.jsonl", rows, ascii_only=True)
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_an_error_while_rows_are_written_leaves_the_old_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, ROWS)
    with pytest.raises(TypeError):
        write_rows(file, [*ROWS, {"index": {1}}])
    with pytest.raises(TypeError):
        write_rows(file, [*ROWS, {"index": {1}}], "a")
    assert read_rows(file) == ROWS and names(tmp_path) == ["rows.jsonl"]


def test_a_row_that_was_cut_off_anywhere_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, ROWS)
    whole = file.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for end in range(last, len(whole)):
        file.write_bytes(whole[:end])
        assert read_rows(file) == ROWS[:2]


@pytest.mark.parametrize("damage", [b"garbage", b"[1]", b"\xff", b""])
def test_a_damaged_row_of_ours_says_how_it_is_made_again(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"index": 0}\n' + damage + b'\n{"index": 2}\n')
    with pytest.raises(ValueError, match=r"line 2 of .*rows\.jsonl is damaged .*Delete the folder .* again"):
        read_rows(file)


def number_of(row: dict[str, Any]) -> int:
    if row["number"] < 0:
        raise ValueError("its number is negative")
    return 10 * int(row["number"])


def test_rows_of_a_user_are_read_with_their_line_numbers(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"number": 1, "text": "a\u2028b"}\n\n  \n{"number": 2}', encoding="utf-8")
    assert list(read_user_rows(file, number_of)) == [(1, 10), (4, 20)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"number": -1}', "its number is negative"),
        ('{"number": "x"}', "'<' not supported"),
        ('{"other": 1}', "it has no 'number'"),
        ("[1]", "it is no JSON object"),
        ('{"number": ', "Expecting value"),
    ],
)
def test_a_wrong_row_of_a_user_is_named_with_the_problem_and_the_remedy(
    tmp_path: Path, line: str, problem: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"number": 1}}\n{line}\n')
    with pytest.raises(ValueError) as caught:
        list(read_user_rows(file, number_of, kind="a count", remedy="Take the published file"))
    message = str(caught.value)
    assert message.startswith(f"line 2 of {file} is not a count: {problem}")
    assert message.endswith(". Take the published file") and "Delete" not in message


def test_a_users_file_that_is_missing_or_no_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    with pytest.raises(FileNotFoundError):
        list(read_user_rows(file, number_of))
    file.write_bytes(b'{"number": 1}\n\xff')
    with pytest.raises(ValueError, match=r"rows\.jsonl is not UTF-8 .*Take another$") as error:
        list(read_user_rows(file, number_of, remedy="Take another"))
    assert str(error.value).count("rows.jsonl") == 1


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda raw: raw, 3),
        (lambda raw: raw[:-1], 2),
        (lambda raw: raw + b'{"index": 3, "te', 3),
        (lambda raw: raw + b"[1]\n", 3),
        (lambda raw: raw.replace(b'{"index": 1', b"\x00" * 11), 1),
        (lambda raw: raw.replace(b'"index": 1', b'"other": 1'), 1),
        (lambda raw: raw.replace(b'"index": 1', b'"index": 9'), 1),
        (lambda raw: b"", 0),
    ],
    ids=["whole", "line end", "one begun", "another row", "zeros", "a key missing", "not kept", "empty"],
)
def test_a_file_is_cut_before_its_first_row_that_is_not_kept(tmp_path: Path, damage, kept: int) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, ROWS)
    file.write_bytes(damage(file.read_bytes()))
    truncate_rows(file, lambda row: row["index"] < 9)
    assert read_rows(file) == ROWS[:kept]
    truncate_rows(tmp_path / "missing.jsonl", lambda row: True)
    assert names(tmp_path) == ["rows.jsonl"]
