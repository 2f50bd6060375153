"""The comparison of arms on chosen prompts: which prompts, which images, and what stands below them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.report.__main__ import main

Change = Callable[[dict[str, Any]], Mapping[str, Any]]

FOUND = [{"label": "blue ring", "box": [600, 600, 900, 900], "score": 0.9}]


def change_rows(study, stage: str, arm: str, change: Change) -> None:
    """Change every row of a stage of an arm's first seed."""
    file = study.outputs / "stages" / f"{stage}-{list(study.arms).index(arm)}0ab" / f"{stage}.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, **change(row)}) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def study(fake_study):
    """Three prompts per category, one of them scored by hand; w_PI failed."""
    study = fake_study(seeds=(0,), prompts=3, states={("w_PI", 0): ("failed", "full disk")})
    study.write()
    full = {0: 0.6, 1: 0.9, 2: 0.9, 3: 1.0, 4: 0.5, 5: 0.4}
    baseline = {0: 0.4, 1: 0.2, 2: 0.5, 3: None, 4: 0.3, 5: 0.1}
    change_rows(study, "scores", "full", lambda row: {"value": full[row["index"]]})
    change_rows(
        study,
        "scores",
        "baseline",
        lambda row: {
            "value": baseline[row["index"]],
            "unscored": "no answer" if baseline[row["index"]] is None else None,
        },
    )
    return study


@pytest.fixture
def compare(study):
    """`compare("full>baseline", ...)`: the comparison.md that the command writes."""

    def run(*words: str) -> str:
        reports = study.root / "reports"
        assert main([study.name, "--outputs", str(study.outputs), "--reports", str(reports), *words]) == 0
        return (reports / "fake-comparison" / "comparison.md").read_text(encoding="utf-8")

    return run


def shown(page: str) -> list[int]:
    """The numbers of the prompts on a page, in its order."""
    return [int(number) for number in re.findall(r"^### (\d+):", page, re.MULTILINE)]


def test_right_against_wrong_by_falling_difference_then_in_the_order_of_the_prompts(compare) -> None:
    page = compare("--compare", "full>baseline")
    # 2 is right in both, 3 is unscored in one, 5 is wrong in both; 0 and 4 differ by 0.2
    assert shown(page) == [1, 0, 4]
    assert "The 3 of 6 prompts where the image of full is right" in page
    assert shown(compare("--compare", " baseline > full ")) == []


def test_the_pair_stands_first_and_the_other_arms_follow(compare) -> None:
    assert "| | full | baseline | w\\_PI |" in compare("--compare", "full>baseline")
    assert "| | full | baseline |" in compare("--compare", "full>baseline", "--arms", "baseline")
    assert "| | w\\_PI | full |" in compare("--compare", "1", "--arms", "w_PI,full")


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        ("4", [4]),
        ("2d-SPATIAL", [3, 4, 5]),
        ("a red circle color-001", [1]),
        ("color-002", [2]),
        ("circle color", [0, 1, 2]),
    ],
)
def test_prompts_by_number_category_text_id_and_words(compare, choice: str, numbers: list[int]) -> None:
    assert shown(compare("--compare", choice)) == numbers


def test_choices_are_sections_in_their_order_each_with_so_many_prompts(compare) -> None:
    page = compare("--compare", "2D-spatial", "--compare", "1", "--count", "2")
    assert shown(page) == [3, 4, 1]
    assert "The 3 prompts of this category. Shown: the first 2." in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare", "fulll>baseline"], "unknown arm 'fulll'. Did you mean 'full'?"),
        (["--compare", "full>"], "unknown arm ''"),
        (["--compare", "1", "--arms", "ful"], "unknown arm 'ful'. Did you mean 'full'?"),
        (["--compare", "w_PI>full"], "arm w_PI has no scored images to compare: it is failed"),
        (["--compare", "6"], "--compare=6: give the number of a prompt, 0 to 5"),
        (["--compare", "full"], "--compare=full: give two arms in quotes"),
        (["--compare", "colour"], "Did you mean 'color'?"),
        (["--compare", "a red circel color-001"], "Did you mean 'a red circle color-001'?"),
        (["--compare", ""], "no prompt matches. Give a number from 0 to 5"),
    ],
    ids=str,
)
def test_what_is_not_in_the_study_is_refused_and_nothing_is_written(study, capsys, words, message) -> None:
    reports = study.root / "reports"
    assert main([study.name, "--outputs", str(study.outputs), "--reports", str(reports), *words]) == 1
    assert message in capsys.readouterr().err
    assert not reports.exists()


@pytest.mark.parametrize("words", [["--arms", "full"], ["--count", "3"], ["--compare", "1", "--count", "0"]])
def test_options_that_say_nothing_are_refused(study, words) -> None:
    with pytest.raises(SystemExit):
        main([study.name, "--outputs", str(study.outputs), *words])


def test_a_study_without_images_says_so(fake_study, capsys) -> None:
    arms = ("baseline", "w_PI", "full")
    study = fake_study(seeds=(0,), states={(arm, 0): ("running", None) for arm in arms})
    study.write()
    assert main([study.name, "--outputs", str(study.outputs), "--compare", "1"]) == 1
    assert "study fake has no scored images to compare yet" in capsys.readouterr().err


def test_the_report_stays_as_it_is_and_a_report_leaves_the_comparison(study, compare) -> None:
    compare("--compare", "1")
    reports = study.root / "reports"
    assert [folder.name for folder in reports.iterdir()] == ["fake-comparison"]
    assert main([study.name, "--outputs", str(study.outputs), "--reports", str(reports)]) == 0
    assert (reports / "fake-comparison" / "index.html").is_file()
    compare("--compare", "2")
    assert (reports / "fake" / "report.md").is_file()


def test_a_folder_that_is_no_comparison_is_left_alone(study, capsys) -> None:
    mine = study.root / "reports" / "fake-comparison"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    words = [study.name, "--outputs", str(study.outputs), "--reports", str(mine.parent), "--compare", "1"]
    assert main(words) == 1
    assert "is not a comparison and is left alone" in capsys.readouterr().err
    assert [file.name for file in mine.iterdir()] == ["notes.txt"]


def test_plan_and_detections_are_two_views_of_one_image(study, compare) -> None:
    change_rows(study, "scores", "full", lambda row: {"evidence": {"detections": FOUND, "answer": "a ring"}})
    page = compare("--compare", "1", "--arms", "full,baseline")
    images = study.root / "reports" / "fake-comparison" / "images"
    assert {file.name for file in images.iterdir()} == {
        "1-0-plan.png",
        "1-2-plan.png",
        "1-2-detections.png",
    }
    plan, found = (Image.open(images / f"1-2-{name}.png").convert("RGB") for name in ("plan", "detections"))
    ground = (1, 90, 120)
    size = plan.width - 1
    on_plan, on_ring = (100 * size // 1000, 250 * size // 1000), (600 * size // 1000, 750 * size // 1000)
    assert plan.getpixel(on_plan) != ground == found.getpixel(on_plan)
    assert found.getpixel(on_ring) != ground == plan.getpixel(on_ring)
    assert "| detections | ![detections](images/1-2-detections.png) |  |" in page
    assert "  - answer: a ring" in page


def test_boxes_and_outcomes_of_plans_are_shown_where_the_score_names_none(study, compare) -> None:
    def plan_row(row: dict[str, Any]) -> dict[str, Any]:
        names = ("directional", "planned", "plan_right_center", "image_right_center", "iou", "ri", "applied")
        nothing = dict.fromkeys((*names, "relation", "nll", "score", "followed"))
        found = [[0, 0, 500.4, 500], [500, 500, 1000, 1000]]
        return {**row, **nothing, "found": found, "plan_right": True, "image_right": False}

    plan = json.loads((study.folder / "plan.json").read_text())
    (cell,) = (cell for cell in plan["cells"] if cell["arm"] == "full")
    cell["stages"].append({"name": "plans", "key": "20ab", "folder": "stages/plans-20ab"})
    (study.folder / "plan.json").write_text(json.dumps(plan))
    scores, plans = (study.outputs / "stages" / f"{name}-20ab" for name in ("scores", "plans"))
    plans.mkdir()
    (plans / "stage.json").write_bytes((scores / "stage.json").read_bytes())
    (plans / "plans.jsonl").write_bytes((scores / "scores.jsonl").read_bytes())
    change_rows(study, "plans", "full", plan_row)
    page = compare("--compare", "1", "--arms", "full")
    assert "  - plan right: yes\n  - image right: no\n" in page and "followed" not in page
    assert "![detections](images/1-2-detections.png)" in page


def test_an_intervention_that_was_not_applied_says_why(study, compare) -> None:
    origin = {
        "intervention": "swap",
        "applied": False,
        "reason": "no box",
        "own_chain": "",
        "caption": None,
        "sampled_ids": True,
        "own_ids": True,
        "nll": None,
        "nll_ids": 0,
        "details": {},
    }
    change_rows(study, "samples", "full", lambda row: {"drawn_from": origin})
    assert "  - swap: not applied: no box" in compare("--compare", "1")


def test_the_page_needs_nothing_outside_and_shows_text_as_it_was_written(study, compare) -> None:
    nasty = "<script>alert(1)</script> | ![x](y)"
    change_rows(study, "scores", "full", lambda row: {"evidence": {"answer": nasty}})
    page = compare("--compare", "1")
    html = (study.root / "reports" / "fake-comparison" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in html and "answer: &lt;script&gt;alert(1)" in html
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) == 3 and all(source.startswith(("data:", "#")) for source in sources)
    assert "<script" not in page.replace("\\<script", "") and "![x]" not in page.replace("!\\[x", "")
    assert "failed" in html and "failed" in page


def test_equal_choices_give_equal_bytes(study, compare) -> None:
    def content() -> dict[str, bytes]:
        compare("--compare", "color", "--compare", "full>baseline")
        folder: Path = study.root / "reports" / "fake-comparison"
        return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}

    assert content() == content()
