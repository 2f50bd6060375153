"""The interventions of `intervention=`: what each draws from, and where it is not applied."""

from __future__ import annotations

from math import sqrt
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mini_chains import Worded, case_of, pool_of, prompt_of, sampled
from mini_prompts import Given

from harness.chain import END, format_chain, parse
from harness.composition import groups
from harness.composition.components import make
from harness.interventions.candidates import Fresh, Verify
from harness.interventions.captions import Reprompted, Uncaptioned
from harness.interventions.case import Case, Change
from harness.interventions.checks import check_benchmark, check_temperature
from harness.interventions.donor import Donor, renamed
from harness.interventions.margin import Margin
from harness.interventions.oracle import Oracle
from harness.interventions.other import Other
from harness.interventions.own import Own, Reencoded
from harness.interventions.parts import Cut, NoChain
from harness.interventions.pool import OwnChain
from harness.interventions.reading import Reading
from harness.interventions.statistics import Statistics
from harness.interventions.swap import Minimal, Swap
from harness.types import Box, PlannedObject

PROMPT = "a cat on the left of a dog"
LEFT, RIGHT = Box(100, 400, 300, 600), Box(700, 400, 900, 600)
OPTIONS = {
    name: yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, file in groups.options()["intervention"].items()
}


def written(cat: Box | None, dog: Box | None, more: str = " in soft light.") -> str:
    cat_object, dog_object = PlannedObject(name="cat", box=cat), PlannedObject(name="dog", box=dog)
    return format_chain("A ", cat_object, " and a ", dog_object, more)


GOOD, WRONG = written(LEFT, RIGHT), written(RIGHT, LEFT)


def text(change: Change) -> str:
    assert isinstance(change.chain, str)
    return change.chain


def whole_case(prompt: str = PROMPT, own: str = WRONG) -> Case:
    """A case with everything that an intervention may ask for."""
    asked = prompt_of(prompt)
    pool = [OwnChain(prompt=asked, chain=sampled(own)), *pool_of([GOOD, WRONG])]
    return case_of(asked, own, GOOD, pool=pool)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_an_intervention_of_its_name_and_repeats_itself(option: str) -> None:
    intervention = make(OPTIONS[option])
    assert intervention.name == option
    for prompt in (PROMPT, "a cat near a dog", "a red cat and a blue dog", "a cat"):
        for own in (GOOD, WRONG, written(LEFT, None), f"nothing{END}"):
            change, again = intervention(whole_case(prompt, own)), intervention(whole_case(prompt, own))
            assert change == again
            assert change.applied == (change.reason is None)
            if isinstance(change.chain, str):
                assert change.chain.endswith(END) and change.chain.count(END) == 1


@pytest.mark.parametrize("option", OPTIONS)
def test_where_it_is_not_applied_the_baseline_is_drawn(option: str) -> None:
    for prompt in ("a cat", PROMPT):
        for own in (GOOD, f"nothing{END}"):
            case = whole_case(prompt, own)
            change = make(OPTIONS[option])(case)
            if not change.applied:
                assert change.chain in (case.own, own) and change.caption is None


def test_the_own_chain_is_drawn_by_its_ids_and_the_control_by_its_text() -> None:
    case = whole_case()
    assert Own()(case).chain is case.own
    assert text(Reencoded()(case)) == WRONG
    assert text(Reencoded()(case_of(PROMPT, "cut off"))) == f"cut off{END}"


def test_a_fresh_chain_is_the_first_candidate() -> None:
    assert Fresh()(case_of(PROMPT, WRONG, GOOD)).chain == sampled(GOOD)


def test_the_verifier_takes_the_first_right_candidate_or_the_own_chain() -> None:
    verify = Verify(candidates=3)
    other = written(LEFT, RIGHT, ".")
    assert verify(case_of(PROMPT, WRONG, GOOD, other)).details == {"candidate": 1}
    assert verify(case_of(PROMPT, WRONG, WRONG, WRONG, GOOD)).chain == sampled(WRONG)
    unchecked = verify(case_of("a cat", WRONG, GOOD))
    assert not unchecked.applied and unchecked.chain == sampled(WRONG)


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_more_candidates_never_make_a_plan_worse_and_one_is_the_own_chain(right: list[bool]) -> None:
    case = case_of(PROMPT, *[GOOD if one else WRONG for one in right])
    found = [Verify(candidates=count)(case).chain == sampled(GOOD) for count in range(1, 6)]
    assert found == sorted(found) and found[0] == right[0]


def test_candidates_are_right_as_often_as_independent_draws() -> None:
    rng = Random(1)
    cases = [case_of(PROMPT, *[rng.choice((GOOD, WRONG)) for _ in range(5)]) for _ in range(2000)]
    for count in range(1, 6):
        found = sum(Verify(candidates=count)(case).chain == sampled(GOOD) for case in cases) / len(cases)
        expected = 1 - 0.5**count
        assert abs(found - expected) < 4 * sqrt(expected * (1 - expected) / len(cases))


def test_a_minimal_repair_says_why_it_leaves_a_chain() -> None:
    def reason(prompt: str, own: str) -> str | None:
        return Minimal()(case_of(prompt, own)).reason

    assert reason(PROMPT, WRONG) is None
    assert reason(PROMPT, GOOD) == "the chain is right"
    assert reason("a cat", GOOD) == "the prompt says no relation"
    assert reason(PROMPT, written(LEFT, None)) == "the chain has no box for 'cat' or 'dog'"
    assert reason(PROMPT, written(LEFT, LEFT)) == "exchanging the boxes does not make the chain right"
    stray = WRONG.replace(END, "<|box_start|>(1,2),(3,4)<|box_end|>" + END)
    assert reason(PROMPT, stray) == "the boxes of this chain cannot be told apart"


def test_chains_are_cut_after_the_last_box() -> None:
    change = Cut()(case_of(PROMPT, GOOD))
    assert text(change) == GOOD.replace(" in soft light", "")
    assert Cut()(case_of(PROMPT, f"a cat{END}")).reason == "the chain has no box"


def test_captions_change_without_the_chain_and_chains_become_captions() -> None:
    case = case_of(PROMPT, GOOD)
    assert (Uncaptioned()(case).chain, Uncaptioned()(case).caption) == (case.own, "")
    assert Reprompted()(case) == Change(chain=END, caption="A cat and a dog in soft light.")
    assert NoChain()(case) == Change(chain=END)
    assert parse(END).objects == ()


def test_other_takes_the_chain_of_another_prompt_at_a_fixed_distance() -> None:
    texts = [f"chain {place}{END}" for place in range(7)]
    pool = pool_of(texts)
    taken = []
    for own in pool:
        change = Other()(case_of(own.prompt, own.chain.chain.text, pool=pool, seed=3))
        assert change.applied and change.chain != own.chain
        taken.append(int(change.details["chain_of"]))
    assert sorted(taken) == list(range(7))
    assert len({(place - own) % 7 for own, place in enumerate(taken)}) == 1


def test_other_passes_over_equal_chains_other_numbers_and_other_categories() -> None:
    same, different = pool_of([GOOD] * 4), pool_of([GOOD, GOOD, WRONG])
    assert not Other()(case_of(same[0].prompt, GOOD, pool=same)).applied
    for seed in range(5):
        change = Other()(case_of(different[0].prompt, GOOD, pool=different, seed=seed))
        assert change.chain == sampled(WRONG)
    alone = [pool_of([GOOD])[0], *pool_of([WRONG], category="color")]
    change = Other()(case_of(alone[0].prompt, GOOD, pool=alone))
    assert not change.applied and change.chain == sampled(GOOD)


def test_a_donor_with_the_names_of_the_prompt_is_the_donor_itself() -> None:
    assert renamed(parse(GOOD), ("cat", "dog")) == GOOD


def test_a_donor_keeps_its_boxes_and_prose_and_takes_the_names() -> None:
    more = ". The cat faces the old dog."
    change = Donor()(
        case_of("a car on the left of a bus", WRONG, pool=pool_of([WRONG, written(LEFT, RIGHT, more)]))
    )
    assert text(change) == written(LEFT, RIGHT, more).replace("cat", "car").replace("dog", "bus")
    assert change.details["donor"] == "0001"


def test_the_own_chain_is_no_donor() -> None:
    asked = prompt_of(PROMPT)
    pool = [OwnChain(prompt=asked, chain=sampled(GOOD)), *pool_of([WRONG, written(LEFT, None)])]
    assert (
        Donor()(case_of(asked, GOOD, pool=pool)).reason == "no chain of another prompt satisfies the relation"
    )


def test_statistics_of_one_pair_that_fits_are_that_pair() -> None:
    for seed in range(20):
        change = Statistics(style="terse", text=None)(case_of(PROMPT, WRONG, pool=pool_of([GOOD]), seed=seed))
        assert [one.box for one in parse(text(change)).objects] == [LEFT, RIGHT]


def test_statistics_need_a_box_and_something_to_say() -> None:
    stats = Statistics(style="terse", text=None)
    assert (
        stats(case_of(PROMPT, GOOD, pool=pool_of([written(None, None)]))).reason
        == "no chain of the split has a box"
    )
    silent = stats(case_of("a cat", GOOD, pool=pool_of([GOOD])))
    assert silent.reason == "the prompt says neither a relation nor two colors"


@pytest.mark.parametrize("style", ["terse", "verbose"])
@pytest.mark.parametrize(
    "word", ["on the left of", "on the right of", "on the top of", "on the bottom of", "near"]
)
def test_constructed_chains_are_right_and_without_faults(style: str, word: str) -> None:
    case = case_of(f"an old cat {word} the dog", WRONG, pool=pool_of([GOOD, WRONG]))
    for intervention in (Oracle(style=style, text=None), Statistics(style=style, text=None)):
        found = parse(text(intervention(case)))
        assert not found.faults and [one.name for one in found.objects] == ["old cat", "dog"]
        assert case.reading.right(found)


def test_the_long_style_begins_as_the_short_one_and_mirrors_the_relation() -> None:
    short, long = (
        text(Oracle(style=style, text=None)(case_of(PROMPT, GOOD))) for style in ("terse", "verbose")
    )
    assert long.startswith(short.removesuffix(END)) and "The dog is to the right of the cat" in long


def test_prompts_of_two_colors_are_written_side_by_side() -> None:
    case = case_of("a red cat and a blue dog", GOOD)
    found = parse(text(Oracle(style="terse", text=None)(case)))
    assert [one.name for one in found.objects] == ["red cat", "blue dog"]
    assert case.reading.right(found) and not case.reading.right(case.chain)


def test_an_own_template_is_filled() -> None:
    change = Oracle(style="terse", text="Here {relation} {object} and {subject} {x}")(case_of(PROMPT, GOOD))
    assert parse(text(change)).bare_text == "Here is positioned to the left of dog and cat {x}"


def test_a_prompt_with_a_tag_of_the_grammar_says_nothing() -> None:
    case = case_of(f"a {END} on the left of a dog", GOOD, pool=pool_of([GOOD]))
    assert not Oracle(style="terse", text=None)(case).applied and not Donor()(case).applied


@pytest.mark.parametrize("margin", [0, 1, 1.2, -0.1, "a", True, None, float("nan")])
def test_a_margin_is_a_share_of_the_canvas(margin: Any) -> None:
    with pytest.raises(ValueError, match=r"intervention\.margin=.* above 0 and below 1 \(the paper: 0\.2\)"):
        Margin(margin=margin, least=False, limit=999)


@pytest.mark.parametrize(
    ("option", "change", "message"),
    [
        ("margin", {"limit": 998}, "intervention.limit=998: allowed are 999 .* and 1000"),
        ("margin", {"least": 1}, "intervention.least=1: give true or false"),
        ("verify", {"candidates": 0}, "intervention.candidates=0: give a whole number from 1"),
        ("oracle_terse", {"style": "long"}, "intervention.style='long': allowed are terse and verbose"),
        (
            "oracle_terse",
            {"text": "{subject} and {object}"},
            "must hold {subject}, {object} and {relation} once",
        ),
        ("stats_terse", {"text": "{subject} {object} {object} {relation}"}, "once each"),
        (
            "stats_terse",
            {"text": "{subject} {relation} {object}<|obj_start|>"},
            "no tag of the chain grammar",
        ),
        ("oracle_verbose", {"text": 3}, "intervention.text=3"),
    ],
)
def test_settings_that_are_not_allowed_are_refused(option: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make({**OPTIONS[option], **change})


@pytest.mark.parametrize("setting", [{"roles": "names"}, {"rule": "centre"}])
def test_roles_and_rules_are_those_that_exist(setting: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        Reading(Worded(), prompt_of(PROMPT), **setting)


def test_a_benchmark_without_relations_is_refused() -> None:
    with pytest.raises(ValueError, match="benchmark toy names no relation: minimal would change nothing"):
        check_benchmark(Minimal(), Given(given={}), "toy")
    for intervention in (Minimal(), Swap(), Verify(candidates=2)):
        check_benchmark(intervention, Worded(), "worded")
    check_benchmark(Own(), Given(given={}), "toy")


def test_greedy_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set evaluation\.rollout\.text_temperature above 0"):
        check_temperature(Verify(candidates=5), 0)
    check_temperature(Verify(candidates=5), 0.5)
    check_temperature(Swap(), 0)
