"""Every `rewards=` variant, composed as in a study: with the miniature's exact experts and with real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize
from omegaconf import OmegaConf
from PIL import Image

from harness.chain import parse
from harness.composition import groups
from harness.composition.components import make
from harness.reward.function import RewardFunction, used_components
from harness.types import Sample, Tokens

ROOT = Path(__file__).parents[2]
NAMES = {
    "got_r1": {"pi", "sem", "spa", "ri"},
    "sum": {"pi", "sem", "spa", "ri"},
    "got_r1_hps": {"pi", "sem", "spa", "ri", "hps"},
    "hps_only": {"hps"},
    "text_spatial": {"pi", "sem", "spa_text", "ri"},
    "conventional": {"clip", "sem", "spa", "ri"},
}
REAL = ["clip=clip", "hps=hps_v2_1", "phrase_grounder=grounding_dino"]


EXACT = ("judge=oracle", "clip=oracle", "phrase_grounder=oracle")


@pytest.fixture(scope="module")
def composed():
    """The `rewards` of a configuration with these overrides, as far as the total uses them."""

    def rewards(*overrides: str):
        with initialize(version_base="1.3", config_path=None):
            return used_components(
                OmegaConf.to_container(compose("config", [*overrides]).rewards, resolve=True)
            )

    return rewards


@pytest.fixture(scope="module")
def records():
    shapes = make(OmegaConf.load(ROOT / "benchmarks" / "shapes.yaml"))
    return [record for record in shapes.records(seed=1, count=40) if record.faithful]


def sample(record, chain: str, image: Image.Image) -> Sample:
    tokens = Tokens(prompt=(1,), chain=(2,), image=(3,))
    return Sample(
        prompt=record.prompt, chain=parse(chain), image=image, tokens=tokens, logprobs=(0.0, 0.0), seed=0
    )


def test_every_variant_is_here():
    assert set(NAMES) <= set(groups.options()["rewards"])


@pytest.mark.parametrize("variant", NAMES)
def test_a_variant_prefers_the_faithful_sample(variant, composed, records):
    config = composed(f"rewards={variant}", *EXACT)
    assert set(config["components"]) == NAMES[variant]
    rewards = RewardFunction(**make(config))
    faithful = rewards([sample(record, record.chain, record.image) for record in records])
    blank = Image.new("RGB", records[0].image.size, records[0].image.getpixel((0, 0)))
    wrong = rewards([sample(record, "", blank) for record in records])
    assert sum(reward.total.value for reward in faithful) / len(records) > 0.8
    assert [reward.total.value for reward in wrong] == [0.0] * len(records)


SCOPES = {
    **dict.fromkeys(("sem", "spa", "spa_text"), "chain"),
    **dict.fromkeys(("pi", "clip", "hps"), "image"),
    "ri": "both",
}


@pytest.mark.parametrize("variant", NAMES)
def test_a_component_says_what_its_score_depends_on(variant, composed):
    components = make(composed(f"rewards={variant}", *EXACT))["components"]
    assert {name: component.scope for name, component in components.items()} == {
        name: SCOPES[name] for name in NAMES[variant]
    }


def crossed(records) -> list[Sample]:
    """Samples of each record's prompt with its own chain and image, and with those of another one."""
    others = [*records[1:], records[0]]
    return [
        sample(record, other.chain, other.image)
        for record, other in zip([*records, *records], [*records, *others], strict=True)
    ]


def totals(config, samples) -> list[float]:
    return [reward.total.value for reward in RewardFunction(**make(config))(samples)]


def test_to_an_exact_judge_coordinates_and_drawing_are_the_same(composed, records):
    drawn, written = (
        totals(composed(f"rewards={name}", *EXACT), crossed(records)) for name in ("got_r1", "text_spatial")
    )
    assert drawn == written


def test_to_the_judge_of_the_miniature_they_differ_by_the_layouts_that_it_reads_reversed(composed, records):
    alike = [f"benchmarks.simulated.judge.{name}_reversed=0" for name in ("drawn", "written")]
    no_errors = [*alike, "benchmarks.simulated.judge.chain_share=0"]
    for overrides, equal in (([], False), (no_errors, True)):
        drawn, written = (
            totals(composed(f"rewards={name}", *overrides), crossed(records))
            for name in ("got_r1", "text_spatial")
        )
        assert (drawn == written) is equal


@pytest.mark.parametrize(
    ("variant", "name", "kind", "settings"),
    [
        ("got_r1_hps", "hps", "harness.experts.similarity.hps.HpsV21", {"low": 0.15, "high": 0.35}),
        ("hps_only", "hps", "harness.experts.similarity.hps.HpsV21", {"low": 0.15, "high": 0.35}),
        ("conventional", "clip", "harness.experts.similarity.clip.Clip", {"low": 0.15, "high": 0.35}),
    ],
)
def test_the_range_comes_with_the_expert(composed, variant, name, kind, settings):
    exact, real = composed(f"rewards={variant}"), composed(f"rewards={variant}", *REAL)
    assert {key: exact["components"][name][key] for key in ("low", "high")} == {"low": 0.0, "high": 1.0}
    assert {key: real["components"][name][key] for key in ("low", "high")} == settings
    assert real["components"][name]["similarity"]["_target_"] == kind
    assert make(real)["components"][name].low == settings["low"]


def test_conventional_rewards_ground_by_phrases_and_others_may(composed):
    dino = "harness.experts.grounding.grounding_dino.GroundingDino"
    assert composed("rewards=conventional", *REAL)["components"]["ri"]["grounder"]["_target_"] == dino
    assert composed("grounder=phrase", *REAL)["components"]["ri"]["grounder"]["_target_"] == dino
    owl = composed("grounder=phrase", "phrase_grounder=owlv2")["components"]["ri"]["grounder"]
    assert owl["_target_"] == "harness.experts.grounding.owlv2.Owlv2" and owl["query"] == "a photo of a {}"


def test_the_experts_are_constructed_without_torch():
    words = "clip=clip hps=hps_v2_1 phrase_grounder={} rewards={}"
    cases = [
        words.format("grounding_dino", "conventional"),
        words.format("owlv2", "conventional"),
        words.format("owlv2", "got_r1_hps"),
    ]
    code = f"""
import sys
from hydra import compose, initialize
from omegaconf import OmegaConf
from harness.composition.components import make
for words in {cases!r}:
    with initialize(version_base="1.3", config_path=None):
        make(OmegaConf.to_container(compose("config", words.split()).rewards, resolve=True))
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
