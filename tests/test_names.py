from __future__ import annotations

import pytest

from harness.names import HUB_ID, nearest, unknown


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known_ones():
    assert unknown("arm", "ful", ["half", "full"], " Hint.") == (
        "unknown arm 'ful'. Did you mean 'full'? Known: full, half. Hint."
    )


def test_the_nearest_name_is_offered_only_if_near():
    assert "Did you mean" not in unknown("arm", "zzz", ["full"])
    assert unknown("arm", "x", []) == "unknown arm 'x'. Known: none."
    assert nearest("sem", ["spa", "semantics"]) == "semantics"
    assert nearest("sem", ["spa", "semantics"], cutoff=0.9) is None


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("deepseek-ai/Janus-Pro-1B", True),
        ("owner/name.v2", True),
        ("name", False),
        ("./models/janus", False),
        ("../janus", False),
        ("/models/janus", False),
        ("a/b/c", False),
    ],
)
def test_ids_of_the_hub_are_owner_and_name(text, is_id):
    assert bool(HUB_ID.fullmatch(text)) == is_id
