"""The measure of a judge: what it asks, what its rows hold, and what decides its stage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mini_world import BENCHMARK, CHOSEN, POLICY, READ, REWARDS, ROLLOUT
from PIL import Image

from harness.chain import parse
from harness.evaluation.agreement import JudgeAgreement
from harness.samples import NO_TOKENS
from harness.stages.keys import key
from harness.study.cell import plan_stages
from harness.types import Prompt, Sample, Score, Stage


class Redness:
    """The share of red, or what `given` says of a prompt; counts what it was asked about."""

    name = "red"
    scope = "image"

    def __init__(self, given: dict[str, Score] | None = None, external: tuple[str, ...] = ()) -> None:
        self.given, self.external, self.asked = given or {}, external, []

    def __call__(self, samples):
        self.asked += [sample.prompt.id for sample in samples]
        return [self.given.get(one.prompt.id) or one.image.getpixel((0, 0))[0] / 255 for one in samples]


def sample(prompt_id: str, red: int, number: int = 0) -> Sample:
    return Sample(
        prompt=Prompt(id=prompt_id, text="a red circle", category="color", number=number),
        chain=parse(""),
        image=Image.new("RGB", (2, 2), (red, 0, 0)),
        tokens=NO_TOKENS,
        logprobs=(),
        seed=0,
    )


SAMPLES = [sample("a", 255), sample("b", 51), sample("c", 0)]


def test_the_value_is_the_components_and_the_reference_stands_in_the_evidence():
    judge = Redness({"b": Score(value=0.5, evidence={"answer": "so so"})})
    scores = JudgeAgreement(component=judge, reference=Redness()).score(SAMPLES)
    assert [score.value for score in scores] == [1.0, 0.5, 0.0]
    assert [score.evidence["reference"] for score in scores] == [1.0, 0.2, 0.0]
    assert [score.evidence["judge"] for score in scores] == [{}, {"answer": "so so"}, {}]


def test_what_the_judge_or_the_reference_leaves_unscored_stays_unscored():
    silent = Redness({"a": Score(value=None, unscored="no answer", evidence={"tries": 2})})
    blind = Redness({"c": Score(value=None, unscored="no facts")})
    scores = JudgeAgreement(component=silent, reference=blind).score(SAMPLES)
    assert [score.value for score in scores] == [None, 0.2, None]
    assert [score.unscored for score in scores] == ["no answer", None, "no reference: no facts"]
    assert scores[0].evidence == {"reference": 1.0, "judge": {"tries": 2}}
    assert scores[2].evidence == {"reference": None, "judge": {}} and silent.asked == ["a", "b"]


def test_people_are_the_reference_on_their_own_scale_and_the_judge_sees_only_what_they_scored(tmp_path):
    file = tmp_path / "people.jsonl"
    rows = [{"prompt_id": "a", "number": 1, "score": [40, 60]}, {"prompt_id": "c", "score": 7}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    judge = Redness(external=("rubric.txt",))
    measure = JudgeAgreement(component=judge, reference=str(file), allow_partial=True)
    scores = measure.score([sample("a", 0), sample("a", 255, number=1), sample("c", 51)])
    assert [score.value for score in scores] == [None, 1.0, 0.2]
    assert [score.evidence["reference"] for score in scores] == [None, 50.0, 7.0]
    assert scores[0].unscored == "no reference: no human score" and judge.asked == ["a", "c"]
    assert measure.external == ("rubric.txt", str(file))


def test_a_judge_that_gives_no_share_stops_with_its_name():
    with pytest.raises(ValueError, match="component Redness gave 7"):
        JudgeAgreement(component=Redness({"a": Score(value=7.0)}), reference=Redness()).score(SAMPLES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"component": "clip"}, "agreement.component='clip': give a reward component$"),
        ({"reference": None}, "agreement.reference=None: give a reward component, or a file of human scores"),
        ({"allow_partial": "yes"}, "evaluation.agreement.allow_partial='yes': give true or false"),
        ({"reference": "nowhere.jsonl"}, "agreement.reference: nowhere.jsonl cannot be read"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        JudgeAgreement(**{"component": Redness(), "reference": Redness(), **settings})


def stages(agreement: dict[str, Any] | None) -> dict[str, Stage]:
    from mini_world import DATA, SFT

    config = {
        "policies": POLICY,
        "benchmarks": BENCHMARK,
        "rewards": REWARDS,
        "trainers": {
            "_target_": "harness.trainers.recipes.Sft",
            "_recursive_": False,
            "sft": SFT,
            "data": DATA,
        },
        "rollout": ROLLOUT,
        "evaluation": {
            **{**CHOSEN, **READ, "images_per_prompt": 2, "batch_size": 3, "rollout": ROLLOUT},
            **{"check": None, "agreement": agreement},
        },
        "seed": 0,
        "sft_seed": 0,
    }
    return {stage.name: stage for stage in plan_stages(config)}


COMPONENT = {"_target_": "mini_world.LowCodes", "silent": None}
MEASURE = {
    "_target_": "harness.evaluation.agreement.JudgeAgreement",
    "component": COMPONENT,
    "reference": {**COMPONENT, "silent": "x"},
    "allow_partial": False,
}


def test_every_judge_scores_the_samples_that_the_benchmark_would_score():
    plain, one = stages(None), stages(MEASURE)
    other = stages({**MEASURE, "component": {**COMPONENT, "silent": "y"}})
    assert plain["scores"].settings["benchmark"] == BENCHMARK
    assert one["scores"].settings["benchmark"] == MEASURE
    for name in ("tokenizer", "tokens", "sft", "samples"):
        assert key(plain[name]) == key(one[name]) == key(other[name])
    assert len({key(planned["scores"]) for planned in (plain, one, other)}) == 3


def test_human_scores_count_by_content_in_the_scores_alone_and_are_checked_when_planned(tmp_path):
    keys = []
    for place, score in (("here", 1), ("there", 1), ("here", 2)):
        file = tmp_path / place / "people.jsonl"
        file.parent.mkdir(exist_ok=True)
        rows = [{"prompt_id": f"val-{n}", "number": m, "score": n * score} for n in range(4) for m in (0, 1)]
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        planned = stages({**MEASURE, "reference": str(file)})
        assert not planned["samples"].external and planned["scores"].external == (str(file),)
        keys.append(key(planned["scores"]))
    assert keys[0] == keys[1] != keys[2]
    file.write_text("\n".join(map(json.dumps, rows[:3])), encoding="utf-8")
    with pytest.raises(ValueError, match="has scores of 3 of 8 images"):
        stages({**MEASURE, "reference": str(file)})
    assert stages({**MEASURE, "reference": str(file), "allow_partial": True})


def test_a_class_that_scores_nothing_is_refused():
    with pytest.raises(ValueError, match=r"of evaluation\.agreement=, mini_reds\.Bare, must be a subclass"):
        stages({"_target_": "mini_reds.Bare"})
