from __future__ import annotations

import json

import pytest

from harness.stages.keys import differences, facts, key, remembered
from harness.types import Stage


def _stage(**changes):
    return Stage(**{"name": "grpo", "program": "harness.chain.parse", "settings": {"steps": 1}, **changes})


def test_keys_count_numbers_by_value():
    assert key(_stage()) == key(_stage(settings={"steps": 1.0}))
    assert key(_stage()) != key(_stage(settings={"steps": 1.5}))
    assert key(_stage(settings={"steps": True})) != key(_stage())
    assert len(key(_stage())) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "sft"},
        {"program": "harness.chain.format_chain"},
        {"settings": {"steps": 2}},
        {"inputs": {"start": Stage(name="a", program="b.c", settings={})}},
    ],
)
def test_keys_differ_with_all_that_decides_numbers(changes):
    assert key(_stage(**changes)) != key(_stage())


def test_how_an_expert_is_reached_does_not_count():
    def judged(url: str, model: str = "m") -> str:
        return key(_stage(settings={"judge": {"model": model, "serving": {"url": url}}}))

    assert judged("http://here/v1") == judged("http://there/v1") != judged("http://here/v1", model="n")


def test_external_files_count_by_content_wherever_they_lie(tmp_path):
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "model.bin").write_bytes(b"same")
    stages_ = [_stage(settings={"checkpoint": str(folder)}, external=(str(folder),)) for folder in folders]
    assert key(stages_[0]) == key(stages_[1])
    (folders[1] / "weights" / "model.bin").write_bytes(b"other")
    assert key(stages_[0]) != key(stages_[1])


def test_a_missing_external_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        key(_stage(external=(str(tmp_path / "nowhere"),)))


def test_settings_that_are_no_plain_values_are_refused():
    with pytest.raises(ValueError, match="plain values"):
        key(_stage(settings={"when": object()}))


def test_the_same_facts_do_not_differ():
    made = facts(_stage(settings={"steps": 1.0, "rewards": [{"weight": 0.5}], "none": {}}))
    assert differences(json.loads(json.dumps(made)), made, ()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "sft"}, ["name of the stage differs"]),
        ({"settings": {"steps": 2}}, ["setting steps differs"]),
        ({"settings": {"steps": True}}, ["setting steps differs"]),
        ({"settings": {"steps": 1, "lora": {"rank": 8}}}, ["setting lora.rank is new"]),
        ({"settings": {}}, ["setting steps is no longer used"]),
        ({"inputs": {"start": Stage(name="a", program="b.c", settings={})}}, ["input start is new"]),
        (
            {"program": "harness.seeds.stable"},
            [
                "program of the stage differs",
                "source file harness/chain.py is no longer used",
                "source file harness/seeds.py is new",
                "source file harness/types.py is no longer used",
            ],
        ),
    ],
)
def test_every_difference_is_named(changes, named):
    assert differences(facts(_stage()), facts(_stage(**changes)), ()) == named


def test_a_setting_in_a_list_goes_by_its_position():
    now = facts(_stage(settings={"arms": [{"weight": 1}, {"weight": 3}]}))
    planned = facts(_stage(settings={"arms": [{"weight": 1}, {"weight": 2}]}))
    assert differences(planned, now, ()) == ["setting arms.1.weight differs"]


def test_an_external_file_that_changed_is_named_once_though_settings_hold_its_path(tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("one")
    stage = _stage(settings={"checkpoint": str(weights)}, external=(str(weights),))
    planned = facts(stage)
    weights.write_text("another")
    assert differences(planned, facts(stage), stage.external) == [f"external file {weights} differs"]


def test_a_key_that_is_remembered_is_computed_once_and_only_within_the_block(tmp_path):
    file = tmp_path / "prompts"
    file.write_text("a")
    stage = _stage(external=(str(file),))
    with remembered():
        before = key(stage)
        file.write_text("longer")
        assert key(stage) == before
        assert key(_stage(external=(str(file),))) != before, "another object"
    assert key(stage) != before
