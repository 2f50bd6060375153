"""The stage `votes`: every judge is asked everything once, also after a kill, and the costs are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mini_written
import pytest

from harness.chain_rows import INDEX
from harness.files import read_rows, write_rows
from harness.preference import votes
from harness.stages.store import StageStore
from harness.types import Stage
from harness.votes import ORDERS, VoteRow

ROOT = Path(__file__).resolve().parents[2]
QUESTION = {"ties": True, "rubric": None, "layouts": False}
COUNTED = {"_target_": "mini_judges.Counted"}
EXACT = {"_target_": "benchmarks.shapes.oracle.OracleJudge"}
PROMPTS = 80

MAKE = """
import json, sys
from harness.stages.store import StageStore
from harness.types import Stage

class Reporter:
    begin = wait = progress = staticmethod(lambda *given: None)

def stage(given):
    inputs = {name: stage(one) for name, one in given.pop("inputs").items()}
    return Stage(inputs=inputs, **given)

StageStore(sys.argv[1]).make(stage(json.loads(sys.argv[2])), Reporter())
"""


class Work:
    """A workspace that remembers the progress."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[tuple[int, int]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def progress(self, step, total, metrics=None) -> None:
        self.steps.append((step, total))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The chains of two arms for the same prompts; those of `y` are wrong more often."""
    folder, inputs = tmp_path_factory.mktemp("chains"), {}
    for name, wrong in (("x", 1), ("y", 5)):
        (folder / name).mkdir()
        mini_written.write(Work(folder / name), {"prompts": PROMPTS, "wrong": wrong}, {})
        inputs[name] = folder / name
    return inputs


def settings(**judges: Any) -> dict[str, Any]:
    return {"pair": ["full", "base"], "judges": judges, "question": QUESTION}


def asked(folder: Path, inputs: dict[str, Path], **judges: Any) -> Work:
    work = Work(folder)
    votes.ask(work, settings(**judges), inputs)
    return work


def read(work: Work) -> list[VoteRow]:
    return [VoteRow.from_json(row) for row in read_rows(work.folder / "votes.jsonl")]


def cost(work: Work) -> dict[str, Any]:
    return json.loads((work.folder / "cost.json").read_text())


def test_every_judge_answers_every_question_in_both_orders(tmp_path, written):
    work = asked(tmp_path / "work", written, counted=COUNTED, oracle=EXACT)
    rows = read(work)
    assert [row.index for row in rows] == list(range(4 * PROMPTS))
    assert [row.judge for row in rows] == ["counted"] * 2 * PROMPTS + ["oracle"] * 2 * PROMPTS
    seen = {(row.judge, row.prompt_id, row.number, row.order) for row in rows}
    assert len(seen) == len(rows) and {order for *_, order in seen} == set(ORDERS)
    assert {(row.x, row.y) for row in rows} == {("full", "base")}
    assert work.steps[-1] == (len(rows), len(rows)) and len(work.steps) == 5
    assert list(rows[0].to_json()) == list(read_rows(work.folder / "votes.jsonl")[0]), "and nothing else"


def test_the_estimate_is_made_before_and_the_spending_counted_after(tmp_path, written, capsys):
    work = asked(tmp_path / "work", written, counted={**COUNTED, "max_tokens": 20}, oracle=EXACT)
    found = cost(work)["counted"]
    assert found["spent"] == {
        "questions": 160,
        "retries": 0,
        "tokens_in": 16_000,
        "tokens_out": 1_600,
        "money": pytest.approx(0.32),
    }
    assert found["estimate"]["questions"] == 160 and found["estimate"]["tokens_out"] == 3_200
    assert found["estimate"]["money"] > found["estimate"]["tokens_in"] * 10 / 1e6
    assert cost(work)["oracle"]["spent"]["tokens_in"] is None
    printed = capsys.readouterr().out
    assert "judge counted, at most and without repeated questions: 160 questions, " in printed
    assert printed.index("at most") < printed.index("all 160 answers are votes")


def test_unreadable_answers_are_asked_for_once_more_and_counted(tmp_path, written, capsys):
    work = asked(tmp_path / "work", written, counted={**COUNTED, "unreadable": 10})
    missing = [row for row in read(work) if row.vote is None]
    assert missing and {row.attempt for row in missing} == {1}
    assert cost(work)["counted"]["spent"]["retries"] == len(missing)
    assert f"{len(missing)} of 160 questions unreadable" in capsys.readouterr().out


def test_a_resumed_stage_asks_only_what_is_missing_and_writes_the_same(tmp_path, written):
    whole = asked(tmp_path / "whole", written, counted=COUNTED, oracle=EXACT)
    parts = read_rows(whole.folder / "parts" / "0.jsonl")
    resumed = tmp_path / "resumed"
    (resumed / "parts").mkdir(parents=True)
    write_rows(resumed / "parts" / "0.jsonl", parts[:128])
    with (resumed / "parts" / "0.jsonl").open("a") as stream:
        stream.write('{"index": 128, "prom')
    work = asked(resumed, written, counted=COUNTED, oracle=EXACT)
    assert work.steps[0] == (192, 320)
    for name in ("votes.jsonl", "cost.json"):
        assert (resumed / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_killed_stage_ends_with_the_same_bytes(tmp_path):
    def stage(**judge: Any) -> Stage:
        inputs = {"x": mini_written.chains(prompts=PROMPTS, wrong=1)}
        inputs["y"] = mini_written.chains(prompts=PROMPTS, wrong=5)
        given = settings(counted={**COUNTED, **judge})
        return Stage(name="votes", program="harness.preference.votes.ask", settings=given, inputs=inputs)

    def make(root: Path, made: Stage) -> subprocess.CompletedProcess[str]:
        def plain(one: Stage) -> dict[str, Any]:
            inputs = {name: plain(source) for name, source in one.inputs.items()}
            return {"name": one.name, "program": one.program, "settings": one.settings, "inputs": inputs}

        command = [sys.executable, "-c", MAKE, str(root), json.dumps(plain(made))]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "mini")])
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)

    undisturbed = stage()
    assert make(tmp_path / "one", undisturbed).returncode == 0
    killed = stage(stop_after=64, flag=str(tmp_path / "flag"))
    assert make(tmp_path / "two", killed).returncode == -9
    folder = StageStore(tmp_path / "two").folder(killed)
    assert len(read_rows(folder.with_name(f"{folder.name}.part") / "parts" / "0.jsonl")) == 64
    ended = make(tmp_path / "two", killed)
    assert ended.returncode == 0, ended.stderr
    expected = StageStore(tmp_path / "one").folder(undisturbed)
    for name in ("votes.jsonl", "cost.json"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    assert not (folder / "parts").exists()


def test_arms_with_other_prompts_are_refused_by_name(tmp_path, written):
    (tmp_path / "fewer").mkdir()
    rows = read_rows(written["y"] / INDEX)
    write_rows(tmp_path / "fewer" / INDEX, rows[:-1])
    with pytest.raises(ValueError, match=r"full and base were planned for different prompts .*only full has"):
        asked(tmp_path / "work", {"x": written["x"], "y": tmp_path / "fewer"}, counted=COUNTED)


def test_rows_of_other_questions_are_refused(tmp_path, written):
    whole = asked(tmp_path / "whole", written, counted=COUNTED, oracle=EXACT)
    (tmp_path / "fewer" / "parts").mkdir(parents=True)
    parts = (whole.folder / "parts" / "0.jsonl").read_text()
    (tmp_path / "fewer" / "parts" / "0.jsonl").write_text(parts)
    with pytest.raises(ValueError, match="are not those of 160 questions: delete it"):
        asked(tmp_path / "fewer", written, counted=COUNTED)
