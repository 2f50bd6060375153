from __future__ import annotations

from itertools import pairwise

from rich.console import Console

from harness.launch.board import Board, StatusLines, line, table
from harness.stages.status import Status

RUNNING = Status(state="running", stage="grpo", step=12, total=60, reward=0.4123, eta_s=190.4)


def test_a_line_says_how_a_cell_stands():
    shown = line("w_PI-s0-1f2e3d4c", RUNNING)
    for part in ("w_PI-s0-1f2e3d4c", "running", "grpo 12/60", "reward 0.412", "ETA 3m10s"):
        assert part in shown
    assert line("a", Status(state="failed", error="Traceback\nValueError: no")).endswith("ValueError: no")
    assert "waits for process 3 on here" in line(
        "a", Status(state="waiting", stage="sft", waits_for="process 3 on here")
    )
    assert "ETA 2h05m" in line("a", Status(state="running", eta_s=7500))
    assert "ETA 5s" in line("a", Status(state="running", eta_s=5))


def test_the_table_has_a_row_for_every_cell():
    console = Console(width=120, record=True)
    console.print(table("study: [red] rewards?", {"a-s0": RUNNING, "b-s0": Status()}))
    text = console.export_text()
    assert "[red] rewards?" in text
    assert "12/60" in text and "0.412" in text and "b-s0" in text and "planned" in text


def test_without_a_terminal_a_line_comes_only_with_a_change(capsys):
    with Board("study") as board:
        for step in (1, 2, 3):
            board.show({"a": Status(state="running", stage="sft", step=step, total=3)})
        board.show({"a": Status(state="done", stage="sft")})
    assert [shown.split()[1] for shown in capsys.readouterr().out.splitlines()] == ["running", "done"]


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("harness.launch.board.time.monotonic", lambda: self.now)


def test_a_running_cell_gets_a_line_within_30_s_and_never_the_same_line_twice(capsys, monkeypatch):
    """A stage whose status does not change for hours, looked at every two seconds, as on Slurm."""
    clock = Clock(monkeypatch)
    seen: list[tuple[float, str]] = []
    with Board("study") as board:
        for _ in range(4 * 3600 // 2):
            board.show({"a": RUNNING, "b": Status(state="done")})
            seen.extend((clock.now, text) for text in capsys.readouterr().out.splitlines())
            clock.now += 2.0
    times, texts = zip(*[(at, text) for at, text in seen if text.startswith("a ")], strict=True)
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) > 20 and max(gaps) <= 30 and clock.now - times[-1] <= 30
    assert all(before != after for before, after in pairwise(texts))
    assert "elapsed" not in texts[0] and texts[1].endswith("elapsed 26s") and "elapsed 3h59m" in texts[-1]
    assert len([text for _, text in seen if text.startswith("b ")]) == 1


def test_a_new_stage_starts_a_new_time(capsys, monkeypatch):
    clock = Clock(monkeypatch)
    lines = StatusLines(5.0, print)
    for name, seconds in (("sft", 0.0), ("sft", 7.0), ("grpo", 3.0), ("grpo", 4.9), ("grpo", 0.1)):
        clock.now += seconds
        lines.show("a", Status(state="running", stage=name, step=1, total=2))
    shown = [text.split()[2:] for text in capsys.readouterr().out.splitlines()]
    assert shown == [
        ["sft", "1/2"],
        ["sft", "1/2", "elapsed", "7s"],
        ["grpo", "1/2"],
        ["grpo", "1/2", "elapsed", "5s"],
    ]


def test_the_last_line_of_a_stage_is_printed_once(capsys, monkeypatch):
    Clock(monkeypatch)
    lines = StatusLines(5.0, print)
    for step in (1, 2, 3, 3):
        lines.show("a", Status(state="running", step=step, total=3), last=step == 3)
    assert [text.split()[2] for text in capsys.readouterr().out.splitlines()] == ["1/3", "3/3"]
