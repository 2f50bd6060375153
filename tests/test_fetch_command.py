"""`python -m harness.fetch` as a user calls it, with things to fetch of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness import fetch
from harness.composition import groups
from harness.paths import cache
from harness.protocols import Benchmark
from harness.stages import contents


def write(to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text("fetched")


def refuse(to: Path) -> None:
    raise ValueError("no network here: copy it by hand")


class Giver(Benchmark):
    fetches = {"thing": "test_fetch_command.write", "far": "test_fetch_command.refuse"}  # noqa: RUF012


class Other(Benchmark):
    fetches = {"thing": "test_fetch_command.refuse"}  # noqa: RUF012


class Nothing(Benchmark):
    """A benchmark that has all it needs."""


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, type]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    classes: dict[str, type] = {"given": Giver, "given_again": Giver, "nothing": Nothing}
    monkeypatch.setattr(groups, "classes", lambda group: classes if group == "benchmarks" else {})
    return classes


def test_the_list_says_what_there_is_and_where(tmp_path, capsys):
    assert fetch.main([]) == 0
    far, thing = capsys.readouterr().out.splitlines()
    assert far.split()[:3] == ["far", "not", "there"]
    assert thing.split() == [
        "thing",
        "not",
        "there",
        str(cache("thing")),
        "(benchmarks=given,",
        "given_again)",
    ]
    assert fetch.main(["thing"]) == 0
    capsys.readouterr()
    assert fetch.main([]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["thing", "there"]


def test_it_lies_in_the_cache_or_where_one_says(tmp_path, capsys):
    assert fetch.main(["thing"]) == 0
    assert cache("thing").read_text() == "fetched"
    assert capsys.readouterr().out == f"thing lies in {tmp_path / 'cache' / 'got-r1-harness' / 'thing'}\n"
    assert fetch.main([f"to={tmp_path / 'mine'}", "thing"]) == 0
    assert (tmp_path / "mine").read_text() == "fetched"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["thin"], 2, "unknown thing to fetch 'thin'. Did you mean 'thing'? Known: far, thing."),
        (["thing", "far"], 2, "write NAME, or NAME to=PLACE. NAME is one of far, thing"),
        (["to=there"], 2, "write NAME, or NAME to=PLACE"),
        (["thing", "to="], 2, "write NAME, or NAME to=PLACE"),
        (["thing", "to=a", "to=b"], 2, "to= is given twice"),
        (["--force"], 2, "unknown thing to fetch '--force'"),
        (["far"], 1, "error: no network here: copy it by hand\n"),
    ],
)
def test_mistakes_and_failures_are_told(words, code, said, capsys):
    assert fetch.main(words) == code
    assert said in capsys.readouterr().err


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert fetch.main(["thing", f"to={tmp_path / 'file' / 'thing'}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot write {tmp_path / 'file'}") and "to=PLACE" in said


def test_one_name_for_two_things_is_refused(benchmarks, capsys):
    benchmarks["other"] = Other
    assert fetch.main([]) == 1
    assert (
        "benchmarks=given and benchmarks=other both fetch 'thing', in two ways: rename one"
        in capsys.readouterr().err
    )


def test_where_nothing_is_to_be_fetched(benchmarks, capsys):
    benchmarks.clear()
    assert fetch.main([]) == 0
    assert capsys.readouterr().out == "no benchmark has anything to fetch\n"


def test_help_says_how(capsys):
    assert fetch.main(["--help"]) == 0
    assert "python -m harness.fetch NAME" in capsys.readouterr().out


def test_settings_refer_to_the_place(tmp_path):
    node = OmegaConf.create({"root": "${oc.env:NO_SUCH_VARIABLE,${fetched:thing}}"})
    assert node.root == str(tmp_path / "cache" / "got-r1-harness" / "thing")


def test_the_cache_is_below_the_home_or_else_where_temporary_files_are(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache("x") == tmp_path / ".cache" / "got-r1-harness" / "x"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache("x").parts[-2:] == ("got-r1-harness", "x")


def test_digests_of_large_files_lie_in_the_same_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(contents, "LARGE", 1)
    (tmp_path / "weights").write_text("large")
    digest = contents.file_digest(tmp_path / "weights")
    assert [file.read_text() for file in cache("digests").iterdir()] == [digest]
