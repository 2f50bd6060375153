from __future__ import annotations

from rich.console import Console

from harness.launch.board import Board, line, table
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
