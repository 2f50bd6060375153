"""The reward of samples: a total over component scores, nothing unscored hidden, no value out of range."""

from __future__ import annotations

import itertools
import json
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from harness.chain import parse
from harness.reward.function import RewardFunction, used_components
from harness.types import Prompt, Sample, Score, Tokens


def sample(text: str = "a red circle") -> Sample:
    tokens = Tokens(prompt=(1,), chain=(2,), image=(3,))
    prompt = Prompt(id="p", text=text, category="color")
    return Sample(
        prompt=prompt,
        chain=parse(""),
        image=Image.new("RGB", (4, 4)),
        tokens=tokens,
        logprobs=(0.0, 0.0),
        seed=0,
    )


class Fixed:
    """A component that gives the listed values, None meaning unscored."""

    name = "fixed"
    scope = "both"

    def __init__(self, *values: float | None) -> None:
        self.values = values
        self.calls = 0

    def __call__(self, samples):
        self.calls += 1
        return [Score(value=value, unscored="no answer" if value is None else None) for value in self.values]


def test_the_total_combines_the_raw_values_and_keeps_them():
    function = RewardFunction(total="pi * ri / 2", components={"pi": Fixed(0.5, 1.0), "ri": Fixed(0.4, 0.0)})
    first, second = function([sample(), sample()])
    assert (first.total.value, second.total.value) == (pytest.approx(0.1), 0.0)
    assert {name: score.value for name, score in first.components.items()} == {"pi": 0.5, "ri": 0.4}


def test_a_component_that_the_total_does_not_name_is_never_asked():
    unused = Fixed(0.5)
    (reward,) = RewardFunction(total="pi", components={"pi": Fixed(0.5), "ri": unused})([sample()])
    assert unused.calls == 0 and set(reward.components) == {"pi"}


def test_an_unscored_component_leaves_its_sample_unscored_and_only_that():
    lost, whole = RewardFunction(total="pi * ri", components={"pi": Fixed(None, 0.5), "ri": Fixed(0.0, 1.0)})(
        [sample(), sample()]
    )
    assert lost.total.value is None and lost.total.unscored == "pi: no answer"
    assert lost.components["ri"].value == 0.0
    assert whole.total.value == 0.5


@pytest.mark.parametrize("value", [-0.2, 1.01, math.nan, math.inf, -math.inf])
def test_a_value_out_of_range_is_an_error_with_component_value_prompt_and_remedy(value):
    function = RewardFunction(total="pi + ri", components={"pi": Fixed(0.1), "ri": Fixed(value)})
    with pytest.raises(ValueError) as error:
        function([sample("a blue star")])
    assert all(part in str(error.value) for part in ("'ri'", str(value), "a blue star", "scale or clip"))


def test_a_component_must_give_one_score_per_sample():
    with pytest.raises(ValueError, match="'pi' gave 1 scores for 2 samples"):
        RewardFunction(total="pi", components={"pi": Fixed(0.1)})([sample(), sample()])


def test_no_samples_have_no_rewards():
    assert RewardFunction(total="pi", components={"pi": Fixed()})([]) == []


def test_a_total_without_its_component_is_refused_when_built():
    with pytest.raises(ValueError, match="'ri', which is no component"):
        RewardFunction(total="pi * ri", components={"pi": Fixed(0.1)})


CONFIG = {
    "total": "pi*(sem+spa)/2.0",
    "components": {name: {"_target_": f"x.{name}", "deep": {"a": 1}} for name in ("ri", "spa", "sem", "pi")},
}


def test_only_the_named_components_decide_numbers():
    used = used_components(CONFIG)
    assert used["total"] == "pi * (sem + spa) / 2"
    assert used["components"] == {name: CONFIG["components"][name] for name in ("pi", "sem", "spa")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total": "pi * hps"}, "'hps', which is no component. Known components: pi, ri, sem, spa"),
        ({"total": "pi / ri"}, "division by a component"),
        ({"total": None}, "rewards.total is missing"),
        ({"components": None}, "rewards.components is missing"),
        ({"components": {"pi": {}, "sem": {}, "spa": {}}}, "rewards.components.pi must name its class"),
        (
            {"components": {"pi": None, "sem": {"_target_": "x"}, "spa": {"_target_": "x"}}},
            "rewards.components.pi must name its class",
        ),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        used_components({**CONFIG, **change})


class Given:
    """A component that returns whatever it was made with; a callable is called."""

    name = "given"
    scope = "both"

    def __init__(self, given):
        self.given = given

    def __call__(self, samples):
        return self.given() if callable(self.given) else self.given


def rewards_of(given, count: int = 2):
    return RewardFunction(total="ri", components={"ri": Given(given)})([sample() for _ in range(count)])


BRINGS = {
    "numbers": [0.5] * 2,
    "tuple": (0.5, Score(value=0.5)),
    "generator": lambda: (0.5 for _ in range(2)),
    "numpy array": np.full(2, 0.5, np.float16),
    "numpy column": np.full((2, 1), 0.5),
    "numpy scalars": [np.float32(0.5), Score(value=np.float32(0.5))],
    "torch vector": torch.full((2,), 0.5, requires_grad=True),
    "torch scalars": [torch.tensor(0.5, dtype=torch.bfloat16), Score(value=torch.tensor([0.5]))],
    "fractions": [Fraction(1, 2), Decimal("0.5")],
}


@pytest.mark.parametrize("given", BRINGS.values(), ids=BRINGS.keys())
def test_scores_as_people_bring_them_become_plain_floats(given):
    for reward in rewards_of(given):
        assert (reward.total.value, reward.components["ri"].value) == (0.5, 0.5)
        assert type(reward.total.value) is type(reward.components["ri"].value) is float


def test_whole_numbers_and_truth_values_are_scores():
    found = rewards_of([1, 0, True, np.int64(1), np.bool_(False)], 5)
    assert [reward.total.value for reward in found] == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert all(type(reward.components["ri"].value) is float for reward in found)


def test_none_is_unscored_and_names_the_component():
    lost, whole = rewards_of([None, 0.25])
    assert lost.total.value is None and "component 'ri' gave None" in str(lost.total.unscored)
    assert whole.total.value == 0.25


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "component 'ri' gave None instead of scores for 2 samples"),
        (0.5, r"component 'ri' gave 0.5 \(float\) instead of scores"),
        (Score(value=0.5), "component 'ri' gave Score.* instead of scores"),
        (np.float32(0.5), "component 'ri' gave .* instead of scores"),
        ("ab", "component 'ri' gave 'ab' .str. instead of scores"),
        ({"a": 0.5, "b": 0.5}, "component 'ri' gave .*dict. instead of scores"),
        ({0.25, 0.5}, "component 'ri' gave .*set. instead of scores"),
        ([0.5] * 3, "component 'ri' gave 3 scores for 2 samples; it must give one per sample, in order"),
        (np.full((1, 2), 0.5), "component 'ri' gave 1 scores for 2 samples"),
        (lambda: itertools.repeat(0.5), "component 'ri' gave over 2 scores for 2 samples"),
        (lambda: iter([0.5]), "component 'ri' gave 1 scores for 2 samples"),
        (["0.5", 0.5], r"component 'ri' gave '0.5' \(str\) for prompt 'a red circle', which is no number"),
        ([[0.5, 0.5], 0.5], r"component 'ri' gave \[0.5, 0.5\] \(list\) for prompt"),
        (np.full((2, 2), 0.5), r"component 'ri' gave .*\(ndarray\) for prompt"),
        ([0.5j, 0.5], r"component 'ri' gave 0.5j \(complex\)"),
        ([Score(value="high"), 0.5], r"component 'ri' gave 'high' \(str\)"),  # type: ignore[arg-type]
        ([np.float32("nan"), 0.5], "component 'ri' gave nan for prompt"),
        (torch.tensor([0.5, math.nan]), "component 'ri' gave nan for prompt"),
        ([2, 0.5], r"component 'ri' gave 2.0 for prompt .* must lie in \[0, 1\]"),
        (
            [0.5, Score(value=0.5, evidence={"why": {1}})],
            r"component 'ri': evidence\['why'\] is \{1\} \(set\)",
        ),
        ([0.5, Score(value=0.5, evidence={(1, 2): 3})], r"component 'ri': evidence is named \(1, 2\)"),
        ([0.5, Score(value=0.5, evidence=[1])], r"component 'ri': evidence is \[1\]"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_score_per_sample_is_an_error_with_the_components_name(given, message):
    with pytest.raises(ValueError, match=message):
        rewards_of(given)


def test_evidence_becomes_json():
    evidence = {
        "mean": np.float32(0.5),
        "count": np.int64(3),
        "sure": np.bool_(True),
        "boxes": np.arange(4).reshape(2, 2),
        "loss": torch.tensor(0.5),
        "features": torch.tensor([[1.0, math.nan]]),
        "deep": [{"a": (np.float16(1), None)}],
        "half": "\ud83d",
        np.int64(7): "seven",
        "long": np.longdouble(0.5),
    }
    (reward,) = rewards_of([Score(value=1, evidence=evidence)], 1)
    text = json.dumps(dict(reward.components["ri"].evidence), ensure_ascii=False, allow_nan=False)
    assert text.encode() and json.loads(text) == {
        "mean": 0.5,
        "count": 3,
        "sure": True,
        "boxes": [[0, 1], [2, 3]],
        "loss": 0.5,
        "features": [[1.0, "nan"]],
        "deep": [{"a": [1.0, None]}],
        "half": "\\ud83d",
        "7": "seven",
        "long": 0.5,
    }
