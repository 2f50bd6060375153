"""A study of votes as the analysis sees it: shares of arms, differences, claims, and what is not measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.contrasts import Comparison, Contrast
from harness.analysis.results import StudyResult, read_study
from harness.analysis.study import Analysis
from harness.files import write_rows
from harness.report.build import write_report
from harness.votes import VoteRow

SETS = ("color", "complex")
PROMPTS = 40  # of each set
Says = Callable[[str, str, int, int], str | None]  # x, order, prompt, seed -> the vote


def better_wins(strength: Mapping[str, int]) -> Callable[[str, str], Says]:
    """An exact judge: of two arms the stronger wins, but on every fourth prompt the weaker."""

    def judge(x: str, y: str) -> Says:
        def says(x: str, order: str, prompt: int, seed: int) -> str | None:
            if strength[x] == strength[y]:
                return "tie"
            return "x" if (strength[x] > strength[y]) == (prompt % 4 > 0) else "y"

        return says

    return judge


def always_first(x: str, y: str) -> Says:
    return lambda x, order, prompt, seed: "x" if order == "xy" else "y"


def never(x: str, y: str) -> Says:
    return lambda x, order, prompt, seed: None


def write_study(
    root: Path,
    judges: Mapping[str, Callable[[str, str], Says]],
    *,
    pairs: tuple[tuple[str, str], ...] = (("full", "baseline"),),
    seeds: tuple[int, ...] = (0,),
    numbers: int = 1,
    tolerance: float = 0.5,
    done: bool = True,
) -> Path:
    """A study folder as a sweep leaves it."""
    arms, cells = list(dict.fromkeys(arm for pair in pairs for arm in pair[::-1])), []
    for arm in arms:
        for seed in seeds:
            stage = {"name": "chains", "key": f"c{arm}{seed}", "folder": f"stages/chains-c{arm}{seed}"}
            write_stage(root / stage["folder"], "chains.jsonl", [])
            cells.append(cell(f"{arm}-s{seed}", arm, seed, [stage], None))
    for x, y in pairs:
        for seed in seeds:
            stage = {"name": "votes", "key": f"v{x}{y}{seed}", "folder": f"stages/votes-v{x}{y}{seed}"}
            if done:
                write_stage(root / stage["folder"], "votes.jsonl", vote_rows(x, y, seed, judges, numbers))
            cells.append(cell(f"{x}~{y}-s{seed}", f"{x}~{y}", seed, [stage], [x, y]))
    entry = {"text": "full is preferred", "better": "full", "than": "baseline", "categories": "all"}
    study = {
        "name": "s",
        "baseline": "baseline",
        "full": "full",
        "categories": list(SETS),
        "claims": {"preferred": entry},
        "margin": {"value": 0, "reason": "a lean shrinks differences"},
        "preference": {
            "pairs": [list(pair) for pair in pairs],
            "judges": dict.fromkeys(judges, ""),
            "ties": True,
            "unscored_tolerance": tolerance,
        },
    }
    plan = {"study": study, "command": "sweep", "created": "now", "cells": cells}
    folder = root / "studies" / "s"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def cell(name: str, arm: str, seed: int, stages: list, pair: list[str] | None) -> dict:
    folder = f"cells/{name}"
    given = {"id": name, "arm": arm, "seed": seed, "overrides": [], "folder": folder, "pair": pair}
    return {**given, "stages": stages}


def write_stage(folder: Path, name: str, rows: list) -> None:
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text("{}")
    write_rows(folder / name, rows)
    cost = {"questions": 1, "retries": 0, "tokens_in": 5, "tokens_out": None, "money": 1.5}
    (folder / "cost.json").write_text(json.dumps({"first": {"estimate": cost, "spent": cost}}))


def vote_rows(x: str, y: str, seed: int, judges: Mapping, numbers: int) -> list[dict]:
    rows: list[dict] = []
    for judge, of in judges.items():
        says = of(x, y)
        for place in range(len(SETS) * PROMPTS * numbers):
            prompt, number = divmod(place, numbers)
            category = SETS[prompt // PROMPTS]
            for order in ("xy", "yx"):
                said = says(x, order, prompt + number, seed)
                row = VoteRow(
                    index=len(rows),
                    prompt_id=f"{category}-{prompt}",
                    category=category,
                    number=number,
                    x=x,
                    y=y,
                    judge=judge,
                    order=order,
                    vote=said,
                    unscored=None if said else "preference judge: the answer holds no choice",
                    answer="hm",
                    attempt=0,
                )
                rows.append(row.to_json())
    return rows


EXACT = better_wins({"baseline": 0, "half": 1, "full": 2})


def analysed(folder: Path) -> Analysis:
    return Analysis(read_study(folder))


def study_of(folder: Path) -> StudyResult:
    return read_study(folder)


def test_a_contrast_is_the_difference_of_the_shares_of_the_votes(tmp_path):
    found = analysed(write_study(tmp_path, {"first": EXACT}))
    shares = {arm: found.estimate(arm, "color").mean for arm in ("full", "baseline")}
    assert shares == {"full": pytest.approx(0.75), "baseline": pytest.approx(0.25)}
    comparison = found.contrast(Contrast("full", "baseline", SETS))
    assert isinstance(comparison, Comparison)
    assert comparison.effect == pytest.approx(0.5) and comparison.prompts == 2 * PROMPTS
    assert found.macro("full").mean == pytest.approx(0.75)
    (verdict,) = found.verdicts
    assert verdict.verdict == "reproduced"


def test_a_pair_that_is_stored_the_other_way_has_the_other_sign(tmp_path):
    found = analysed(write_study(tmp_path, {"first": EXACT}, pairs=(("baseline", "full"),)))
    effects = [found.compare(*arms, "color").effect for arms in (("full", "baseline"), ("baseline", "full"))]
    assert effects == [pytest.approx(0.5), pytest.approx(-0.5)]
    assert found.verdicts[0].verdict == "reproduced"


def test_a_judge_that_always_says_the_first_decides_no_claim(tmp_path):
    folder = write_study(tmp_path, {"first": always_first})
    found = analysed(folder)
    assert found.preference is not None
    for category in SETS:
        tally = found.preference.tally("first", ("full", "baseline"), category)
        assert (tally.win_rate, tally.lean, tally.consistency) == (0.5, 1, 0)
    assert found.verdicts[0].verdict == "undecided"
    report = (write_report(folder, tmp_path / "reports") / "report.md").read_text(encoding="utf-8")
    assert "The judge first favors the chain it sees first (+1.000, " in report


def test_an_arm_as_good_as_the_other_ties(tmp_path):
    found = analysed(write_study(tmp_path, {"first": better_wins({"baseline": 1, "full": 1})}))
    comparison = found.compare("full", "baseline", "color")
    assert (found.estimate("full", "color").mean, comparison.effect, comparison.p) == (0.5, 0, 1)


def test_several_images_of_a_prompt_are_averaged_first(tmp_path):
    found = analysed(write_study(tmp_path, {"first": EXACT}, numbers=4))
    comparison = found.compare("full", "baseline", "color")
    assert comparison.prompts == PROMPTS
    assert comparison.effect == pytest.approx(0.5) and comparison.interval.low == pytest.approx(0.5)


def test_seeds_are_compared_one_by_one(tmp_path):
    def second_seed_ties(x: str, y: str) -> Says:
        exact = EXACT(x, y)
        return lambda x, order, prompt, seed: "tie" if seed else exact(x, order, prompt, seed)

    found = analysed(write_study(tmp_path, {"first": second_seed_ties}, seeds=(0, 1)))
    comparison = found.compare("full", "baseline", "color")
    assert comparison.by_seed == (pytest.approx(0.5), 0)
    assert found.estimate("full", "color").mean == pytest.approx((0.75 + 0.5) / 2)


def test_only_the_first_judge_decides(tmp_path):
    found = analysed(write_study(tmp_path, {"first": always_first, "second": EXACT}))
    assert found.compare("full", "baseline", "color").effect == 0
    assert found.preference is not None
    assert found.preference.tally("second", ("full", "baseline")).win_rate == pytest.approx(0.75)
    assert found.preference.agreement("first", "second", ("full", "baseline")).agreement == 0


def test_a_share_is_the_mean_over_the_opponents_and_arms_without_votes_say_so(tmp_path):
    pairs = (("full", "baseline"), ("full", "half"))
    found = analysed(write_study(tmp_path, {"first": EXACT}, pairs=pairs))
    assert found.estimate("full", "color").mean == pytest.approx(0.75)
    assert found.compare("half", "baseline", "color") == "nobody voted on half and baseline"


def test_three_arms_have_strengths_in_their_order(tmp_path):
    pairs = (("full", "baseline"), ("full", "half"), ("half", "baseline"))
    folder = write_study(tmp_path, {"first": EXACT}, pairs=pairs)
    found = analysed(folder)
    assert found.preference is not None
    strengths = found.preference.strengths(found.arms)
    assert strengths is not None
    ordered = sorted(strengths.log_strength, key=lambda arm: strengths.log_strength[arm])
    assert ordered == ["baseline", "half", "full"]
    tables = write_report(folder, tmp_path / "reports") / "tables"
    assert [line.split(",")[0] for line in (tables / "strengths.csv").read_text().splitlines()] == [
        "arm", "full", "half", "baseline",
    ]  # fmt: skip
    two = analysed(write_study(tmp_path / "two", {"first": EXACT}))
    assert two.preference is not None and two.preference.strengths(two.arms) is None


def test_too_many_unreadable_answers_make_a_set_not_measured(tmp_path):
    def seldom(x: str, y: str) -> Says:
        exact = EXACT(x, y)
        return lambda x, order, prompt, seed: (
            exact(x, order, prompt, seed) if prompt % 4 == 1 or prompt >= PROMPTS else None
        )

    folder = write_study(tmp_path, {"first": seldom})
    found = analysed(folder)
    reason = found.compare("full", "baseline", "color")
    assert reason == "color: 60 of 80 answers unreadable (tolerance 50%)"
    assert found.verdicts[0].verdict == "not measured"
    assert found.estimate("full", "color").mean is None
    assert found.absence("full", "color") == reason
    assert isinstance(found.compare("full", "baseline", "complex"), Comparison)
    report = (write_report(folder, tmp_path / "reports") / "report.md").read_text(encoding="utf-8")
    assert "Judge first: 60 of 160 questions unreadable (38%)" in report
    lenient = analysed(write_study(tmp_path / "lenient", {"first": seldom}, tolerance=0.8))
    comparison = lenient.compare("full", "baseline", "color")
    assert isinstance(comparison, Comparison)
    assert (comparison.prompts, comparison.excluded) == (10, 30), "left out and counted, never ties"


def test_a_judge_that_never_votes_leaves_a_report_without_numbers(tmp_path):
    folder = write_study(tmp_path, {"first": never})
    assert analysed(folder).verdicts[0].verdict == "not measured"
    report = (write_report(folder, tmp_path / "reports") / "report.md").read_text(encoding="utf-8")
    assert "The judge first has no vote on full and baseline" in report


def test_votes_that_are_not_there_yet_are_missing_with_their_state(tmp_path):
    folder = write_study(tmp_path, {"first": EXACT}, done=False)
    found = analysed(folder)
    assert found.compare("full", "baseline", "color") == "votes on full~baseline planned"
    assert found.estimate("full", "color").mean is None
    report = (write_report(folder, tmp_path / "reports") / "report.md").read_text(encoding="utf-8")
    assert "2 of 3 arms in. In: baseline, full. Still to come: full\\~baseline (planned)." in report


def test_exchanging_the_arms_turns_every_difference_and_nothing_else(tmp_path):
    one = analysed(write_study(tmp_path / "one", {"first": EXACT}))
    other = analysed(write_study(tmp_path / "other", {"first": EXACT}, pairs=(("baseline", "full"),)))
    for category in SETS:
        left, right = (found.differences(Contrast("full", "baseline", (category,))) for found in (one, other))
        assert np.array_equal(left[category], right[category])
        assert one.means("baseline", category) == other.means("baseline", category)
