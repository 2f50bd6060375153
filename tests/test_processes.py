"""The helper for external commands: no answer is a value, never an error, and never late."""

import time
from pathlib import Path

import pytest

from harness.processes import Answer, ask, threads


def test_the_answer_of_a_command_that_ends(tmp_path: Path) -> None:
    answer = ask(["sh", "-c", "pwd; echo bad >&2; exit 3"], folder=tmp_path)
    assert answer == Answer(code=3, output=f"{tmp_path.resolve()}\n", errors="bad\n")


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    answer = ask(["printf", r"caf\351"])
    assert answer is not None
    assert answer.output == "caf\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("command", [["no-such-command-here"], ["/"], ["/etc/passwd"], ["echo", "a\0b"]])
def test_a_command_that_cannot_be_started_gives_no_answer(command: list[str]) -> None:
    assert ask(command) is None


def test_a_folder_that_is_not_there_gives_no_answer(tmp_path: Path) -> None:
    assert ask(["pwd"], folder=tmp_path / "gone") is None


@pytest.mark.parametrize("hang", ["sleep 60", "sleep 60 & exit 0"])
def test_a_command_that_hangs_gives_no_answer_and_is_killed(hang: str) -> None:
    started = time.monotonic()
    assert ask(["sh", "-c", hang], timeout_s=0.3) is None
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("value", "expected"),
    [("4", 4), (" 4 ", 4), ("4,2", 4), ("", None), ("0", None), ("many", None), ("-1", None), (None, None)],
)
def test_the_threads_are_those_that_openmp_would_read(monkeypatch, value, expected) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads() == expected
