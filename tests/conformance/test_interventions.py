"""Plan interventions compared with what the official program of arXiv 2608.21713 gives, and with our rules.

Every file of a name is read, wherever it lies under `interventions/`; `ours` replaces an official value that
the harness must not give.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mini_chains import case_of, pool_of

from benchmarks.t2i_compbench.colors import colors_of
from harness.chain import parse
from harness.evaluation.plan_measures import measure_plan
from harness.experts.grounding.owlv2 import best_regions
from harness.interventions.case import Case, Change
from harness.interventions.color_repair import ColorRepair
from harness.interventions.constructed import clean_boxes
from harness.interventions.donor import Donor
from harness.interventions.edits import numbers
from harness.interventions.margin import Margin
from harness.interventions.oracle import Oracle
from harness.interventions.parts import Bare, BoxesOnly, Boxless
from harness.interventions.segments import Reorder
from harness.interventions.statistics import Statistics, draw_boxes
from harness.interventions.swap import Minimal, Swap
from harness.relations import SYMMETRIC, boxed_places, relation_of

Vectors = Callable[[str], Iterator[tuple[dict[str, Any], dict[str, Any]]]]


@pytest.fixture
def vectors(conformance_dir: Path) -> Vectors:
    """`vectors(name)`: every case of the files of that name, each with its whole file."""

    def read(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        files = sorted((conformance_dir / "interventions").rglob(f"{name}.json"))
        if not files:
            pytest.skip(f"no {name}.json under {conformance_dir / 'interventions'}")
        for file in files:
            whole = json.loads(file.read_text(encoding="utf-8"))
            assert whole["cases"]
            for case in whole["cases"]:
                yield case, whole

    return read


def in_order(case: dict[str, Any]) -> Case:
    return case_of(case["prompt"], case["chain"], roles="order")


def text_of(change: Change) -> str:
    assert isinstance(change.chain, str)
    return change.chain


def test_relations_of_prompts(vectors: Vectors) -> None:
    for case, _ in vectors("relation_of_prompt"):
        found = relation_of(case["prompt"])
        said = found and {"subject": found.subject, "word": found.word, "object": found.object}
        assert said == case.get("ours", case)["expected"], case


def test_plans_are_right_by_order_and_by_name(vectors: Vectors) -> None:
    for case, _ in vectors("plan_validity"):
        stated = {**case, **case.get("ours", {})}
        ordered, named = in_order(case), case_of(case["prompt"], case["chain"])
        relation = ordered.reading.relation
        if relation is None:
            assert ordered.reading.right(ordered.chain) is named.reading.right(named.chain) is None, case
            continue
        assert ordered.reading.right(ordered.chain) == stated["valid_by_order"], case
        if relation.word in SYMMETRIC:  # the official analysis matches names of directional prompts only
            continue
        if case["reason"] == "fewer_than_2_objects" and len(boxed_places(named.chain)) > 1:
            assert named.reading.roles(named.chain) is not None, (
                case
            )  # the official pattern misses these boxes
            continue
        roles = named.reading.roles(named.chain)
        assert (roles and list(roles)) == stated["roles_by_name"], case
        assert named.reading.right(named.chain) == bool(stated["valid_by_name"]), case


def test_exchanged_and_repaired_and_reordered_chains(vectors: Vectors) -> None:
    for case, _ in vectors("swap_repair_reorder"):
        ours, own = case.get("ours", {}), in_order(case)
        assert text_of(Swap()(own)) == ours.get("swapped", case["swapped"]), case
        assert text_of(Reorder()(own)) == ours.get("reordered", case["reordered"]), case
        change = Minimal()(own)
        assert text_of(change) == ours.get("minimal", case["minimal"]["reasoning"]), case
        assert change.applied == (True if "minimal" in ours else case["minimal"]["repaired"]), case
        if own.reading.relation is not None:
            right = own.reading.right(own.chain)
            assert right == ours.get("was_valid", case["minimal"]["was_valid"]), case


def test_boxes_moved_to_a_margin(vectors: Vectors) -> None:
    for case, _ in vectors("margin_repair"):
        stated, own = case["expected"], in_order(case)
        change = Margin(margin=case["margin"], least=False, limit=999)(own)
        assert text_of(change) == {**stated, **case.get("ours", {})}["reasoning"], case
        if "ours" in case:  # the official numbers are those of another edit
            continue
        assert change.applied == stated["modified"], case
        if change.applied:
            assert own.reading.right(own.chain) == stated["was_valid"], case
            assert change.details["margin"] == pytest.approx(stated["orig_margin"], abs=1e-9), case
            assert change.details["achieved_margin"] == pytest.approx(stated["achieved_margin"], abs=1e-9)


def test_clean_chains(vectors: Vectors) -> None:
    for case, _ in vectors("oracle_clean"):
        relation = relation_of(case["prompt"])
        assert relation is not None
        assert [numbers(box) for box in clean_boxes(relation.word)] == case["boxes"], case
        change = Oracle(style="terse", text=None)(case_of(case["prompt"], ""))
        assert text_of(change) == case["terse"], case


def test_boxes_and_donors_of_the_pool(vectors: Vectors) -> None:
    for case, whole in vectors("planner_statistics"):
        pool = pool_of([entry["reasoning"] for entry in whole["pools"][case["pool"]]])
        stated = {**case, **case.get("ours", {})}

        def drawn(case: dict[str, Any] = case, pool: Any = pool) -> Case:
            return case_of(case["prompt"], "own", pool=pool, seed=case["seed"])

        boxes = draw_boxes(drawn())
        assert boxes is not None
        assert [numbers(box) for box in boxes] == stated["boxes"], case
        written = Statistics(style="terse", text=None)(drawn())
        assert written.details["boxes_after"] == stated["boxes"]
        donated = Donor()(drawn())
        assert (text_of(donated) if donated.applied else None) == stated["donor_chain"], case


def test_colors_written_into_chains(vectors: Vectors) -> None:
    for case, _ in vectors("colour_repair"):
        stated, own = case["expected"], in_order(case)
        pairs = colors_of(case["prompt"])
        assert ([list(pair) for pair in pairs] or None) == case["pairs"], case
        change = ColorRepair()(own)
        assert text_of(change) == {**stated, **case.get("ours", {})}["reasoning"], case
        assert change.applied == stated["repaired"], case
        assert own.reading.right(own.chain) == (stated["was_valid"] if pairs else None), case


def test_parts_of_chains(vectors: Vectors) -> None:
    for case, _ in vectors("chain_use"):
        own = in_order(case)
        assert text_of(Boxless()(own)) == case["boxless"], case
        assert text_of(Bare()(own)) == case["bare"], case
        only = BoxesOnly()(own)
        assert (text_of(only) if only.applied else None) == case["boxes_only"], case


def test_detections_give_the_official_relation_and_fidelity(vectors: Vectors) -> None:
    for case, _ in vectors("detector_rows"):
        width, height = case["size"]
        scale = (1 / width, 1 / height) * 2
        scores, corners = [[0.0, 0.0]], [(0.0, 0.0, 1.0, 1.0)]  # a box that fits neither
        for one in case["detections"]:
            scores.append([one["score"] * (query == one["query"]) for query in (0, 1)])
            corners.append(tuple(value * unit for value, unit in zip(one["box"], scale, strict=True)))
        subject, other = best_regions(scores, corners, 0.1)
        reading = in_order(case).reading
        row = measure_plan(reading, reading, parse(case["chain"]), (subject, other))
        stated = case.get("ours", case["expected"])
        assert row["relation"] == stated["relation"], case
        assert (subject is not None, other is not None) == (stated["obj1_detected"], stated["obj2_detected"])
        assert row["image_right"] is stated["relation_correct"], case
        assert row["followed"] is stated.get("followed_planned_relation"), case
        ious = [stated.get("iou_obj1"), stated.get("iou_obj2")]
        wanted = None if None in ious else pytest.approx(sum(ious) / 2, abs=1e-12)
        assert row["iou"] == wanted, case
