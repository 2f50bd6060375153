"""The studies of GRPO's variants: their claims fit their arms, and what is not varied stays."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from harness.analysis.claim_settings import check
from harness.command import composed
from harness.stages.keys import key
from harness.study import factors, planning
from harness.types import Cell

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("advantage", "credit", "group_size", "guided_logprobs")
CATEGORIES = ["color", "shape", "texture", "2D-spatial", "non-spatial", "complex"]


def written(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ablations" / f"{name}.yaml").read_text(encoding="utf-8"))


@cache
def planned(name: str) -> dict[str, Cell]:
    """Arm -> its cell."""
    with composed([f"ablations={name}", "preset=smoke"]) as root:
        lines = planning.expand(root.config, root.overrides)
        study = planning.plan(root.config, GlobalHydra.instance().config_loader(), lines)
    return {cell.arm: cell for cell in study.cells}


def stage_key(name: str, arm: str, stage: str) -> str:
    return key(next(one for one in planned(name)[arm].stages if one.name == stage))


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_consistent(name):
    study = written(name)["study"]
    crossed = factors.arms_of_factors(study.get("factors") or {})
    arms = {**study["arms"], **crossed}
    check({**study, "arms": arms, "categories": CATEGORIES})
    assert study["name"] == name and {study["baseline"], study["full"]} <= set(arms)
    assert study["margin"]["value"] == 0.02
    for claim in (study.get("claims") or {}).values():
        assert claim["text"].endswith("on average over the six categories")


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_is_that_of_a_paper_and_says_which(name):
    text = (ROOT / "ablations" / f"{name}.yaml").read_text(encoding="utf-8")
    for claim in written(name)["study"].get("claims") or {}:
        assert re.search(rf"^    {claim}:  # arXiv \d{{4}}\.\d{{5}}", text, re.MULTILINE), claim


@pytest.mark.parametrize("name", NAMES)
def test_a_study_says_how_it_is_made_and_what_does_not_carry_over(name):
    head = (ROOT / "ablations" / f"{name}.yaml").read_text(encoding="utf-8").partition("\nstudy:")[0]
    for part in ("Source", "Arms", "Identical", "Cost", "Command"):
        assert f"# {part} " in head
    assert "576" in written(name)["study"]["limits"]


@pytest.mark.parametrize("name", NAMES)
def test_all_arms_start_from_one_model(name):
    unlike = {"guided_total", "guidance_weights"} if name == "credit" else set()  # a pair of their own
    assert len({stage_key(name, arm, "sft") for arm in planned(name) if arm not in unlike}) == 1
    assert len({stage_key(name, arm, "sft") for arm in unlike}) <= 1


def test_a_step_has_as_many_samples_in_every_group_size():
    (factor,) = written("group_size")["study"]["factors"].values()
    for level, setting in factor["levels"].items():
        grpo = planned("group_size")[f"full@{level}"].config["grpo"]
        assert grpo["samples"] == int(level) and grpo["prompts"] * grpo["samples"] == 64
        assert setting["at"] == math.log2(int(level))


@pytest.mark.parametrize("name", NAMES)
def test_guidance_is_the_same_in_training_and_evaluation_and_sft_prepares_for_it(name):
    for cell in planned(name).values():
        guidance = cell.config["rollout"]["guidance"]
        assert guidance == cell.config["evaluation"]["rollout"]["guidance"]
        assert cell.config["sft"]["condition_dropout"] == (0.1 if guidance > 1 else 0.0)


def test_runs_that_two_studies_share_are_made_once():
    assert stage_key("credit", "guided_total", "grpo") == stage_key("guided_logprobs", "guided", "grpo")
    assert stage_key("credit", "total", "grpo") == stage_key("advantage", "product", "grpo")


@pytest.mark.parametrize("name", ["advantage", "credit", "guided_logprobs"])
def test_no_two_arms_are_the_same_run(name):
    samples = {stage_key(name, arm, "samples") for arm in planned(name)}
    assert len(samples) == len(planned(name))
