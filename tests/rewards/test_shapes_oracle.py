"""The rewards of the YAML files with the exact experts of shapes, on good and bad samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from harness.chain import END, OBJ_START, parse
from harness.reward.function import RewardFunction, used_components
from harness.types import Sample, Tokens

ROOT = Path(__file__).parents[2]
ARMS = {
    "w_PR": "(sem + spa) / 2",
    "w_RI": "ri",
    "w_PI": "pi",
    "w_PR_PI": "pi * (sem + spa) / 2",
    "w_PR_RI": "(sem + spa) / 2 * ri",
    "w_RI_PI": "ri * pi",
    "w_sem": "pi * sem * ri",
    "w_spa": "pi * spa * ri",
    "full": "pi * (sem + spa) / 2 * ri",
    "sum": "(pi + sem + spa + ri) / 4",
}


def rewards(total: str) -> RewardFunction:
    """`rewards/got_r1.yaml` with another total, wired as the root configuration wires it."""
    oracle = OmegaConf.load(ROOT / "benchmarks" / "shapes.yaml").oracle
    root = {
        "judge": oracle.judge,
        "grounder": oracle.grounder,
        "rewards": OmegaConf.load(ROOT / "rewards" / "got_r1.yaml"),
    }
    config = OmegaConf.to_container(OmegaConf.create(root), resolve=True)["rewards"]
    return RewardFunction(**instantiate(used_components({**config, "total": total})))


@pytest.fixture(scope="module")
def records():
    """Faithful training records of the world, every category among them."""
    shapes = instantiate(OmegaConf.load(ROOT / "benchmarks" / "shapes.yaml"))
    return [record for record in shapes.records(seed=1, count=150) if record.faithful]


def sample(record, chain=None, image=None) -> Sample:
    tokens = Tokens(prompt=(1,), chain=(2,), image=(3,))
    plan, drawn = parse(record.chain if chain is None else chain), record.image if image is None else image
    return Sample(prompt=record.prompt, chain=plan, image=drawn, tokens=tokens, logprobs=(0.0, 0.0), seed=0)


def blank(record) -> Image.Image:
    return Image.new("RGB", record.image.size, record.image.getpixel((0, 0)))


def means(total: str, samples: list[Sample]) -> dict[str, float]:
    """The mean total and the mean of each component."""
    scored = rewards(total)(samples)
    assert all(reward.total.value is not None for reward in scored)
    columns = {"total": [reward.total.value for reward in scored]}
    columns |= {name: [reward.components[name].value for reward in scored] for name in scored[0].components}
    return {name: sum(column) / len(column) for name, column in columns.items()}


def test_faithful_samples_score_nearly_one_in_every_component(records):
    found = means(ARMS["sum"], [sample(record) for record in records])
    assert {record.prompt.category for record in records} == {
        "color",
        "shape",
        "texture",
        "2D-spatial",
        "non-spatial",
        "complex",
    }
    assert all(value > 0.9 for value in found.values()), found


def test_samples_of_another_prompt_score_low_but_their_image_follows_their_chain(records):
    others = [*records[1:], records[0]]
    found = means(
        ARMS["sum"],
        [sample(record, other.chain, other.image) for record, other in zip(records, others, strict=True)],
    )
    assert found["ri"] > 0.9
    assert all(found[name] < 0.5 for name in ("pi", "sem", "spa")), found


def test_an_image_of_another_plan_does_not_follow_the_chain(records):
    others = [*records[1:], records[0]]
    found = means(
        "ri", [sample(record, image=other.image) for record, other in zip(records, others, strict=True)]
    )
    assert found["ri"] < 0.2


def test_empty_samples_score_zero_and_malformed_ones_almost(records):
    empty = means(ARMS["sum"], [sample(record, "", blank(record)) for record in records])
    assert empty == {"total": 0.0, "pi": 0.0, "sem": 0.0, "spa": 0.0, "ri": 0.0}
    noise = f"{OBJ_START}{OBJ_START}red <|box_start|>(12,<|box_end|> of of 99),( <|box_end|>{END}"
    malformed = means(ARMS["sum"], [sample(record, noise, blank(record)) for record in records])
    assert malformed["pi"] == malformed["spa"] == malformed["ri"] == 0.0 and malformed["sem"] <= 0.3


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_every_arm_prefers_the_faithful_sample(arm, records):
    faithful = means(ARMS[arm], [sample(record) for record in records[:40]])
    wrong = means(ARMS[arm], [sample(record, "", blank(record)) for record in records[:40]])
    assert faithful["total"] > 0.8 and wrong["total"] == 0.0


def test_the_sum_variant_keeps_the_components_and_changes_the_total():
    variant = OmegaConf.load(ROOT / "rewards" / "sum.yaml")
    assert variant.defaults[0] == "got_r1" and set(variant) == {"defaults", "total"}
    assert used_components(
        {**OmegaConf.to_container(OmegaConf.load(ROOT / "rewards" / "got_r1.yaml")), "total": variant.total}
    )
