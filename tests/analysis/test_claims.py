from __future__ import annotations

from dataclasses import replace

import pytest

from harness.analysis import claims
from harness.analysis.claims import Claim, Margin, Verdict
from harness.analysis.contrasts import Comparison, Contrast, Spread
from harness.analysis.statistics import Interval

STUDY = {
    "margin": {"value": 0.02, "reason": "smaller gains are not worth the cost"},
    "claims": {
        "best": {"text": "full is best", "better": "full", "than": ["baseline", "w_PI"], "categories": "all"}
    },
}
MARGIN = Margin(0.02, "smaller gains are not worth the cost")
COLOR, BOTH = ("color",), ("color", "shape")


def comparison(effect: float, p: float, reach: float = 0.1) -> Comparison:
    """A comparison of 100 prompts of s.d. 0.4, its intervals `reach` to either side."""
    interval = Interval(low=effect - reach, high=effect + reach)
    return Comparison(
        effect=effect,
        interval=interval,
        equivalence=interval,
        p=p,
        spread=Spread(prompt_error=0.04, prompt_df=99, run_error=None, seeds=1),
        prompts=100,
        excluded=0,
        by_category={"color": effect},
    )


SURE_GAIN, SURE_LOSS, UNSURE = comparison(0.3, 0.0001), comparison(-0.3, 0.0001), comparison(0.05, 0.4)
SAME = comparison(0.004, 0.4, reach=0.01)


def decide(*outcomes: Comparison | str, seeds: int = 3) -> Verdict:
    """The verdict on one claim with these outcomes as its contrasts."""
    contrasts = tuple(Contrast("full", f"arm{number}", COLOR) for number in range(len(outcomes)))
    measured = dict(zip(contrasts, outcomes, strict=True))
    claim = Claim(id="c", text="c", contrasts=contrasts, margin=MARGIN)
    return claims.decide([claim], measured.__getitem__, published={}, seeds=seeds)[0]


def far_above(above: float, comparison: Comparison, margin: float = 0.02) -> str:
    """The outcome of a contrast that claims a difference above a number."""
    return claims.outcome(replace(comparison, above=above), comparison.p, margin)


def test_a_claim_of_more_than_a_difference_is_decided_from_that_number():
    assert far_above(0.1, SURE_GAIN) == "holds"
    assert far_above(0.4, SURE_GAIN) == "reversed", "significantly less than claimed"
    assert far_above(0.0, SAME) == "equal" and far_above(0.2, SAME) == "undecided"
    assert far_above(0.2, comparison(0.205, 0.4, reach=0.01)) == "equal"


def test_the_claimed_difference_is_read_with_the_claim_and_named_with_its_contrast():
    entry = {"text": "t", "better": "full", "than": "baseline", "categories": ["color"], "above": 0.333}
    study = {"claims": {"twice": entry}, "margin": {"value": 0.02, "reason": "r"}}
    (claim,) = claims.read(study, COLOR)
    assert claim.contrasts == (Contrast("full", "baseline", COLOR, 0.333),)
    assert claim.contrasts[0].label() == "full > baseline + 0.333 (color)"
    assert claim.contrasts[0].parts() == [claim.contrasts[0]]
    (verdict,) = claims.decide([claim], lambda _: replace(SURE_GAIN, above=0.333), published={}, seeds=1)
    assert verdict.verdict == "contradicted"


def test_all_contrasts_significant_is_reproduced():
    verdict = decide(SURE_GAIN, SURE_GAIN)
    assert (verdict.verdict, verdict.note) == ("reproduced", "over 3 training runs")


def test_one_contrast_significantly_reversed_is_contradicted():
    assert decide(SURE_GAIN, SURE_LOSS, UNSURE, SAME).verdict == "contradicted"


def test_a_contrast_within_the_margin_is_not_supported():
    verdict = decide(SURE_GAIN, SAME)
    assert [result.outcome for result in verdict.results] == ["holds", "equal"]
    assert verdict.verdict == "not supported"
    assert verdict.note == "no difference above 0.02 in 1 of 2 contrasts, over 3 training runs"
    assert verdict.decisive.comparison == SAME


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ([SAME, SAME], "reproduced"),
        ([SAME, SURE_GAIN], "contradicted"),
        ([SAME, SURE_LOSS], "contradicted"),
        ([SAME, UNSURE], "undecided"),
    ],
)
def test_a_claim_of_equality_needs_every_contrast_within_the_margin(measured, verdict):
    entry = {"text": "t", "better": ["a", "b"], "than": "c", "categories": ["color"], "equal": True}
    study = {"claims": {"same": entry}, "margin": {"value": 0.02, "reason": "r"}}
    found = dict(zip(("a", "b"), measured, strict=True))
    decided = claims.decide(
        claims.read(study, COLOR), lambda contrast: found[contrast.better], published={}, seeds=1
    )
    assert decided[0].verdict == verdict
    decides = {"reproduced": "equal", "undecided": "undecided"}.get(verdict)
    assert decides is None or decided[0].decisive.outcome == decides


def test_an_undecided_contrast_says_what_would_decide_it():
    verdict = decide(SURE_GAIN, SAME, UNSURE)
    assert verdict.verdict == "undecided"
    assert verdict.decisive.comparison == UNSURE
    # two contrasts are open, so at level 0.025: ((2.241 + 0.842) * 0.4 / 0.05) ** 2
    assert verdict.decisive.prompts_needed == 609
    assert claims.decision_level([verdict]) == pytest.approx(0.025)
    assert claims.decision_level([decide(SURE_GAIN, SAME)]) is None


def test_an_insignificant_reversal_does_not_contradict():
    assert decide(SURE_GAIN, comparison(-0.05, 0.3)).verdict == "undecided"


@pytest.mark.parametrize(
    ("effect", "p_holm", "reach", "expected"),
    [
        (0.01, 0.2, 0.009, "equal"),
        (0.01, 0.2, 0.01, "undecided"),  # the interval reaches the margin
        (-0.01, 0.2, 0.009, "equal"),
        (-0.01, 0.2, 0.011, "undecided"),
        (0.01, 0.049, 0.009, "holds"),  # a significant difference counts, also below the margin
        (-0.01, 0.049, 0.009, "reversed"),
        (0.01, 0.05, 0.5, "undecided"),
    ],
)
def test_a_difference_comes_before_equality(effect, p_holm, reach, expected):
    assert claims.outcome(comparison(effect, 0.01, reach), p_holm, 0.02) == expected


def test_one_seed_says_this_run_only():
    assert decide(SURE_GAIN, seeds=1).note == "this run only"
    assert decide(SURE_LOSS, seeds=1).note == "this run only"


def test_a_missing_contrast_is_not_measured_and_keeps_a_claim_from_being_decided():
    for known in (SURE_GAIN, SAME):
        verdict = decide(known, "arm1 failed", seeds=1)
        assert verdict.verdict == "undecided"
        assert verdict.note == "1 of 2 contrasts not measured, this run only"
        assert verdict.results[1].outcome == "not measured"
        assert verdict.results[1].reason == "arm1 failed"


def test_a_missing_contrast_does_not_hide_a_contradiction():
    assert decide(SURE_LOSS, "arm1 lost").verdict == "contradicted"


def test_a_claim_without_any_measured_contrast_is_not_measured():
    verdict = decide("arm0 failed", "arm1 lost")
    assert (verdict.verdict, verdict.note) == ("not measured", "")


def test_holm_runs_over_all_claims_and_counts_equal_contrasts_once():
    shared, own = Contrast("full", "w_PI", BOTH), Contrast("full", "w_RI", BOTH)
    both = [
        Claim(id="a", text="a", contrasts=(shared,), margin=MARGIN),
        Claim(id="b", text="b", contrasts=(shared, own), margin=Margin(0.1, "another")),
    ]
    verdicts = claims.decide(both, lambda contrast: comparison(0.2, 0.02), published={}, seeds=3)
    assert [result.p_holm for verdict in verdicts for result in verdict.results] == pytest.approx([0.04] * 3)
    assert [verdict.verdict for verdict in verdicts] == ["reproduced", "reproduced"]


def test_each_claim_has_its_own_margin():
    shared = (Contrast("full", "w_PI", BOTH),)
    both = [
        Claim(id="a", text="a", contrasts=shared, margin=Margin(0.01, "tight")),
        Claim(id="b", text="b", contrasts=shared, margin=Margin(0.05, "wide")),
    ]
    verdicts = claims.decide(both, lambda contrast: SAME, published={}, seeds=3)
    assert [verdict.verdict for verdict in verdicts] == ["undecided", "not supported"]


def test_published_differences_stand_beside_ours():
    read = claims.read(STUDY, BOTH)
    published = {
        "full": {"color": 0.3, "shape": 0.1},
        "baseline": {"color": 0.1, "shape": 0.2},
        "w_PI": {"color": 0.2},
    }
    results = claims.decide(read, lambda contrast: UNSURE, published=published, seeds=1)[0].results
    assert [result.published_difference for result in results] == [pytest.approx(0.05), None]
    assert results[0].published == {"color": pytest.approx(0.2), "shape": pytest.approx(-0.1)}


def test_categories_are_counted_in_the_papers_direction():
    contrast = Contrast("full", "w_PI", ("color", "shape", "texture", "complex"))
    effects = {"color": 0.1, "shape": 0.1, "texture": 0.0, "complex": 0.2}
    found = Comparison(**{**vars(SURE_GAIN), "by_category": effects})
    claim = Claim(id="a", text="a", contrasts=(contrast,), margin=MARGIN)
    published = {"full": {"color": 0.3, "shape": 0.1}, "w_PI": {"color": 0.2, "shape": 0.2}}
    (result,) = claims.decide([claim], lambda _: found, published=published, seeds=1)[0].results
    assert result.agreement() == (2, 4)  # color as published, complex as claimed; shape is published reversed


def test_read_makes_a_contrast_per_pair_of_arms():
    (claim,) = claims.read(STUDY, BOTH)
    assert claim.contrasts == (Contrast("full", "baseline", BOTH), Contrast("full", "w_PI", BOTH))
    assert claim.margin == MARGIN


def test_over_each_makes_a_contrast_per_category():
    each = {**STUDY, "claims": {"best": {**STUDY["claims"]["best"], "over": "each"}}}
    assert claims.read(each, BOTH)[0].contrasts == (
        Contrast("full", "baseline", ("color",)),
        Contrast("full", "baseline", ("shape",)),
        Contrast("full", "w_PI", ("color",)),
        Contrast("full", "w_PI", ("shape",)),
    )


def test_one_hypothesis_written_in_two_ways_is_one_contrast():
    listed = {**STUDY["claims"]["best"], "categories": ["shape", "color", "shape"]}
    both = {**STUDY, "claims": {"all": STUDY["claims"]["best"], "listed": listed}}
    first, second = claims.read(both, BOTH)
    assert first.contrasts == second.contrasts


def test_a_claim_may_have_its_own_margin():
    own = {**STUDY["claims"]["best"], "margin": {"value": 0.1, "reason": "noisy"}}
    assert claims.read({**STUDY, "claims": {"best": own}}, BOTH)[0].margin == Margin(0.1, "noisy")


def test_a_plan_of_an_earlier_version_says_what_to_do():
    with pytest.raises(ValueError, match=r"no margin for the claim 'best'.*run the sweep's command again"):
        claims.read({"claims": STUDY["claims"]}, BOTH)
