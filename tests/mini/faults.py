"""Makes a stage again and again, each time with a fault at another write after its last step.

`python faults.py SPEC` reads root, program, settings, inputs, kind and every as JSON, and prints what came of
every n-th write. Every attempt is a process of its own. `kind` is `kill` (SIGKILL) or `full` (no room).
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from harness.stages.program import load_program
from harness.stages.store import StageStore, StorageError
from harness.types import Stage

RESUME_FILES = ("training.pt", "tokenizer.json", "parts")
WRITES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
FULL = {"open", "os.mkdir", "os.rename"}  # those that want room


def run(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """The stage program: another one, with the folders of its inputs in the settings."""
    folders = {name: Path(folder) for name, folder in settings["inputs"].items()}
    load_program(settings["program"])(work, settings["settings"], folders)


class Faults:
    """A reporter that counts the writes below `root` after the last step, and makes one of them fail."""

    def __init__(self, root: Path, kind: str, at: int | None) -> None:
        self._root, self._kind, self._at = str(root), kind, at
        self._armed = False
        self.steps: list[int] = []
        self.writes: list[str] = []
        sys.addaudithook(self._look)

    def begin(self, stage: Stage) -> None: ...

    def wait(self, stage: Stage, owner: object) -> None: ...

    def progress(self, step: int, total: int, metrics: object) -> None:
        self.steps.append(step)
        self._armed = step == total

    def _look(self, event: str, given: tuple[Any, ...]) -> None:
        if not self._armed or event not in (FULL if self._kind == "full" else WRITES):
            return
        if event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            return
        if not isinstance(given[0], str | Path) or not str(given[0]).startswith(self._root):
            return
        self.writes.append(f"{event} {Path(given[0]).name}")
        if len(self.writes) - 1 == self._at:
            note(Path(self._root), self)
            if self._kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[0]))


def note(root: Path, faults: Faults) -> None:
    faults._armed = False
    root.with_suffix(".json").write_text(json.dumps({"steps": faults.steps, "writes": faults.writes}))


def attempt(root: Path, stage: Stage, kind: str, at: int | None) -> dict[str, Any]:
    """Steps and writes of an attempt, and how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            faults = Faults(root, kind, at)
            try:
                StageStore(root).make(stage, faults)
                code = 0
            except StorageError:
                code = 3
            if at is None or len(faults.writes) <= at or code == 0:
                note(root, faults)
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"code": code, **json.loads(root.with_suffix(".json").read_text())}


def content(root: Path) -> dict[str, str]:
    """The result's files, without what differs from run to run."""
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "stage.json"]
    return {path.relative_to(folder).as_posix(): _text(path) for path in files}


def _text(path: Path) -> str:
    if path.name != "metrics.jsonl":
        return path.read_bytes().hex()
    rows = map(json.loads, path.read_text().splitlines())
    return json.dumps([{**row, "seconds": None} for row in rows])


def main(spec: dict[str, Any]) -> list[dict[str, Any]]:
    root = Path(spec["root"])
    for module in (spec["program"].rpartition(".")[0], "policies.janus.policy", "policies.janus.recipe"):
        importlib.import_module(module)  # once, not in every process
    given = {name: spec[name] for name in ("program", "settings", "inputs")}
    stage = Stage(name="x", program="faults.run", settings=given)
    whole = attempt(root / "whole", stage, spec["kind"], None)
    assert whole["code"] == 0, "undisturbed"
    saves = [at for at, write in enumerate(whole["writes"]) if ".training.pt." in write]
    found = []
    for at, write in list(enumerate(whole["writes"]))[:: spec["every"]]:
        folder = root / str(at)
        first = attempt(folder, stage, spec["kind"], at)
        again = attempt(folder, stage, spec["kind"], None)
        same = content(folder) == content(root / "whole")
        found.append({"write": write, "first": first["code"], "again": again["code"], "same": same})
        found[-1]["repeated"] = again["steps"] if first["code"] else []
        found[-1]["unsaved"] = at <= max(saves, default=-1)  # the last step's checkpoint was not written yet
    return found


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
