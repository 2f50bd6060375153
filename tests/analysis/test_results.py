from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from harness.analysis.results import StudyResult, read_study
from harness.types import Metric


def write_json(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def write_study(outputs: Path, status: dict[str, object] | None, *, complete: bool) -> Path:
    """A study of one cell with a grpo and a scores stage."""
    folder = outputs / "studies" / "tiny"
    stages = [
        {"name": name, "key": "1f", "folder": f"stages/{name}-1f"} for name in ("grpo", "samples", "scores")
    ]
    cell = {
        "id": "c0",
        "arm": "full",
        "seed": 0,
        "overrides": ["seed=0"],
        "folder": "cells/c0",
        "stages": stages,
    }
    published = {"columns": ["color", "shape"], "rows": {"full": [0.5, None]}}
    study = {"name": "tiny", "baseline": "baseline", "full": "full", "published": published, "claims": {}}
    write_json(folder / "plan.json", {"study": study, "command": "sweep", "created": "now", "cells": [cell]})
    if status is not None:
        write_json(folder / "cells" / "c0" / "status.json", status)
    (outputs / "stages/grpo-1f.part").mkdir(parents=True)
    (outputs / "stages/grpo-1f.part/metrics.jsonl").write_text(
        '{"step": 0, "reward": 0.5}\n{"step": 1, "rew', encoding="utf-8"
    )
    scored = outputs / ("stages/scores-1f" if complete else "stages/scores-1f.part")
    row = {
        "index": 0,
        "prompt_id": "p\u2028",
        "category": "color",
        "number": 0,
        "seed": 1,
        "value": None,
        "unscored": "no answer",
        "evidence": {},
    }
    scored.mkdir()
    (scored / "scores.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    if complete:
        write_json(scored / "stage.json", {"seconds": 3})
    return folder


def test_a_measured_cell_keeps_unscored_rows_as_unscored(tmp_path):
    study = read_study(write_study(tmp_path, {"state": "done", "error": None}, complete=True))
    (cell,) = study.cells
    assert cell.measured and cell.state == "done"
    assert cell.scores is not None
    assert (cell.scores[0].value, cell.scores[0].unscored, cell.scores[0].prompt_id) == (
        None,
        "no answer",
        "p\u2028",
    )
    assert study.categories == ("color",)
    assert study.published == {"full": {"color": 0.5}}


def test_a_failed_cell_has_no_scores_even_if_some_were_written(tmp_path):
    (cell,) = read_study(
        write_study(tmp_path, {"state": "failed", "error": "RuntimeError: boom"}, complete=False)
    ).cells
    assert (cell.state, cell.error, cell.scores, cell.samples) == ("failed", "RuntimeError: boom", None, None)


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": []}'])
def test_a_damaged_plan_is_named_with_the_remedy(tmp_path, text):
    folder = write_study(tmp_path, {"state": "done"}, complete=True)
    (folder / "plan.json").write_text(text)
    with pytest.raises(ValueError, match=r"plan\.json is damaged .*command again.*no result is lost"):
        read_study(folder)


def test_a_damaged_line_is_named_and_hides_none_after_it(tmp_path):
    folder = write_study(tmp_path, {"state": "done"}, complete=True)
    scores = tmp_path / "stages/scores-1f/scores.jsonl"
    scores.write_text("garbage\n" + scores.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"line 1 of .*scores\.jsonl is damaged.*Delete the folder .*scores-1f"
    ):
        read_study(folder)


def test_an_unreadable_status_hides_no_result(tmp_path):
    folder = write_study(tmp_path, {"state": "done"}, complete=True)
    for text in ("{", "[]"):
        (folder / "cells" / "c0" / "status.json").write_text(text)
        assert read_study(folder).cells[0].measured


def test_metrics_of_an_unfinished_stage_are_read_up_to_the_line_being_written(tmp_path):
    (cell,) = read_study(write_study(tmp_path, {"state": "running"}, complete=False)).cells
    grpo = cell.stages[0]
    assert not grpo.complete
    assert grpo.metrics == ({"step": 0, "reward": 0.5},)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (None, "planned"),
        ({"state": "stopped"}, "stopped"),
        ({"state": "done", "error": None}, "lost"),
        ({"state": "running", "pid": 2**22 + 1, "host": socket.gethostname()}, "lost"),
    ],
)
def test_what_became_of_a_cell_without_scores(tmp_path, status, state):
    (cell,) = read_study(write_study(tmp_path, status, complete=False)).cells
    assert (cell.state, cell.measured) == (state, False)


def test_a_complete_scores_stage_counts_whoever_made_it(tmp_path):
    (cell,) = read_study(write_study(tmp_path, {"state": "planned"}, complete=True)).cells
    assert cell.measured and cell.state == "done"


def test_an_unknown_study_is_answered_with_the_known_ones(tmp_path):
    write_study(tmp_path, None, complete=False)
    with pytest.raises(ValueError, match=r"no study 'other' .*known: tiny"):
        read_study(tmp_path / "studies" / "other")
    with pytest.raises(ValueError, match="none was run yet"):
        read_study(tmp_path / "elsewhere" / "other")


def said(*labels: str, name: str = "BLIP-VQA", **rest: object) -> dict[str, object]:
    """An entry of metric.json."""
    return {"name": name, "labels": list(labels), "notes": [], "mirror": None, **rest}


def write_arms(
    outputs: Path, metrics: list[dict[str, object] | None], categories: list[str] | None = None
) -> StudyResult:
    """A study of an arm for each metric.json, all with one color and one shape image; read back."""
    folder = outputs / "studies" / "arms"
    cells = []
    for number, metric in enumerate(metrics):
        stages = [
            {"name": name, "key": str(number), "folder": f"stages/{name}-{number}"}
            for name in ("samples", "scores")
        ]
        cells.append(
            {
                "id": f"c{number}",
                "arm": f"arm{number}",
                "seed": 0,
                "overrides": [],
                "folder": f"cells/c{number}",
                "stages": stages,
            }
        )
        for stage in stages:
            write_json(outputs / stage["folder"] / "stage.json", {"seconds": 3})
        common = [
            {"index": index, "prompt_id": f"{category}-0", "category": category, "number": 0, "seed": 1}
            for index, category in enumerate(("color", "shape"))
        ]
        drawn = [
            {
                **row,
                "prompt": "p",
                "facts": {},
                "chain": "",
                "faults": [],
                "truncated": False,
                "image": "0.png",
            }
            for row in common
        ]
        scored = [{**row, "value": 0.5, "unscored": None, "evidence": {}} for row in common]
        for stage, rows in zip(stages, (drawn, scored), strict=True):
            file = outputs / stage["folder"] / f"{stage['name']}.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        if metric is not None:
            write_json(outputs / f"stages/scores-{number}/metric.json", metric)
    study = {
        "name": "arms",
        "categories": categories,
        "published": {"columns": ["color"], "rows": {"arm0": [0.5]}},
    }
    write_json(folder / "plan.json", {"study": study, "command": "sweep", "created": "now", "cells": cells})
    return read_study(folder)


def test_what_is_said_of_a_metric_is_read(tmp_path):
    mirror = {
        "verdict": "blind",
        "score": 0.5,
        "mirrored": 0.5,
        "drop": 0.0,
        "low": None,
        "high": None,
        "images": 1,
        "prompts": 1,
    }
    nothing = said(name="")
    study = write_arms(
        tmp_path,
        [
            {"color": said("np=rules", notes=["guidance 5"], mirror=mirror), "shape": nothing},
            {"color": said("np=rules")},
        ],
    )
    facts = study.cells[0].metrics["color"]
    assert (facts.metric, facts.notes, facts.mirror) == (
        Metric(name="BLIP-VQA", labels=("np=rules",)),
        ("guidance 5",),
        mirror,
    )
    assert list(study.cells[0].metrics) == ["color"]  # of shape nothing is said
    assert (study.categories, study.split) == (("color", "shape"), {})


def test_without_metrics_nothing_is_said_and_nothing_split(tmp_path):
    study = write_arms(tmp_path, [None, {"color": said(name=""), "shape": said(name="")}])
    assert [dict(cell.metrics) for cell in study.cells] == [{}, {}]
    assert (study.categories, study.split) == (("color", "shape"), {})


@pytest.mark.parametrize("categories", [None, ["color", "shape"]])
def test_unequal_metrics_never_share_a_column(tmp_path, categories):
    metrics = [
        {"color": said("mode=official", np), "shape": said()}
        for np in ("np=rules", "np=en_core_web_sm 3.5.0", "np=rules")
    ]
    study = write_arms(tmp_path, metrics, categories)
    rules, model = "color [np=rules]", "color [np=en_core_web_sm 3.5.0]"
    assert study.categories == (rules, model, "shape")
    assert study.split == {"color": (rules, model)}
    assert [study.category_of(column) for column in study.categories] == ["color", "color", "shape"]
    for cell, column in zip(study.cells, (rules, model, rules), strict=True):
        assert [row.category for row in cell.scores or ()] == [column, "shape"]
        assert [row.category for row in cell.samples or ()] == [column, "shape"]
        assert list(cell.metrics) == [column, "shape"]
    assert study.published == {"arm0": {"color": 0.5}}


def test_a_metric_beside_none_is_another_one(tmp_path):
    study = write_arms(tmp_path, [{"color": said()}, None])
    assert study.categories == ("color [BLIP-VQA]", "color [metric not stated]", "shape")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"color": 3}', '{"color": {"name": "VQA"}}', '{"color": {"name": "VQA", "labels": null}}'],
)
def test_a_damaged_metric_is_named_with_the_remedy(tmp_path, text):
    folder = write_study(tmp_path, {"state": "done"}, complete=True)
    (tmp_path / "stages/scores-1f/metric.json").write_text(text)
    with pytest.raises(ValueError, match=r"metric\.json is damaged .*Delete the folder .*scores-1f"):
        read_study(folder)
