"""The miniature as interventions see it: roles, relations, places on the grid, clean chains."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import yaml
from hydra.utils import instantiate
from mini_chains import case_of, pool_of

from benchmarks.shapes.benchmark import Shapes
from benchmarks.shapes.chains import nearest_box, roles_of
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.prompts import CATEGORIES, sample_facts, write_prompt
from benchmarks.shapes.scene import GRID, sample_scene
from harness.chain import END, format_chain, parse
from harness.interventions.candidates import Verify
from harness.interventions.case import Case, Change
from harness.interventions.donor import Donor
from harness.interventions.margin import Margin
from harness.interventions.oracle import Oracle
from harness.interventions.segments import Reorder, Shuffled
from harness.interventions.statistics import Statistics
from harness.interventions.swap import Minimal, Swap
from harness.relations import AXES
from harness.types import Box, PlannedObject, Prompt

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = yaml.safe_load((ROOT / "benchmarks" / "shapes.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return instantiate({**SETTINGS, "val_per_category": 200})


@pytest.fixture(scope="module")
def prompts(shapes: Shapes) -> list[Prompt]:
    """The val prompts with a relation."""
    return [prompt for prompt in shapes.prompts("val") if shapes.relation(prompt)]


@pytest.fixture(scope="module")
def cases(shapes: Shapes, prompts: list[Prompt]) -> list[Case]:
    """Each with a chain that plans it right."""
    return [
        case_of(prompt, chain_for(prompt, place), benchmark=shapes) for place, prompt in enumerate(prompts)
    ]


def chain_for(prompt: Prompt, seed: int) -> str:
    facts = Facts.read(prompt.facts)
    assert facts is not None
    return sample_scene(Random(seed), facts).chain()


def right(case: Case, change: Change) -> bool | None:
    assert isinstance(change.chain, str)
    return case.reading.right(parse(change.chain))


def word(case: Case) -> str:
    assert case.reading.relation is not None
    return case.reading.relation.word


def test_every_right_plan_is_right_and_only_next_to_survives_an_exchange(cases: list[Case]) -> None:
    assert all(case.reading.right(case.chain) for case in cases)
    kinds = Counter()
    for case in cases:
        change = Swap()(case)
        assert change.applied and right(case, change) == (word(case) == "next to"), case.prompt.text
        kinds["directional" if word(case) in AXES else word(case)] += 1
    assert set(kinds) == {"directional", "next to", "bigger than", "smaller than"}


def test_no_right_plan_is_repaired_and_every_exchanged_one_is_repaired_back(
    shapes: Shapes, cases: list[Case]
) -> None:
    for case in cases:
        assert Minimal()(case).reason == "the chain is right"
        exchanged = Swap()(case).chain
        assert isinstance(exchanged, str)
        repaired = Minimal()(case_of(case.prompt, exchanged, benchmark=shapes))
        assert repaired.chain == (exchanged if word(case) == "next to" else case.text)


def test_the_order_of_objects_changes_no_role_box_or_verdict(cases: list[Case]) -> None:
    for case in cases:
        for intervention in (Reorder(), Shuffled()):
            change = intervention(case)
            assert change.applied and right(case, change)
            assert isinstance(change.chain, str)
            assert case.reading.boxes(parse(change.chain)) == case.reading.boxes(case.chain)


@pytest.mark.parametrize("margin", [0.5, 0.667])
def test_moved_boxes_stay_on_the_grid_and_keep_their_sizes(cases: list[Case], margin: float) -> None:
    for case in cases:
        change = Margin(margin=margin, least=False, limit=1000)(case)
        assert change.applied == (word(case) in AXES)
        if change.applied:
            before, after = (
                [Box(*one) for one in change.details[f"boxes_{when}"]] for when in ("before", "after")
            )
            assert [nearest_box(box) for box in after] == after
            assert [cells(box) for box in before] == [cells(box) for box in after]


def test_a_large_margin_makes_every_directional_plan_right_with_the_rule_of_centers(
    shapes: Shapes, cases: list[Case]
) -> None:
    for case in cases:
        centers = case_of(case.prompt, case.text, benchmark=shapes, rule="center")
        change = Margin(margin=0.667, least=False, limit=999)(centers)
        assert right(centers, change)


def cells(box: Box) -> tuple[int, int]:
    return round((box.x2 - box.x1) * GRID / 1000), round((box.y2 - box.y1) * GRID / 1000)


def test_clean_chains_show_all_facts_on_the_grid() -> None:
    shapes = instantiate(SETTINGS)
    rng = Random(0)
    for _ in range(400):
        category = rng.choice(CATEGORIES)
        facts = sample_facts(rng, category)
        prompt = Prompt(id="x", text=write_prompt(facts, category), category=category, facts=facts.plain())
        case = case_of(prompt, END, benchmark=shapes)
        for style in ("terse", "verbose"):
            change = Oracle(style=style, text=None)(case)
            assert change.applied == (facts.relation is not None)
            if not change.applied:
                continue
            assert isinstance(change.chain, str)
            found = parse(change.chain)
            assert not found.faults and len(found.objects) == len(facts.objects)
            assert roles_of(facts, found) == (0, 1)
            assert case.reading.right(found), change.chain
            boxes = [one.box for one in found.objects if one.box]
            assert [nearest_box(box) for box in boxes] == boxes
            assert not any(a.iou(b) for a in boxes for b in boxes if a is not b)


def test_drawn_boxes_and_donors_satisfy_the_own_rule(shapes: Shapes, cases: list[Case]) -> None:
    pool = pool_of([case.text for case in cases])
    for seed, case in enumerate(cases[::10]):
        again = case_of(case.prompt, case.text, benchmark=shapes, pool=pool, seed=seed)
        assert right(again, Statistics(style="terse", text=None)(again)), again.prompt.text
        donated = Donor()(again).chain
        assert isinstance(donated, str)
        subject, other = (planned.box for planned in parse(donated).objects[:2])
        assert subject and other and again.reading.holds(subject, other), again.prompt.text


def test_a_verifier_that_says_no_always_keeps_the_own_chain(cases: list[Case], shapes: Shapes) -> None:
    never = [Swap()(case).chain for case in cases if word(case) != "next to"]
    wrong = [case for case in cases if word(case) != "next to"]
    for case, chain in zip(wrong, never, strict=True):
        assert isinstance(chain, str)
        again = case_of(case.prompt, chain, chain, chain, benchmark=shapes)
        assert Verify(candidates=3)(again).chain is again.own


def test_roles_are_objects_with_exactly_the_attributes(shapes: Shapes, prompts: list[Prompt]) -> None:
    facts = Facts.read(prompts[0].facts)
    assert facts is not None
    names = [thing.name for thing in facts.objects[:2]]
    box = Box(0, 0, 333, 333)
    reordered = format_chain(*[PlannedObject(name=name, box=box) for name in names[::-1]])
    assert shapes.roles(prompts[0], parse(reordered)) == (1, 0)
    assert shapes.roles(prompts[0], parse(format_chain(PlannedObject(name=names[0], box=box)))) is None


def test_a_place_keeps_the_size_in_cells_and_takes_the_nearest_corner() -> None:
    assert nearest_box(Box(160, 410, 490, 745)) == Box(167, 333, 500, 667)
    assert nearest_box(Box(250, 250, 583, 583)) == Box(167, 167, 500, 500)  # ties: the smaller
    assert nearest_box(Box(990, 990, 1000, 1000)) == Box(833, 833, 1000, 1000)
    assert nearest_box(Box(0, 0, 1000, 1000)) == Box(0, 0, 1000, 1000)
