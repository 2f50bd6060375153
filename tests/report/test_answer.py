"""The first words of a report: what was found, by which experts, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis.claims import (
    CONTRADICTED,
    EQUAL,
    HOLDS,
    NOT_MEASURED,
    NOT_SUPPORTED,
    REPRODUCED,
    REVERSED,
    UNDECIDED,
)
from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.report.answer import answer, listing, rewarding_experts


def verdict(name: str, text: str, *results: tuple[str, float | None], margin: float = 0.02) -> Any:
    """A verdict on a claim whose results have the given outcomes and effects."""
    measured = []
    for outcome, effect in results:
        comparison = None if effect is None else SimpleNamespace(effect=effect)
        measured.append(SimpleNamespace(outcome=outcome, comparison=comparison))
    claim = SimpleNamespace(text=text, margin=SimpleNamespace(value=margin))
    return SimpleNamespace(claim=claim, verdict=name, results=tuple(measured))


def analysis(verdicts: Sequence[Any], *, seeds: int = 1, missing: int = 0) -> Any:
    cells = [SimpleNamespace(measured=number >= missing) for number in range(4)]
    return SimpleNamespace(
        study=SimpleNamespace(seeds=tuple(range(seeds)), planned=cells), verdicts=list(verdicts)
    )


FOUND = [
    verdict(UNDECIDED, "Order matters", (UNDECIDED, 0.01)),
    verdict(NOT_SUPPORTED, "The judge of images is needed.", (EQUAL, -0.009), (HOLDS, 0.3)),
    verdict(REPRODUCED, "Full improves on SFT", (HOLDS, 0.144)),
    verdict(CONTRADICTED, "More is better", (REVERSED, -0.05), (HOLDS, 0.1), (REVERSED, -0.03)),
    verdict(NOT_MEASURED, "Nothing ran", (NOT_MEASURED, None)),
    verdict(UNDECIDED, "Size matters", (UNDECIDED, None)),
]


def test_the_answer_names_what_was_found_in_the_words_of_the_claims():
    assert answer(analysis(FOUND)) == (
        "In this run: reproduced: Full improves on SFT (+0.144); contradicted: More is better (−0.050 to"
        " −0.030); no difference above 0.02: The judge of images is needed (−0.009); undecided: 2 of 6; not"
        " measured: 1 of 6."
    )


def test_several_seeds_are_training_runs_and_missing_cells_are_said():
    text = answer(analysis(FOUND[:1], seeds=3, missing=1))
    assert text == "Over 3 training runs: undecided: 1 of 1. 1 of 4 cells missing."


def test_claims_of_unequal_margins_are_kept_apart():
    found = [
        verdict(NOT_SUPPORTED, "A", (EQUAL, 0.01)),
        verdict(NOT_SUPPORTED, "B", (EQUAL, 0.0), margin=0.005),
    ]
    assert answer(analysis(found)) == (
        "In this run: no difference above 0.02: A (+0.010); no difference above 0.005: B (+0.000)."
    )


def test_a_long_list_is_cut_and_counted():
    found = [verdict(REPRODUCED, f"Claim {number}", (HOLDS, 0.1)) for number in range(6)]
    assert answer(analysis(found)) == (
        "In this run: reproduced: Claim 0 (+0.100), Claim 1 (+0.100), Claim 2 (+0.100) and 3 more."
    )
    assert listing(["a", "b", "c"], 3) == "a, b, c"
    assert listing(["a", "b", "c", "d"], 3) == "a, b, c and 1 more"


def test_a_study_without_claims_names_its_best_arm(fake_study):
    study = fake_study(prompts=12, seeds=(0, 1), arms={"baseline": 0.3, "full": 0.7})
    text = answer(Analysis(read_study(study.write())))
    assert text.startswith("Over 2 training runs: the highest mean over the categories is that of full, 0.")


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({("one", 0): ("failed", "x")}, "no arm has a score in every category. 1 of 1 cells missing."),
        ({}, "the mean of one over the categories is 0."),
    ],
)
def test_a_study_of_one_arm_says_its_mean_or_that_there_is_none(fake_study, states, text):
    study = fake_study(prompts=12, seeds=(0,), arms={"one": 0.3}, states=states)
    assert answer(Analysis(read_study(study.write()))).startswith(f"In this run: {text}")


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, ""),
        ({"experts": []}, ""),
        (
            {"experts": ["simulated judge (picture tau 0.31)", "exact grounder"]},
            "Rewards by: simulated judge (picture tau 0.31), exact grounder.",
        ),
    ],
)
def test_the_head_says_which_experts_gave_the_rewards(fake_study, facts, text):
    study = fake_study(prompts=2, seeds=(0,), arms={"full": 0.5}, facts=facts)
    assert rewarding_experts(Analysis(read_study(study.write()))) == text
