"""Checks of settings: an allowed value is returned, a refusal says what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from harness import settings

ROLLOUT = {
    "guidance": 1.0,
    "text_temperature": 0,
    "image_temperature": 1.0,
    "max_chain_tokens": 0,
    "random": "upstream",
}


def label(value: Any) -> str:
    """The name of a check, or the value; never an address, which differs between workers."""
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    ("check", "value", "limits", "message"),
    [
        (settings.whole_number, 0, {}, "a.b=0: give a whole number from 1"),
        (settings.whole_number, True, {}, "a.b=True: give a whole number from 1"),
        (settings.whole_number, 1.0, {}, "a.b=1.0: give a whole number from 1"),
        (
            settings.whole_number,
            -1,
            {"least": 0, "hint": ", or null"},
            "a.b=-1: give a whole number from 0, or null",
        ),
        (settings.number, "x", {}, "a.b='x': give a number"),
        (settings.number, float("nan"), {}, "a.b=nan: give a number"),
        (settings.number, float("inf"), {"least": 0}, "a.b=inf: give a number from 0"),
        (settings.number, 0, {"above": 0}, "a.b=0: give a number above 0"),
        (settings.number, 3, {"above": 0, "most": 2}, "a.b=3: give a number above 0, at most 2"),
        (settings.number, 1.5, {"least": 0, "most": 1}, "a.b=1.5: give a number from 0 to 1"),
        (settings.share, -0.1, {}, "a.b=-0.1: give a share from 0 to 1"),
        (settings.share, 1, {"whole": False}, "a.b=1: give a share from 0 to below 1"),
        (settings.choice, "z", {"allowed": ("x", "y")}, "a.b='z': allowed are x and y"),
        (settings.choice, None, {"allowed": ("w", "x", "y")}, "a.b=None: allowed are w, x, y"),
        (settings.flag, 1, {}, "a.b=1: give true or false"),
        (settings.text, " ", {}, "a.b=' ': give a text"),
    ],
    ids=label,
)
def test_a_refusal_says_what_is_allowed(check: Any, value: Any, limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check("a.b", value, **limits)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("check", "value", "limits"),
    [
        (settings.whole_number, 1, {}),
        (settings.number, -2.5, {}),
        (settings.number, 2, {"above": 0, "most": 2}),
        (settings.share, 1, {}),
        (settings.share, 0, {"whole": False}),
        (settings.choice, "y", {"allowed": ("x", "y")}),
        (settings.flag, False, {}),
        (settings.text, "x", {}),
    ],
    ids=label,
)
def test_what_is_allowed_is_returned(check: Any, value: Any, limits: dict[str, Any]) -> None:
    assert check("a.b", value, **limits) is value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance": "strong"}, "rollout.guidance='strong': give a number"),
        ({"text_temperature": -1}, "rollout.text_temperature=-1: give a number from 0 (greedy)"),
        ({"max_chain_tokens": 2.5}, "rollout.max_chain_tokens=2.5: give a whole number from 0 (no chain)"),
        ({"random": "dice"}, "rollout.random='dice': allowed are per_sample and upstream"),
        (
            {"top_k": 5},
            "rollout has guidance, text_temperature, image_temperature, max_chain_tokens, random, top_k:"
            " it takes guidance, text_temperature, image_temperature, max_chain_tokens, random",
        ),
    ],
    ids=str,
)
def test_wrong_rollout_settings(changes: dict[str, Any], message: str) -> None:
    settings.check_rollout("rollout", ROLLOUT)
    with pytest.raises(ValueError) as caught:
        settings.check_rollout("rollout", ROLLOUT | changes)
    assert str(caught.value) == message
