import pytest
from got_r1_apart import Apart

from harness.chain import format_chain, parse
from harness.types import Box, PlannedObject, Prompt, Sample, Tokens

PROMPT = Prompt(id="p", text="a vase and a dog", category="2D-spatial")
LEFT, RIGHT = Box(0, 0, 400, 1000), Box(600, 0, 1000, 1000)


def sample(chain: str) -> Sample:
    return Sample(
        prompt=PROMPT,
        chain=parse(chain),
        image=None,
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=0,
    )


def chain(*boxes: Box | None) -> str:
    return format_chain(
        "A plan: ", *[PlannedObject(name=f"thing {number}", box=box) for number, box in enumerate(boxes)]
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (chain(LEFT, RIGHT), 1.0),  # perfect
        (chain(LEFT), 1.0),
        (chain(LEFT, RIGHT, LEFT), 0.0),  # wrong
        (chain(LEFT, Box(100, 0, 500, 1000)), pytest.approx(0.4 / 0.9)),
        (chain(None, None), 0.0),
        ("", 0.0),  # malformed
        ("<|box_start|>(9,9),(3 <|obj_start|>", 0.0),
    ],
)
def test_boxes_that_keep_apart_are_rewarded(text, value):
    good, scored = Apart(tolerance=0.1)([sample(chain(LEFT, RIGHT)), sample(text)])
    assert (good.value, scored.value) == (1.0, value)


def test_a_tolerance_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="tolerance=1: give a number from 0, below 1"):
        Apart(tolerance=1)
