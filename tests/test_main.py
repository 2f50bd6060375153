"""The table of commands: `python -m harness COMMAND` and the console script `got-r1`."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

from harness import __main__ as commands
from harness import command

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "harness", *words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_all_are_listed_with_one_line_each(words):
    done = run(*words)
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == ["sweep", "status", "cancel", "report", "generate", "score", "doctor", "bench", "fetch"]
    assert all(purpose in done.stdout for purpose in commands.COMMANDS.values())


def test_every_module_with_a_main_is_a_command_and_none_is_missing():
    folder = ROOT / "harness"
    mains = {path.stem for path in folder.glob("*.py") if "def main(" in path.read_text()} - {"__main__"}
    assert mains | {"report"} == set(commands.COMMANDS)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_is_run_with_its_words_and_gives_its_exit_code(name, monkeypatch):
    module = importlib.import_module(commands.MODULES.get(name, f"harness.{name}"))
    seen: list[list[str]] = []
    monkeypatch.setattr(module, "main", lambda words: seen.append(words) or 7)
    assert commands.main([name, "a=1", "--flag"]) == 7
    assert seen == [["a=1", "--flag"]]


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_help(name):
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"harness.{name}" in done.stdout


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert commands.main(["scroe"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: unknown command 'scroe'. Did you mean 'score'?") and "sweep" in said


def test_the_installed_script_is_this_table():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"got-r1": "harness.__main__:main"}
    assert resolve_name(scripts["got-r1"]) is commands.main


def test_the_installed_script_reads_its_command_line(tmp_path):
    """The text of the script is what pip writes."""
    script = tmp_path / "got-r1"
    script.write_text("import sys\nfrom harness.__main__ import main\nsys.exit(main())\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, str(script), "status", "mine"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no study 'mine'" in done.stderr


def test_listing_and_status_import_only_what_they_need():
    code = """
import sys
from harness.__main__ import main
main([])
assert not {"harness.sweep", "hydra", "torch", "rich", "numpy"} & set(sys.modules)
main(["status"])
assert not {"hydra", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)


WAIT = """
import sys, time
from harness import command
def program(words):
    print("ready", flush=True)
    time.sleep(60)
sys.exit(command.run(program, [], ""))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_a_script_started_in_the_background_can_be_interrupted(sent):
    """`command &` in a shell script starts it with SIGINT ignored."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped" in errors and "Traceback" not in errors
    assert time.monotonic() - began < 30


def test_the_handlers_of_the_caller_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    inside = []

    def program(words):
        inside.append(signal.getsignal(signal.SIGTERM))

    assert command.run(program, [], "") == 0
    assert inside == [signal.default_int_handler]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
