"""The analysis of a study of plans on disk, whose numbers are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_plans import ARMS, Arm, PlanStudy

from harness.analysis.contrasts import Comparison
from harness.analysis.measures import MEASURES
from harness.analysis.plan_checks import best_of, blindness, counts, doses, right_within
from harness.analysis.plans import NO_BASELINE, PlanAnalysis
from harness.analysis.results import read_study
from harness.analysis.study import Analysis


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> PlanAnalysis:
    return PlanAnalysis(Analysis(read_study(PlanStudy(tmp_path_factory.mktemp("plans")).write())))


def analyzed(tmp_path, **changes) -> PlanAnalysis:
    return PlanAnalysis(Analysis(read_study(PlanStudy(tmp_path, **changes).write())))


def effect_of(plans: PlanAnalysis, arm: str):
    return next(effect for effect in plans.effects if effect.arm.name == arm)


def test_measures_are_columns_beside_the_categories_and_in_no_mean_over_them(plans):
    analysis = plans.analysis
    assert analysis.categories == ("2D-spatial", "complex") and analysis.measures == tuple(MEASURES)
    assert analysis.estimate("own", "plan right").mean == pytest.approx(0.7)
    assert analysis.estimate("own", "relation").mean == pytest.approx(0.6)
    assert analysis.estimate("own", "relation (centers)").mean == pytest.approx(0.7)
    assert analysis.macro("own").mean == pytest.approx((0.6 + 0.6) / 2)
    compared = analysis.compare("own", "sft_own", "relation")
    assert isinstance(compared, Comparison) and compared.effect == pytest.approx(0.3)


def test_measures_by_unequal_rules_share_no_column_and_are_not_compared(tmp_path):
    found = analyzed(tmp_path, labels={"swap": ["roles=order"]})
    assert "relation [roles=order]" in found.analysis.measures and "relation" not in found.analysis.measures
    assert "relation (centers) [roles=order]" in found.analysis.measures
    assert effect_of(found, "swap").whole == "relation was scored by unequal metrics"
    assert effect_of(found, "swap").applied == effect_of(found, "swap").whole
    assert list(found.subset_effects(effect_of(found, "swap"))) == []


def test_a_baseline_has_the_same_checkpoint(plans):
    names = {}
    for name, arm in plans.arms.items():
        baseline = plans.baseline(arm)
        names[name] = baseline.name if baseline else None
    assert names == {
        "own": "reencoded",
        "reencoded": None,
        "verify_3": "own",
        "minimal": "reencoded",
        "margin": "reencoded",
        "oracle": "reencoded",
        "swap": "reencoded",
        "sft_own": "sft_reencoded",
        "sft_reencoded": None,
    }


def test_an_arm_whose_baseline_is_missing_says_so(tmp_path):
    found = analyzed(tmp_path, states={"reencoded": "failed"})
    assert "reencoded" not in found.arms
    assert effect_of(found, "swap").whole == NO_BASELINE
    assert isinstance(effect_of(found, "verify_3").whole, Comparison)


def test_attribution_of_a_checkpoint(plans):
    own = plans.attributions["own", "own"]
    assert own.values == pytest.approx({"p": 0.7, "a": 0.6 / 0.7, "b": 0.0, "right": 0.6})
    assert own.intervals["p"].low < 0.7 < own.intervals["p"].high
    assert plans.attributions["sft_own", "centers"].values["a"] == 1.0


def test_the_change_goes_from_less_training_to_more_and_adds_up(plans):
    own_rule, centers = plans.changes
    assert (own_rule.first, own_rule.second) == ("sft_own", "own")
    assert own_rule.split.plan + own_rule.split.drawing == pytest.approx(0.3, abs=1e-12)
    assert (centers.split.plan, centers.split.drawing) == pytest.approx((0.3, 0.0))
    assert own_rule.p.effect == pytest.approx(0.3) and own_rule.p.p < 0.001
    assert own_rule.a.prompts == 32 and own_rule.a.effect == 0.0  # 4 of 10 plans are right in both


def test_effects_over_all_prompts_and_where_applied(plans):
    minimal = effect_of(plans, "minimal")
    assert minimal.whole.effect == pytest.approx(0.3) and minimal.whole.prompts == 80
    assert minimal.applied.effect == pytest.approx(1.0) and minimal.applied.prompts == 24
    assert effect_of(plans, "verify_3").whole.effect == pytest.approx(0.2)
    assert effect_of(plans, "own").whole.effect == 0.0


def test_p_is_corrected_over_the_arms_of_the_study(plans):
    measured = [effect for effect in plans.effects if effect.baseline]
    smallest = min(measured, key=lambda effect: effect.whole.p)
    assert smallest.p_holm == pytest.approx(smallest.whole.p * len(measured))


def test_only_chains_a_nat_less_probable_are_not_in_training(plans):
    assert [effect.arm.name for effect in plans.effects if effect.unseen] == ["oracle"]


def test_subsets_of_an_effect(plans):
    subsets = dict(plans.subset_effects(effect_of(plans, "swap")))
    assert subsets["symmetric"].effect == 0.0
    assert subsets["directional"].prompts == 60
    assert subsets["plan right before"].effect < 0 < subsets["plan wrong before"].effect
    assert {"direct phrasing", "inverse phrasing", "word: on the left of", "word: next to"} <= set(subsets)
    assert subsets["direct phrasing"].prompts + subsets["inverse phrasing"].prompts == 80


def test_a_metric_that_does_not_fall_under_swap_is_blind(plans):
    verdicts = {found.column: found.check["verdict"] for found in blindness(plans)}
    assert verdicts == {
        "2D-spatial": "falls",
        "complex": "blind",
        "relation": "falls",
        "relation (centers)": "falls",
    }
    assert {found.check["prompts"] for found in blindness(plans)} == {30, 60}  # directional ones


def test_the_dose_is_the_distance_that_was_achieved(plans):
    (dose,) = doses(plans)
    assert (dose.arm, dose.images) == ("margin", 60)
    assert (dose.margin, dose.margin_before) == pytest.approx((0.5, 0.2))
    assert dose.right["centers"].mean == 1.0 and dose.right_before["centers"].mean < 1.0


def test_best_of_k_is_nested_and_starts_at_the_own_chain(plans):
    curve = best_of(plans)
    assert [(point.checkpoint, point.k) for point in curve] == [("own", 1), ("own", 2), ("own", 3)]
    shares = [point.plan_right.mean for point in curve]
    assert shares == sorted(shares)
    assert shares == pytest.approx([0.7, 0.8, 0.9])
    assert [point.independent for point in curve] == pytest.approx([0.7, 0.91, 0.973])
    assert curve[0].relation.mean == pytest.approx(0.6) and curve[1].relation is None
    assert curve[2].relation.mean == pytest.approx(0.8)


def test_counts_of_what_was_applied(plans):
    found = {count.arm: count for count in counts(plans)}
    assert (found["minimal"].applied, found["minimal"].reasons) == (24, {"the chain is right": 56})
    assert found["reencoded"].round_trip == pytest.approx(0.75) and found["minimal"].round_trip is None
    assert (found["own"].unscored, found["own"].no_relation) == (0, 0)


def test_reasons_that_differ_in_names_and_lengths_alone_are_counted_together(plans):
    minimal = plans.arms["minimal"]
    reasons = ["the chain has no box for 'a cup' or 'a dog'", "the chain has no box for \"a's\" or 'b'"]
    reasons += ["the chain has 69 ids, max_chain_tokens=64", "the chain has 72 ids, max_chain_tokens=64"]
    origins = {}
    for (image, origin), reason in zip(minimal.drawn_from.items(), reasons, strict=False):
        origins[image] = replace(origin, applied=False, reason=reason)
    other = PlanAnalysis(plans.analysis)
    other.arms = {"minimal": replace(minimal, drawn_from=origins)}
    (count,) = counts(other)
    assert count.reasons == {
        "the chain has no box for … or …": 2,
        "the chain has … ids, max_chain_tokens=64": 2,
    }


def test_checkpoints_without_a_right_plan_in_common_have_no_change_of_a(tmp_path):
    found = analyzed(
        tmp_path, right={"full": 7, "sft": 0}, arms={name: ARMS[name] for name in ("own", "sft_own")}
    )
    assert {change.a for change in found.changes} == {"no plan is right with both"}


def test_several_seeds_are_runs_of_the_same_prompts(tmp_path):
    found = analyzed(tmp_path, seeds=(0, 1), arms={name: ARMS[name] for name in ("own", "reencoded", "swap")})
    own = found.attributions["own", "own"]
    assert (own.images, own.prompts, own.values["right"]) == (160, 80, pytest.approx(0.6))
    swap = effect_of(found, "swap")
    assert swap.baseline.name == "reencoded" and swap.whole.by_seed == pytest.approx((-0.25, -0.25))
    assert swap.applied.effect == pytest.approx(swap.whole.effect)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=20))
def test_more_candidates_never_lower_the_share_of_right_plans(plans, verified):
    """Whatever was chosen: prompts with a right chain among the first k have one among the first k + 1."""
    (image, plan), *_ = plans.arms["verify_3"].plans.items()
    origin = plans.arms["verify_3"].drawn_from[image]
    rows, origins = {}, {}
    for number, (right, candidate) in enumerate(verified):
        key = (0, f"p{number:02d}", 0)
        rows[key] = replace(plan, prompt_id=key[1], plan_right=right)
        origins[key] = replace(origin, details={"candidate": candidate if right else 0})
    arm = replace(plans.arms["verify_3"], plans=rows, drawn_from=origins)
    shares = [right_within(arm, k).mean for k in range(1, 6)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(sum(right for right, _ in verified) / len(verified))


def test_arms_without_an_own_checkpoint_have_effects_and_no_attribution(tmp_path):
    found = analyzed(tmp_path, arms={"reencoded": ARMS["reencoded"], "swap": Arm("swap")})
    assert found.attributions == {} and found.changes == [] and best_of(found) == []
    assert isinstance(effect_of(found, "swap").whole, Comparison)
