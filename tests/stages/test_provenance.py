"""What git and the system tell of a result, and what is not known where they do not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import processes
from harness.report.origin import _commit
from harness.stages import program, provenance

REAL_GIT = shutil.which("git")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, which holds the module."""
    file = tmp_path / "repository" / "provenance.py"
    file.parent.mkdir()
    file.write_text("")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=file.parent, check=True)
    monkeypatch.setattr(provenance, "__file__", str(file))
    provenance._checkout.cache_clear()
    yield file.parent
    provenance._checkout.cache_clear()


@pytest.fixture
def git(tmp_path, monkeypatch):
    """`git(word, text)` makes a git that runs the shell text where its command is that word."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def program(word: str, text: str) -> None:
        (folder / "git").write_text(
            f'#!/bin/sh\ncase "$*" in *{word}*) {text};; esac\nexec {REAL_GIT} "$@"\n'
        )
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return program


def test_a_clean_and_an_edited_checkout(checkout: Path, monkeypatch) -> None:
    head, dirty = provenance.commit()
    assert head and dirty is False and provenance._checkout()[2] is None
    (checkout / "provenance.py").write_text("edited")
    provenance._checkout.cache_clear()
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook
    assert provenance.commit() == (head, True)


@pytest.mark.parametrize("text", ["exec sleep 60", "echo 'fatal: index file corrupt' >&2; exit 128"])
def test_a_git_status_without_an_answer_is_not_read_as_no_edits(checkout, git, monkeypatch, text) -> None:
    monkeypatch.setattr(provenance, "ask", lambda words, **more: processes.ask(words, timeout_s=1.0, **more))
    git("status", text)
    head, dirty = provenance.commit()
    assert head and dirty is None
    assert "whether files differ" in provenance.unknown()[-1]
    assert provenance.record()["dirty"] is None
    assert _commit(provenance.record()) == f"{head}, local changes not known"


@pytest.mark.parametrize("word", ["rev-parse", "ls-files"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exec sleep 60", "no answer within"),
        ("echo 'fatal: detected dubious ownership in repository' >&2; exit 128", "dubious ownership"),
    ],
)
def test_a_commit_that_git_does_not_tell_is_not_known(checkout, git, monkeypatch, word, text, said) -> None:
    monkeypatch.setattr(provenance, "ask", lambda words, **more: processes.ask(words, timeout_s=1.0, **more))
    git(word, text)
    assert provenance.commit() == (None, None)
    assert "the commit of the code" in provenance.unknown()[-1] and said in provenance.unknown()[-1]


def test_a_git_that_answers_something_else_tells_no_commit(checkout, git) -> None:
    git("rev-parse", "echo 'hint: use another git'; exit 0")
    assert provenance.commit() == (None, None) and "hint: use another" in provenance.unknown()[-1]


def test_without_git_the_commit_is_not_known(checkout, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert provenance.commit() == (None, None) and "git is not installed" in provenance.unknown()[-1]


def test_outside_a_checkout_nothing_is_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a.py"))
    monkeypatch.setattr(provenance, "ask", None)
    provenance._checkout.cache_clear()
    assert provenance._checkout() == (None, None, None)
    provenance._checkout.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"commit": "c0ffee", "dirty": true, "digest": "0123", "files": 3}', ("c0ffee", True, "0123")),
        ('{"commit": null, "dirty": null, "digest": "0123"}', (None, None, "0123")),
        ("[1, 2]", (None, None, None)),
        ('{"a file": "of somebody else"}', (None, None, None)),
        ("{", (None, None, None)),
    ],
)
def test_frozen_code_has_the_commit_that_its_snapshot_names(tmp_path, monkeypatch, text, expected) -> None:
    (tmp_path / "snapshot.json").write_text(text)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "harness" / "stages" / "provenance.py"))
    monkeypatch.setattr(provenance, "snapshot", provenance.snapshot.__wrapped__)
    monkeypatch.setattr(provenance, "_checkout", provenance._checkout.__wrapped__)
    record = provenance.record()
    assert (record["commit"], record["dirty"], record["code"]) == expected
    assert provenance.commit() == expected[:2]


@pytest.mark.parametrize("answer", [None, KeyError("Version")])
def test_a_package_with_cut_metadata_has_an_unknown_version(monkeypatch, answer) -> None:
    def version(name: str) -> str | None:
        if isinstance(answer, KeyError):
            raise answer
        return answer

    monkeypatch.setattr("importlib.metadata.version", version)
    assert provenance.versions.__wrapped__()["torch"] == "unknown"


@pytest.mark.parametrize("text", ["", "VmHWM:", "VmHWM: unknown kB", "VmHWM:\t-"])
def test_a_proc_of_another_form_gives_the_memory_of_the_system_call(monkeypatch, text) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **_: text)
    assert program.peak_memory_mb() > 0


def test_a_main_memory_that_the_system_does_not_report(monkeypatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: -1 if name == "SC_PHYS_PAGES" else 4096)
    assert provenance.memory_gb() is None
    assert "the main memory: the system does not report it" in provenance.unknown()
