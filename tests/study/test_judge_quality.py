"""The study of judge quality: its levels are the calibrated ones, and equal arms are made once."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from harness.command import composed
from harness.stages.keys import key
from harness.study import factors, planning

ROOT = Path(__file__).resolve().parents[2]
STUDY = yaml.safe_load((ROOT / "ablations" / "judge_quality.yaml").read_text(encoding="utf-8"))["study"]
CALIBRATION = ROOT / "benchmarks" / "shapes" / "calibration.json"


@cache
def planned() -> dict[str, Any]:
    """Arm -> its cell."""
    with composed(["ablations=judge_quality", "preset=smoke"]) as root:
        lines = planning.expand(root.config, root.overrides)
        study = planning.plan(root.config, GlobalHydra.instance().config_loader(), lines)
    return {cell.arm: cell for cell in study.cells}


def judge_of(arm: str) -> dict[str, Any]:
    """The settings of the judge that the arm's reward asks."""
    components = planned()[arm].config["rewards"]["components"]
    return next(component["judge"] for component in components.values() if "judge" in component)


def stage_key(arm: str, name: str) -> str:
    return key(next(stage for stage in planned()[arm].stages if stage.name == name))


def test_its_claims_name_arms_that_it_has():
    arms = {*STUDY["arms"], *factors.arms_of_factors(STUDY["factors"])}
    assert len(arms) == 33
    named = [(claim["better"], claim["than"]) for claim in STUDY["claims"].values()]
    assert named and all({better, than} <= arms for better, than in named)
    assert {STUDY["baseline"], STUDY["full"]} <= arms


def test_a_claim_says_that_it_is_about_the_mean_and_at_which_quality():
    for claim in STUDY["claims"].values():
        assert claim["text"].endswith("on average over the six categories")
        assert "tau 0." in claim["text"] or "exact judges" in claim["text"]
    assert STUDY["margin"]["value"] > 0 and STUDY["margin"]["reason"]


def test_the_place_of_a_level_is_what_its_name_says():
    for factor in STUDY["factors"].values():
        for level, setting in factor["levels"].items():
            name = level.removeprefix("chain_")
            said = {"exact": 1.0, "blind": 0.0}.get(name)
            assert setting["at"] == (float(name.removeprefix("tau_")) if said is None else said)


@pytest.mark.parametrize(("part", "factor"), [("picture", "picture_judge"), ("chain", "chain_judges")])
def test_the_settings_of_a_level_are_the_calibrated_ones(part, factor):
    levels = json.loads(CALIBRATION.read_text(encoding="utf-8"))["levels"][part]
    calibrated = {level["target"]: level["settings"] for level in levels}
    checked = 0
    for level, setting in STUDY["factors"][factor]["levels"].items():
        if 0 < setting["at"] < 1:
            checked += 1
            for arm in STUDY["factors"][factor]["arms"]:
                judge = judge_of(f"{arm}@{level}")
                wanted = calibrated[setting["at"]]
                assert {name: judge[name] for name in wanted} == wanted
    assert checked >= 2


def test_what_is_not_varied_stays():
    regime = judge_of("full@tau_0.31")
    exact_chains = {name: 0.0 for name in regime if name.startswith(("chain_", "drawn_", "written_"))}
    assert len(exact_chains) == 4
    for level in ("tau_0.60", "tau_0.45", "tau_0.31", "tau_0.15", "blind"):
        assert exact_chains.items() <= judge_of(f"w_PI@{level}").items()
    pictures = {name: value for name, value in regime.items() if name.startswith("picture_")}
    assert len(pictures) == 4
    for level in ("chain_exact", "chain_tau_0.60", "chain_tau_0.31", "chain_blind"):
        assert pictures.items() <= judge_of(f"w_PR_RI@{level}").items()
    assert set(judge_of("full@exact")) == {"_target_"}


def test_there_is_one_sft_model_and_equal_arms_are_trained_once():
    assert len({stage_key(arm, "sft") for arm in planned()}) == 1
    trained = [arm for arm in planned() if arm != STUDY["baseline"]]
    assert len({stage_key(arm, "grpo") for arm in trained}) == 29
    for arm in ("full", "w_PR_PI"):
        assert stage_key(f"{arm}@tau_0.31", "scores") == stage_key(f"{arm}@chain_exact", "scores")
    assert stage_key("w_PR_RI", "scores") == stage_key("w_PR_RI@chain_exact", "scores")
