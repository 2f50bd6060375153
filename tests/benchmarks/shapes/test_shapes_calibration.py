from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.shapes.benchmark import Shapes
from benchmarks.shapes.calibration import (
    CHAIN,
    CHAIN_TARGETS,
    CLIP_TARGETS,
    PICTURE,
    PICTURE_TARGETS,
    Agreement,
    observe,
    scaled,
    settings_for,
    tau,
)
from benchmarks.shapes.levels import CALIBRATION
from benchmarks.shapes.oracle import OracleJudge
from benchmarks.shapes.simulated import SimulatedJudge
from benchmarks.shapes.simulated_vision import SimulatedSimilarity
from harness.chain import parse
from harness.protocols import Labeled
from harness.types import Prompt, Sample, Tokens

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load((ROOT / "benchmarks" / "shapes.yaml").read_text())
LEVELS = json.loads(CALIBRATION.read_text())["levels"]
JUDGE = {name: value for name, value in CONFIG["simulated"]["judge"].items() if name != "_target_"}
CLIP = {name: value for name, value in CONFIG["simulated"]["similarity"].items() if name != "_target_"}


@pytest.fixture(scope="module")
def agreement() -> Agreement:
    """Samples that no model drew: records of which a half contradict their prompts."""
    settings = {name: value for name, value in CONFIG.items() if name not in ("_target_", "unfaithful_share")}
    tokens = Tokens(prompt=(), chain=(), image=())
    samples = [
        Sample(
            prompt=record.prompt,
            chain=parse(record.chain),
            image=record.image,
            tokens=tokens,
            logprobs=(),
            seed=0,
        )
        for record in Shapes(**settings, unfaithful_share=0.5).records(seed=5, count=250)
    ]
    return Agreement(observe(samples))


def level(part: str, target: float | None) -> dict:
    return next(one for one in LEVELS[part] if one["target"] == target)


def test_the_defaults_of_the_miniature_are_the_calibrated_settings():
    assert {name: JUDGE[name] for name in PICTURE} == level("picture", 0.31)["settings"]
    assert {name: JUDGE[name] for name in CHAIN} == level("chain", None)["settings"] == CHAIN
    assert {"spread": CLIP["spread"]} == level("clip", 0.18)["settings"]


@pytest.mark.parametrize(
    ("part", "targets"), [("picture", PICTURE_TARGETS), ("chain", CHAIN_TARGETS), ("clip", CLIP_TARGETS)]
)
def test_every_level_has_the_agreement_that_it_was_made_for(part, targets):
    for target in targets:
        measured = level(part, target)
        low, high = measured["interval"]
        assert abs(measured["tau"] - target) < 0.01 and low < target < high


def test_a_judge_agrees_less_the_larger_its_errors(agreement):
    for errors, pairs_of in ((PICTURE, agreement.picture), (CHAIN, agreement.chains)):
        agreements = [tau(pairs_of(scaled(errors, factor))) for factor in (0, 0.5, 1, 2, 4)]
        assert agreements[0] == pytest.approx(1)
        assert agreements == sorted(agreements, reverse=True) and agreements[-1] < 0.5


def test_other_samples_give_nearly_the_calibrated_agreement(agreement):
    for target in PICTURE_TARGETS:
        assert abs(tau(agreement.picture(level("picture", target)["settings"])) - target) < 0.12
    assert tau(agreement.clip(level("clip", 0.18)["settings"])) < 0.31  # binding and relations are wrong here


def test_the_settings_for_a_target_have_that_agreement(agreement):
    settings = settings_for(0.5, PICTURE, agreement.picture)
    assert tau(agreement.picture(settings)) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match=r"tau is below 0\.9 without any of the errors"):
        settings_for(0.9, {"spread": 1.0}, agreement.clip)


def test_a_layout_is_read_worse_in_coordinates_than_in_a_drawing_at_every_level():
    for one in LEVELS["chain"]:
        assert one["written"]["tau"] <= one["drawn"]["tau"] + 0.01


def test_reports_learn_the_agreement_of_an_expert():
    experts = [
        OracleJudge(),
        SimulatedJudge(**JUDGE),
        SimulatedJudge(**{**JUDGE, **dict.fromkeys(CHAIN, 0.0), "picture_spread": 3}),
        SimulatedSimilarity(**CLIP),
        SimulatedSimilarity(seed=0, spread=0.1),
    ]
    assert all(isinstance(expert, Labeled) for expert in experts)
    exact, usual, other, clip, sharper = (expert.label for expert in experts)
    assert exact == "exact judge"
    assert usual.startswith("simulated judge (picture tau 0.31, chain tau 0.8")
    assert other == "simulated judge (picture not calibrated, chain exact)"
    assert (clip, sharper) == ("simulated CLIP (tau 0.18)", "simulated CLIP (not calibrated)")


def test_samples_of_another_world_are_refused(agreement):
    sample = agreement.observed[0].sample
    foreign = Sample(
        prompt=Prompt(id="typed", text="a cat", category="color"),
        chain=sample.chain,
        image=sample.image,
        tokens=sample.tokens,
        logprobs=(),
        seed=0,
    )
    with pytest.raises(ValueError, match="prompt typed is not of the shapes world"):
        observe([foreign])
