"""A stage runs the code that its key was made of, whoever edits the files meanwhile."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mini_world import with_ranks

from harness.stages import ranks, sources
from harness.stages.keys import key
from harness.stages.loaded import ChangedSourceError
from harness.stages.store import StageStore
from harness.types import Stage

NUMBERS = itertools.count()
PROGRAMS = """
from pathlib import Path
DATA_FILES = ("rubric.txt",)
RESUME_FILES = ("training.pt",)

def edit(work, settings, inputs):
    trained = work.folder / "training.pt"
    if not trained.exists():
        for name, text in settings["edits"].items():
            Path(name).write_text(text)
    with (work.folder.parent / "trained").open("a") as log:
        log.write("" if trained.exists() else "x")
    trained.write_text("weights")
    if settings.get("late"):
        from {package} import late
        late.run(work)
    (work.folder / "result").write_text("done")

def nothing(work, settings, inputs): ...
"""
LATE = "def run(work): (work.folder / 'ran').write_text('original')\n"
EDITED = "def run(work): (work.folder / 'ran').write_text('edited')\n"


class Silent:
    def begin(self, stage: Stage) -> None: ...

    def wait(self, stage: Stage, owner: object) -> None: ...

    def progress(self, step: int, total: int, metrics: object) -> None: ...


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of programs; `late` is imported when `edit` has begun, and only there."""
    folder = tmp_path / f"edited_{next(NUMBERS)}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "programs.py").write_text(PROGRAMS.format(package=folder.name))
    (folder / "late.py").write_text(LATE)
    (folder / "rubric.txt").write_text("How good?")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[name]


def stage(package: Path, edits: dict[str, str], program: str = "edit", **more: Any) -> Stage:
    """A stage whose program edits these files of the package, in its first attempt."""
    settings = {"edits": {str(package / name): text for name, text in edits.items()}, **more}
    return Stage(name="grpo", program=f"{package.name}.programs.{program}", settings=settings)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("programs.py", "DATA_FILES = ('rubric.txt',)\ndef edit(work, settings, inputs): 1\n"),
        ("late.py", EDITED),
        ("late.py", "def run(:\n"),
        ("rubric.txt", "How bad?"),
    ],
)
def test_a_file_that_was_edited_meanwhile_is_named_and_the_stage_is_not_completed(
    package: Path, tmp_path: Path, file: str, text: str
) -> None:
    before = (package / file).read_text()
    store, edited = StageStore(tmp_path / "stages"), stage(package, {file: text})
    with pytest.raises(
        ChangedSourceError, match=rf"{package.name}/{file}\. .*Restore the files.*same command"
    ):
        store.make(edited, Silent())
    assert not store.is_complete(edited)
    (package / file).write_text(before)
    assert (store.make(edited, Silent()) / "result").exists()
    assert (tmp_path / "stages" / "trained").read_text() == "x", "nothing is trained again"


def test_an_edited_module_is_not_run(package: Path, tmp_path: Path) -> None:
    store, edited = StageStore(tmp_path / "stages"), stage(package, {"late.py": EDITED}, late=True)
    with pytest.raises(ChangedSourceError, match=f"{package.name}/late.py"):
        store.make(edited, Silent())
    (unfinished,) = (tmp_path / "stages").glob("grpo-*.part")
    assert not (unfinished / "ran").exists()
    (package / "late.py").write_text(LATE)
    assert (store.make(edited, Silent()) / "ran").read_text() == "original"


def test_a_later_stage_does_not_run_what_was_edited_in_an_earlier_one(package: Path, tmp_path: Path) -> None:
    first = Stage(name="x", program=f"{package.name}.programs.nothing", settings={})
    second = Stage(name="y", program=f"{package.name}.late.run", settings={}, inputs={"of": first})
    store = StageStore(tmp_path / "stages")
    planned = key(second)
    store.make(first, Silent())
    (package / "late.py").write_text(EDITED)
    with pytest.raises(ChangedSourceError, match=f"{package.name}/late.py"):
        store.make(second, Silent())
    assert key(second) == planned and not store.folder(second).exists()


def test_an_edit_that_changes_no_number_is_none(package: Path, tmp_path: Path) -> None:
    store, edited = (
        StageStore(tmp_path / "stages"),
        stage(package, {"late.py": f"# of two\n{LATE}"}, late=True),
    )
    assert (store.make(edited, Silent()) / "ran").read_text() == "original"


@pytest.mark.parametrize("file", ["rank_programs.py", "harness/types.py"])
def test_another_rank_refuses_other_code_and_names_it(tmp_path: Path, file: str) -> None:
    """The file counts; one of these the other rank has imported before it learns what it is to run."""
    program = "rank_programs.descend"
    expected = sources.digests([program])
    assert file in expected
    call = ranks.ProgramCall(
        program=program, settings={}, inputs={}, folder=str(tmp_path), sources={**expected, file: "0" * 64}
    )
    refused = pytest.raises(ranks.RankError, match=f"changed since this job began: {file}")
    with refused, with_ranks(call, 2):
        torch.distributed.barrier()


def test_ranks_of_the_same_code_complete_the_stage(tmp_path: Path) -> None:
    stage = Stage(name="x", program="rank_acts.act", settings={"0": "go", "1": "go"}, parallel=0)
    assert StageStore(tmp_path, ranks=ranks.Ranks(2)).make(stage, Silent()).is_dir()
