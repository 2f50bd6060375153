from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.analysis import claims
from harness.analysis.claims import Claim, ClaimPart, Verdict
from harness.analysis.statistics import Comparison, Interval

STUDY = {
    "arms": {"baseline": [], "w_PI": [], "full": []},
    "published": {
        "columns": ["color", "shape"],
        "rows": {"baseline": [0.1, 0.2], "full": [0.3, 0.1], "w_sem": [0.2, None]},
    },
    "claims": {
        "best": {"text": "full is best", "better": "full", "than": ["baseline", "w_PI"], "categories": "all"}
    },
}
ABLATIONS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "ablations").glob("*.yaml"))}


def comparison(effect: float, p: float) -> Comparison:
    return Comparison(
        effect=effect,
        interval=Interval(low=effect - 0.1, high=effect + 0.1),
        p=p,
        sd=0.4,
        prompts=100,
        excluded=0,
    )


SURE_GAIN, SURE_LOSS, UNSURE = comparison(0.3, 0.0001), comparison(-0.3, 0.0001), comparison(0.05, 0.4)


def decide(*outcomes: Comparison | str, seeds: int = 3) -> Verdict:
    """The verdict on one claim with these outcomes as its parts."""
    parts = tuple(ClaimPart("full", f"arm{number}", "color") for number in range(len(outcomes)))
    measured = dict(zip(parts, outcomes, strict=True))
    return claims.decide(
        [Claim(id="c", text="c", parts=parts)], measured.__getitem__, published={}, seeds=seeds
    )[0]


def changed(**entries: object) -> dict[str, object]:
    return {**STUDY, "claims": {"best": {**STUDY["claims"]["best"], **entries}}}


def test_all_parts_significant_is_reproduced():
    verdict = decide(SURE_GAIN, SURE_GAIN)
    assert (verdict.verdict, verdict.note) == ("reproduced", "")


def test_one_part_significantly_reversed_is_contradicted():
    assert decide(SURE_GAIN, SURE_LOSS, UNSURE).verdict == "contradicted"


def test_an_insignificant_part_is_undecided_and_says_what_would_decide_it():
    verdict = decide(SURE_GAIN, UNSURE)
    assert verdict.verdict == "undecided"
    assert verdict.decisive.comparison == UNSURE
    assert (
        verdict.decisive.prompts_needed == 503
    )  # ((1.960 + 0.842) * 0.4 / 0.05) ** 2 at level 0.05: one part is open
    assert claims.decision_level([verdict]) == pytest.approx(0.05)


def test_an_insignificant_reversal_does_not_contradict():
    assert decide(SURE_GAIN, comparison(-0.05, 0.3)).verdict == "undecided"


def test_one_seed_says_this_run_only():
    assert decide(SURE_GAIN, seeds=1).note == "this run only"
    assert decide(SURE_LOSS, seeds=1).note == "this run only"


def test_a_missing_part_is_not_measured_and_keeps_a_claim_from_being_reproduced():
    verdict = decide(SURE_GAIN, "arm1 failed")
    assert verdict.verdict == "undecided"
    assert verdict.note == "1 of 2 parts not measured"
    assert [part.outcome for part in verdict.results] == ["holds", "not measured"]
    assert verdict.results[1].reason == "arm1 failed"


def test_a_missing_part_does_not_hide_a_contradiction():
    assert decide(SURE_LOSS, "arm1 lost").verdict == "contradicted"


def test_a_claim_without_any_measured_part_is_not_measured():
    assert decide("arm0 failed", "arm1 lost").verdict == "not measured"


def test_holm_runs_over_the_parts_of_all_claims_and_counts_equal_parts_once():
    shared, own = ClaimPart("full", "w_PI", "color"), ClaimPart("full", "w_RI", "color")
    both = [Claim(id="a", text="a", parts=(shared,)), Claim(id="b", text="b", parts=(shared, own))]
    verdicts = claims.decide(both, lambda part: comparison(0.2, 0.02), published={}, seeds=3)
    assert [part.p_holm for verdict in verdicts for part in verdict.results] == pytest.approx(
        [0.04, 0.04, 0.04]
    )
    assert [verdict.verdict for verdict in verdicts] == ["reproduced", "reproduced"]


def test_published_differences_stand_beside_ours():
    read = claims.read(STUDY, ["color", "shape"])
    published = {"full": {"color": 0.3, "shape": 0.1}, "baseline": {"color": 0.1}}
    parts = claims.decide(read, lambda part: UNSURE, published=published, seeds=1)[0].results
    assert [part.published for part in parts] == [pytest.approx(0.2), None, None, None]


def test_read_expands_arms_and_categories():
    parts = claims.read(STUDY, ["color", "shape"])[0].parts
    assert parts == (
        ClaimPart("full", "baseline", "color"),
        ClaimPart("full", "baseline", "shape"),
        ClaimPart("full", "w_PI", "color"),
        ClaimPart("full", "w_PI", "shape"),
    )


def test_check_accepts_arms_that_only_the_published_table_has():
    claims.check(STUDY)
    claims.check(changed(than="w_sem"))


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (
            changed(better="ful"),
            ["study.claims.best.better", "'ful'", "baseline, w_PI, full", "nearest: full"],
        ),
        (changed(than=["w_Pi"]), ["study.claims.best.than", "nearest: w_PI"]),
        (changed(than=[]), ["study.claims.best.than is empty"]),
        (changed(than=["full"]), ["compares full with itself"]),
        (changed(categories=["colour"]), ["category 'colour'", "color, shape", "nearest: color"]),
        (changed(where="all"), ["exactly text, better, than, categories"]),
        (
            {**STUDY, "claims": {"best": "full wins"}},
            ["'full wins'", "exactly text, better, than, categories"],
        ),
        (
            {**STUDY, "published": {"columns": ["color"], "rows": {"full": [1, 2]}}},
            ["study.published.rows.full", "2 values", "1 columns"],
        ),
    ],
)
def test_check_names_what_is_wrong_and_what_is_allowed(study, words):
    with pytest.raises(ValueError) as error:
        claims.check(study)
    for word in words:
        assert word in str(error.value)


def test_the_papers_studies_are_there():
    assert {"reward_components", "training_details", "reward_hacking"} <= set(ABLATIONS)
    arms = yaml.safe_load(ABLATIONS["reward_components"].read_text(encoding="utf-8"))["study"]["arms"]
    assert len(arms) == 10


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "judge_quality"])
def test_an_ablation_is_consistent_and_its_claims_hold_in_the_published_table(name):
    study = yaml.safe_load(ABLATIONS[name].read_text(encoding="utf-8"))["study"]
    claims.check(study)
    assert study["name"] == name
    published = study["published"]["rows"]
    assert [arm for arm in study["arms"] if arm in published] == list(published)
    columns = study["published"]["columns"]
    rows = {arm: dict(zip(columns, values, strict=True)) for arm, values in published.items()}
    parts = [part for claim in claims.read(study, columns) for part in claim.parts]
    assert parts
    assert [
        part for part in parts if rows[part.better][part.category] <= rows[part.than][part.category]
    ] == []
