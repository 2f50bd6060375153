"""Measures of plans, by logic alone: a drawer that paints exactly what the chain plans."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
import yaml
from mini_chains import Worded, case_of, prompt_of, sampled
from plan_follower import follow, hides_nothing

from benchmarks.shapes.benchmark import Shapes
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.relations import DIRECTIONS, SIZES
from benchmarks.shapes.scene import sample_scene
from benchmarks.shapes.scoring import shown
from harness.chain import END, format_chain, parse
from harness.composition import groups
from harness.composition.components import make
from harness.evaluation.plan_measures import PlanMeasures, measure_plan
from harness.interventions.pool import OwnChain
from harness.interventions.reading import Reading
from harness.interventions.swap import Swap
from harness.relations import Found
from harness.samples import NO_TOKENS
from harness.types import Box, Chain, PlannedObject, Prompt, Region, Sample

EDITS = {
    name: yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, file in groups.options()["intervention"].items()
}


def shapes(val: int) -> Shapes:
    return Shapes(
        categories=["2D-spatial", "non-spatial", "complex"],
        prompt_seed=0,
        train_per_category=1,
        dev_per_category=1,
        val_per_category=val,
        unseen_share=0.25,
        unfaithful_share=0.0,
        n_prompts=None,
    )


def facts_of(prompt: Prompt) -> Facts:
    facts = Facts.read(prompt.facts)
    assert facts is not None
    return facts


def right_chains(prompts: Sequence[Prompt]) -> list[str]:
    rng = Random(0)
    return [sample_scene(rng, facts_of(prompt)).chain() + END for prompt in prompts]


def some_wrong_chains(prompts: Sequence[Prompt]) -> list[str]:
    """Every second plan puts the objects anywhere."""
    rng = Random(0)
    chains = []
    for place, prompt in enumerate(prompts):
        facts = facts_of(prompt)
        asked = Facts(objects=facts.objects) if place % 2 else facts
        chains.append(sample_scene(rng, asked).chain() + END)
    return chains


def is_ambiguous(prompt: Prompt, chain: str) -> bool:
    """Whether two planned objects show what the prompt says of one: a donor's third object may."""
    looks = [shown(planned.name) for planned in parse(chain).objects]
    for said in facts_of(prompt).objects[:2]:
        if sum(look is not None and said.fits(look) for look in looks) > 1:
            return True
    return False


def followed(benchmark: Shapes, prompts: Sequence[Prompt], chains: Sequence[str]) -> list[PlanMeasures]:
    """The measures of images that follow these chains."""
    samples = []
    for prompt, chain in zip(prompts, chains, strict=True):
        samples.append(
            Sample(
                prompt=prompt, chain=parse(chain), image=follow(chain), tokens=NO_TOKENS, logprobs=(), seed=0
            )
        )
    measured = []
    for sample, found in zip(samples, benchmark.locate(samples), strict=True):
        assert not isinstance(found, str)
        own, center = (Reading(benchmark, sample.prompt, rule=rule) for rule in ("own", "center"))
        measured.append(measure_plan(own, center, sample.chain, found))
    return measured


def test_a_right_plan_that_is_followed_is_a_right_image() -> None:
    benchmark = shapes(200)
    prompts = benchmark.prompts("val")
    rows = followed(benchmark, prompts, right_chains(prompts))
    words = [row["relation"] for row in rows]
    assert len(rows) == 600 and sum(word in DIRECTIONS for word in words) == 274
    assert sum(word in SIZES for word in words) == 258 and words.count("next to") == 68
    for row in rows:
        assert row["plan_right"] is row["image_right"] is True
        assert row["plan_right_center"] is row["image_right_center"] is True
        assert row["iou"] == 1.0 and row["planned"] == row["found"]
        assert row["followed"] is (True if row["directional"] else None)


def test_swapped_boxes_make_every_direction_and_size_wrong_and_no_neighbor() -> None:
    benchmark = shapes(200)
    prompts = benchmark.prompts("val")
    swapped = []
    for prompt, chain in zip(prompts, right_chains(prompts), strict=True):
        change = Swap()(case_of(prompt, chain, benchmark=benchmark))
        assert change.applied and isinstance(change.chain, str)
        swapped.append(change.chain)
    for row in followed(benchmark, prompts, swapped):
        assert row["image_right"] is (row["relation"] == "next to")
        assert row["iou"] == 1.0 and row["followed"] is (True if row["directional"] else None)


@pytest.mark.parametrize("edit", EDITS)
def test_whatever_is_drawn_a_followed_plan_is_as_right_as_its_image(edit: str) -> None:
    benchmark = shapes(60)
    prompts = benchmark.prompts("val")
    chains = some_wrong_chains(prompts)
    pool = [
        OwnChain(prompt=prompt, chain=sampled(chain)) for prompt, chain in zip(prompts, chains, strict=True)
    ]
    intervention = make(EDITS[edit])
    drawn = []
    for prompt, chain, other in zip(prompts, chains, right_chains(prompts), strict=True):
        candidates = [chain, *[other] * (intervention.candidates - 1)]
        change = intervention(case_of(prompt, *candidates, benchmark=benchmark, pool=pool))
        drawn.append(change.chain if isinstance(change.chain, str) else change.chain.chain.text)
    rows = followed(benchmark, prompts, drawn)
    seen = []
    for row, prompt, chain in zip(rows, prompts, drawn, strict=True):
        if hides_nothing(chain) and not is_ambiguous(prompt, chain):
            seen.append(row)
    assert len(seen) > len(rows) / 4
    for row in seen:
        assert row["image_right"] is row["plan_right"]
        assert row["image_right_center"] is row["plan_right_center"]
        assert row["iou"] in (1.0, None)


def test_without_a_chain_the_image_is_wrong_and_nothing_else_is_measured() -> None:
    benchmark = shapes(5)
    prompts = benchmark.prompts("val")
    for row in followed(benchmark, prompts, [END] * len(prompts)):
        assert row["plan_right"] is row["image_right"] is row["image_right_center"] is False
        assert row["planned"] is row["found"] is row["iou"] is row["followed"] is None


LEFT, RIGHT = Box(0, 400, 200, 600), Box(800, 400, 1000, 600)


def chain_of(cat: Box | None, dog: Box | None) -> Chain:
    parts = PlannedObject(name="cat", box=cat), PlannedObject(name="dog", box=dog)
    return parse(format_chain("A ", parts[0], " and a ", parts[1], "."))


def measured(text: str, chain: Chain, found: Found | None) -> PlanMeasures:
    own, center = (Reading(Worded(), prompt_of(text), rule=rule) for rule in ("own", "center"))
    return measure_plan(own, center, chain, found)


def test_a_wrong_plan_that_is_followed_counts_as_followed_and_half_a_shift_halves_the_iou() -> None:
    text = "a cat on the left of a dog"
    row = measured(text, chain_of(RIGHT, LEFT), (Region(800.0, 400.0, 1000.0, 500.0), LEFT))
    assert (row["plan_right"], row["image_right"], row["followed"]) == (False, False, True)
    assert row["iou"] == pytest.approx((0.5 + 1) / 2)
    assert row["found"] == ((800.0, 400.0, 1000.0, 500.0), (0, 400, 200, 600))
    row = measured(text, chain_of(RIGHT, LEFT), (LEFT, RIGHT))
    assert (row["plan_right"], row["image_right"], row["followed"], row["iou"]) == (False, True, False, 0.0)


def test_equal_centers_are_wrong_and_two_of_them_follow_each_other() -> None:
    row = measured("a cat on the left of a dog", chain_of(LEFT, LEFT), (LEFT, Region(50, 0, 150, 9)))
    assert (row["plan_right"], row["image_right"], row["followed"]) == (False, False, True)


def test_what_is_missing_is_not_measured() -> None:
    text = "a cat near a dog"
    absent = measured(text, chain_of(LEFT, RIGHT), (LEFT, None))
    assert (absent["plan_right"], absent["image_right"], absent["iou"]) == (True, False, None)
    assert absent["planned"] is not None and absent["found"] is None
    unplanned = measured(text, chain_of(LEFT, None), (LEFT, RIGHT))
    assert (unplanned["plan_right"], unplanned["image_right"], unplanned["iou"]) == (False, True, None)
    unseen = measured(text, chain_of(LEFT, RIGHT), None)
    assert (unseen["plan_right"], unseen["image_right"], unseen["image_right_center"]) == (True, None, None)
    symmetric = measured(text, chain_of(LEFT, RIGHT), (RIGHT, LEFT))
    assert symmetric["image_right"] is True and symmetric["followed"] is None and symmetric["iou"] == 0.0
    nothing = measured("a cat", chain_of(LEFT, RIGHT), (LEFT, RIGHT))
    assert not nothing.pop("directional") and set(nothing.values()) == {None}
