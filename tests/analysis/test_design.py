"""The spread that a study is expected to have, from that of an earlier one."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.contrasts import Comparison, Contrast
from harness.analysis.design import PRIOR_RUN_SD, Deviations, expected_spread, measured_deviations
from harness.analysis.results import CellResult, StageResult, StudyResult
from harness.analysis.study import Analysis
from harness.samples import ScoreRow

CATEGORIES = ("color", "shape")
PROMPT_SD, IMAGE_SD, RUN_SD = 0.3, 0.2, 0.05

SCORED = StageResult(name="scores", key="", complete=True)


def study(
    seeds: int = 1, images: int = 1, prompts: int = 400, arms: tuple[str, ...] = ("a", "b")
) -> StudyResult:
    """Arms whose scores differ by prompt, image and run; those of the first arm by image alone."""
    random = np.random.default_rng([seeds, images])
    by_prompt = {arm: random.normal(0, PROMPT_SD, (2, prompts)) * (arm != "a") for arm in arms}
    cells = []
    for arm in arms:
        for seed in range(seeds):
            run = random.normal(0, RUN_SD) * (arm != "a")
            noise = random.normal(0, IMAGE_SD, (2, prompts, images))
            values = by_prompt[arm][:, :, None] + run + noise
            cells.append(cell(arm, seed, values))
    return StudyResult(
        name="earlier",
        study={"baseline": "a"},
        command="",
        created="",
        cells=tuple(cells),
        categories=CATEGORIES,
    )


def cell(arm: str, seed: int, values: np.ndarray) -> CellResult:
    rows = []
    for (category, prompt, number), value in np.ndenumerate(values):
        name = CATEGORIES[category]
        row = {"index": len(rows), "prompt_id": f"{name}-{prompt}", "category": name, "number": number}
        row |= {"seed": seed, "value": float(value), "unscored": None, "evidence": {}}
        rows.append(ScoreRow.from_json(row))
    return CellResult(
        id=f"{arm}{seed}", arm=arm, seed=seed, overrides=(), state="done", error=None, stages=(SCORED,),
        samples=None, scores=tuple(rows),
    )  # fmt: skip


def test_prompts_and_images_are_told_apart_where_prompts_have_several_images():
    found = measured_deviations(study(images=4))
    assert found is not None
    assert found.prompt == pytest.approx(PROMPT_SD, rel=0.1)
    assert found.image == pytest.approx(IMAGE_SD * 2**0.5, rel=0.1)  # both arms draw
    assert found.run == PRIOR_RUN_SD and "assumed, as that study has one seed" in found.source


def test_with_one_image_all_of_the_spread_is_that_of_prompts():
    found = measured_deviations(study())
    assert found is not None
    assert found.image == 0.0
    assert found.prompt == pytest.approx((PROMPT_SD**2 + 2 * IMAGE_SD**2) ** 0.5, rel=0.1)


def test_several_seeds_measure_the_spread_over_runs():
    found = measured_deviations(study(seeds=40, prompts=30))
    assert found is not None
    assert found.run == pytest.approx(RUN_SD, rel=0.35)
    assert "measured in the study earlier" in found.source and "assumed" not in found.source


def test_the_expected_errors_are_those_that_a_study_of_this_design_has():
    made = study(seeds=3, images=4)
    deviations = measured_deviations(made)
    comparison = Analysis(made).contrast(Contrast("b", "a", CATEGORIES))
    assert deviations is not None and isinstance(comparison, Comparison)
    expected = expected_spread(deviations, dict.fromkeys(CATEGORIES, 400), images=4, seeds=3)
    assert expected.prompt_error == pytest.approx(comparison.spread.prompt_error, rel=0.05)
    assert expected.run_error == pytest.approx(comparison.spread.run_error)


def test_more_images_seeds_and_prompts_shrink_the_errors():
    deviations = Deviations(prompt=0.3, image=0.4, run=0.02, source="")
    sizes = ((1, 1, 100), (4, 1, 100), (4, 2, 100), (4, 2, 200))
    errors = [
        expected_spread(deviations, {"color": prompts}, images=images, seeds=seeds).prompt_error
        for images, seeds, prompts in sizes
    ]
    assert errors == sorted(errors, reverse=True) and len(set(errors)) == 4
    assert errors[0] == pytest.approx(0.5 / 10)


def test_a_study_of_one_arm_says_nothing():
    assert measured_deviations(study(arms=("a",))) is None
