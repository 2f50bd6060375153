"""Claims as ablation files write them: what is refused, and the files of the project."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from harness.analysis import claims
from harness.analysis.claim_settings import check

BEST = {"text": "full is best", "better": "full", "than": ["baseline", "w_PI"], "categories": "all"}
STUDY = {
    "arms": {"baseline": [], "w_PI": [], "full": []},
    "published": {
        "columns": ["color", "shape"],
        "rows": {"baseline": [0.1, 0.2], "full": [0.3, 0.1], "w_sem": [0.2, None]},
    },
    "margin": {"value": 0.02, "reason": "smaller gains are not worth the cost"},
    "claims": {"best": BEST},
}
ABLATIONS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "ablations").glob("*.yaml"))}


def changed(**entries: object) -> dict[str, object]:
    return {**STUDY, "claims": {"best": {**BEST, **entries}}}


def with_margin(margin: object) -> dict[str, object]:
    return {**STUDY, "margin": margin}


def test_arms_that_only_the_published_table_has_are_accepted():
    check(STUDY)
    check(changed(than="w_sem"))


def test_a_claim_may_name_a_measure_of_plans_where_the_study_has_them():
    claim = changed(categories=["relation"])
    check({**claim, "measures": ["relation", "plan right"]})
    with pytest.raises(ValueError, match="category 'relation'"):
        check(claim)


@pytest.mark.parametrize("over", ["mean", "each"])
def test_both_ways_to_read_the_categories_are_accepted(over):
    check(changed(over=over))


def test_a_study_without_claims_needs_no_margin():
    check({**STUDY, "margin": None, "claims": {}})


def test_a_claim_with_its_own_margin_needs_none_of_the_study():
    check({**changed(margin={"value": 0.1, "reason": "noisy"}), "margin": None})


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
        (changed(where="all"), ["where", "text, better, than, categories, and optionally over, margin"]),
        (
            {**STUDY, "claims": {"best": {"text": "full wins"}}},
            ["study.claims.best has text: a claim has text, better, than, categories"],
        ),
        (
            {**STUDY, "claims": {"best": "full wins"}},
            ["'full wins'", "text, better, than, categories, and optionally over, margin"],
        ),
        (changed(over="all"), ["study.claims.best.over='all'", "write mean", "or each"]),
        (
            {**STUDY, "published": {"columns": ["color"], "rows": {"full": [1, 2]}}},
            ["study.published.rows.full", "2 values", "1 columns"],
        ),
        (
            with_margin(None),
            [
                "study.claims.best has no margin",
                "study.margin: {value: NUMBER, reason: TEXT}",
                "counts as equal",
            ],
        ),
        (with_margin(0.02), ["study.margin has 0.02", "{value: NUMBER, reason: TEXT}"]),
        (with_margin({"value": 0.02}), ["study.margin has value", "{value: NUMBER, reason: TEXT}"]),
        (
            changed(margin={"value": -1, "reason": "noisy"}),
            ["study.claims.best.margin.value=-1", "a number above 0"],
        ),
        (with_margin({"value": 0.02, "reason": " "}), ["study.margin.reason=' '", "say in a sentence"]),
    ],
)
def test_errors_name_what_is_wrong_and_what_is_allowed(study, words):
    with pytest.raises(ValueError) as error:
        check(study)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("value", [0, -0.02, "0.02", True, None, math.nan, math.inf])
def test_a_margin_is_a_number_above_0(value):
    with pytest.raises(ValueError, match=r"study\.margin\.value=.*give a number above 0"):
        check(with_margin({"value": value, "reason": "why"}))


def test_votes_may_have_a_margin_of_0():
    check({**with_margin({"value": 0, "reason": "votes cannot show equality"}), "preference": {"pairs": []}})


@pytest.mark.parametrize("above", [-0.1, "much", True, math.nan])
def test_a_claimed_difference_is_a_number_from_0(above):
    check(changed(above=0.333))
    with pytest.raises(ValueError, match=r"study\.claims\.best\.above=.*give a number from 0"):
        check(changed(above=above))


def test_the_papers_studies_are_there():
    assert {"reward_components", "training_details", "reward_hacking"} <= set(ABLATIONS)
    study = yaml.safe_load(ABLATIONS["reward_components"].read_text(encoding="utf-8"))["study"]
    assert list(study["arms"]) == [*study["published"]["rows"], "self_certainty"]
    assert len(study["published"]["rows"]) == 10


def paper_studies() -> list[str]:
    """The ablations that compare with a published table."""
    names = []
    for name, path in ABLATIONS.items():
        if yaml.safe_load(path.read_text(encoding="utf-8"))["study"].get("published"):
            names.append(name)
    return names


@pytest.mark.parametrize("name", paper_studies())
def test_an_ablation_is_consistent_and_its_claims_hold_in_the_published_table(name):
    study = yaml.safe_load(ABLATIONS[name].read_text(encoding="utf-8"))["study"]
    check(study)
    assert study["name"] == name
    published = study["published"]["rows"]
    assert [arm for arm in study["arms"] if arm in published] == list(published)
    columns = study["published"]["columns"]
    rows = {arm: dict(zip(columns, values, strict=True)) for arm, values in published.items()}
    contrasts = [(claim, contrast) for claim in claims.read(study, columns) for contrast in claim.contrasts]
    assert bool(contrasts) == bool(study.get("claims"))
    for claim, contrast in contrasts:
        if name == "plan_interventions" and not {contrast.better, contrast.than} <= set(rows):
            continue  # a question of ours about other checkpoints or distances
        better, than = rows[contrast.better], rows[contrast.than]
        differences = [better[category] - than[category] for category in contrast.categories]
        mean = sum(differences) / len(differences)
        assert abs(mean) < claim.margin.value if claim.equal else mean > contrast.above, contrast


@pytest.mark.parametrize("name", paper_studies())
def test_the_text_of_a_claim_says_what_is_tested(name):
    study = yaml.safe_load(ABLATIONS[name].read_text(encoding="utf-8"))["study"]
    for claim in claims.read(study, study["published"]["columns"]):
        over_each = study["claims"][claim.id].get("over") == "each"
        several = len(claim.contrasts[0].categories) > 1
        assert ("on average over" in claim.text) == several, claim.text
        assert ("in each of the" in claim.text) == over_each, claim.text
