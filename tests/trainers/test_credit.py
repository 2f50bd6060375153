"""What each stage is rewarded for."""

from __future__ import annotations

import pytest

from harness.reward.total import Total
from harness.trainers.credit import parts

SCOPES = {"sem": "chain", "spa": "chain", "pi": "image", "hps": "image", "ri": "both"}
PRODUCT = "pi * (sem + spa) / 2 * ri"


@pytest.mark.parametrize(
    ("credit", "expression", "chain", "image"),
    [
        ("total", PRODUCT, PRODUCT, PRODUCT),
        ("causal", PRODUCT, PRODUCT, "pi / 2 * ri"),
        ("split", PRODUCT, "(sem + spa) / 2", "pi / 2 * ri"),
        ("chain", PRODUCT, PRODUCT, None),
        ("image", PRODUCT, None, PRODUCT),
        ("causal", "sem + spa", "sem + spa", None),
        ("split", "sem + spa", "sem + spa", None),
        ("split", "pi * ri", None, "pi * ri"),
        ("split", "min(pi, sem, hps) - ri", "min(sem)", "min(pi, hps) - ri"),
    ],
)
def test_stages_are_rewarded_for_their_parts(
    credit: str, expression: str, chain: str | None, image: str | None
) -> None:
    found = parts(credit, Total.parse(expression), SCOPES)
    assert {stage: part and part.text for stage, part in found.items()} == {"chain": chain, "image": image}


def test_a_component_of_both_stages_counts_for_the_chain_where_the_reward_says_so() -> None:
    found = parts("split", Total.parse("pi * sem * ri"), {**SCOPES, "ri": "chain"})
    assert {stage: part and part.text for stage, part in found.items()} == {
        "chain": "sem * ri",
        "image": "pi",
    }


def test_without_routing_no_scope_is_needed() -> None:
    total = Total.parse("pi * sem")
    for credit in ("total", "chain", "image"):
        assert set(parts(credit, total, {}).values()) <= {total, None}
