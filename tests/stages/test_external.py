"""What was made while external files changed is neither completed nor resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.stages.external import ChangedExternalError
from harness.stages.store import StageStore
from harness.types import Stage

PROGRAM = """
from pathlib import Path
RESUME_FILES = ("rows",)
def run(work, settings, inputs):
    data, rows = Path(settings["data"]), work.folder / "rows"
    edit = data.with_name("edit")
    while not rows.exists() or len(rows.read_text()) < 4:
        with rows.open("a") as stream:
            stream.write(data.read_text())
        if edit.exists() and len(rows.read_text()) == 2:
            if edit.read_text() == "remove":
                data.unlink()
                return
            data.write_text("b")
            if edit.read_text() == "raise":
                raise KeyError("a row of the edited file")
    (work.folder / "result").write_text(rows.read_text())
"""


class Silent:
    def begin(self, stage: Stage) -> None: ...

    def wait(self, stage: Stage, owner: object) -> None: ...

    def progress(self, step: int, total: int, metrics: object) -> None: ...


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StageStore, Stage]:
    """A store, and a stage that reads `data` four times. After the second time it does what `edit` says."""
    name = f"reads_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "data").write_text("a")
    data = str(tmp_path / "data")
    stage = Stage(name="tokens", program=f"{name}.run", settings={"data": data}, external=(data,))
    return StageStore(tmp_path / "stages"), stage


@pytest.mark.parametrize("edit", ["write", "remove", "raise"])
def test_a_stage_whose_external_file_was_edited_is_not_resumed_when_it_is_restored(
    made: tuple[StageStore, Stage], tmp_path: Path, edit: str
) -> None:
    store, stage = made
    (tmp_path / "edit").write_text(edit)
    with pytest.raises(ChangedExternalError, match=r"are removed\. Run the same command") as error:
        store.make(stage, Silent())
    assert f"changed while the stage was made: {stage.external[0]}." in str(error.value)
    assert not list((tmp_path / "stages").glob("tokens-*[!k]"))
    (tmp_path / "edit").unlink()
    (tmp_path / "data").write_text("a")
    assert (store.make(stage, Silent()) / "result").read_text() == "aaaa", "nothing of the edited file"


def test_a_stage_whose_external_files_stay_is_completed(
    made: tuple[StageStore, Stage], tmp_path: Path
) -> None:
    store, stage = made
    shutil.copy(tmp_path / "data", tmp_path / "copy")
    shutil.move(tmp_path / "copy", tmp_path / "data")  # another file with the same content
    assert (store.make(stage, Silent()) / "result").read_text() == "aaaa"


def test_a_file_that_changes_before_the_stage_begins_is_refused_too(
    made: tuple[StageStore, Stage], tmp_path: Path
) -> None:
    store, stage = made

    class Editing(Silent):
        def begin(self, stage: Stage) -> None:
            (tmp_path / "data").write_text("b")

    with pytest.raises(ChangedExternalError, match="since this job began"):
        store.make(stage, Editing())
    assert not list((tmp_path / "stages").glob("tokens-*[!k]"))
