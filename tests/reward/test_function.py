"""The reward of samples: a total over component scores, nothing unscored hidden, no value out of range."""

from __future__ import annotations

import math

import pytest
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
