from __future__ import annotations

from dataclasses import replace

import pytest
from mini_world import ROLLOUT, sft_settings

from harness.stages.keys import key
from harness.stages.store import StageStore
from harness.study.cell import with_inputs
from harness.study.memory import GB, estimate
from harness.study.planning import Study
from harness.study.tasks import tasks_of
from harness.types import Cell, Stage


def _stage(name: str, *inputs: Stage, **settings: object) -> Stage:
    return Stage(
        name=name, program="json.dumps", settings=settings, inputs={stage.name: stage for stage in inputs}
    )


def _study(root, *ends: Stage) -> Study:
    cells = tuple(
        Cell(
            id=f"cell{number}",
            arm="a",
            seed=number,
            overrides=(),
            config={},
            stages=tuple(with_inputs([end]).values()),
        )
        for number, end in enumerate(ends)
    )
    return Study(
        name="s",
        facts={},
        command="",
        folder=root / "studies" / "s",
        store=StageStore(root / "stages"),
        cells=cells,
    )


def _complete(study: Study, stage: Stage) -> None:
    study.store.folder(stage).mkdir(parents=True)
    (study.store.folder(stage) / "stage.json").write_text("{}")


BASE = _stage("base")
WARM = _stage("warm", BASE)
ENDS = [_stage("scores", _stage("climb", WARM, gain=gain)) for gain in (1, 2)]


def test_a_shared_stage_is_made_once_and_before_the_cells_with_what_leads_to_it(tmp_path):
    shared, *cells = tasks_of(_study(tmp_path, *ENDS))
    assert shared.shared and shared.stage == WARM
    assert [task.name for task in cells] == ["cell0", "cell1"]
    assert all(task.needs == (shared.name,) for task in cells)


def test_a_stage_shared_by_more_cells_than_its_successor_has_a_task_of_its_own(tmp_path):
    study = _study(tmp_path, *ENDS, _stage("scores", BASE))
    tasks = tasks_of(study)
    assert [task.name for task in tasks[:2]] == [f"base-{key(BASE)}", f"warm-{key(WARM)}"]
    assert tasks[1].needs == (tasks[0].name,)
    assert tasks[-1].needs == (tasks[0].name,)


def test_what_is_complete_needs_no_task(tmp_path):
    study = _study(tmp_path, *ENDS)
    _complete(study, WARM)
    assert [task.name for task in tasks_of(study)] == ["cell0", "cell1"]
    _complete(study, ENDS[0])
    assert [(task.name, task.needs) for task in tasks_of(study)] == [("cell1", ())]


def test_nothing_is_shared_with_one_cell(tmp_path):
    (task,) = tasks_of(_study(tmp_path, ENDS[0]))
    assert task.stage == ENDS[0] and not task.shared


def test_cells_with_the_same_settings_share_everything(tmp_path):
    shared, first, second = tasks_of(_study(tmp_path, ENDS[0], ENDS[0]))
    assert shared.name.startswith("scores-")
    assert first.needs == second.needs == (shared.name,)


def test_a_task_says_what_two_processes_need_where_they_would_change_no_bit(tmp_path):
    settings = sft_settings(batch_size=4)
    start = Stage(name="tokenizer", program="json.dumps", settings={}, halves=True)
    sft = Stage(
        name="sft",
        program="harness.trainers.sft.train",
        settings=settings,
        inputs={"start": start},
        parallel=4,
        halves=True,
    )
    study = _study(tmp_path, *(_stage("climb", sft, gain=gain) for gain in (1, 2)))
    config = {"rollout": ROLLOUT}
    study = replace(study, cells=tuple(replace(cell, config=config) for cell in study.cells))
    shared, *cells = tasks_of(study)
    each = estimate(sft, config, study.store, processes=2, gpu=False)
    assert each is not None and shared.halves_gb == pytest.approx(2 * each.peak / GB)
    assert [cell.halves_gb for cell in cells] == [None, None], "their own stages have no halves"
    (alone,) = tasks_of(_study(tmp_path, _stage("climb", start)))
    assert alone.halves_gb == 0, "its size is not known"
