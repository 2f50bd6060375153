"""Credit: which part of the total each stage, chain and image, is rewarded for.

A component's scope says what its score depends on: the chain, the image, or both. A component of scope both
counts for the image, unless the reward says otherwise (`scopes`).
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.reward.total import Total

STAGES = ("chain", "image")
KINDS = ("total", "causal", "split", "chain", "image")
ROUTED = ("causal", "split")  # the kinds that ask for scopes


def parts(credit: str, total: Total, scopes: Mapping[str, str]) -> dict[str, Total | None]:
    """Stage -> the expression that its actions are rewarded for; None: its actions get no advantage.

    Args:
        credit: `total`: both stages by the total. `causal`: the image without what the chain alone has
            earned. `split`: each stage by its own components. `chain`, `image`: the total trains one stage.
        total: the expression of the reward.
        scopes: component -> `chain`, `image` or `both`. Only causal and split read it.
    """
    if credit in STAGES:
        return {stage: total if stage == credit else None for stage in STAGES}
    if credit == "total":
        return dict.fromkeys(STAGES, total)
    for_chain = frozenset(name for name in total.names if scopes[name] == "chain")
    image = total.part(total.names - for_chain)
    return {"chain": total if credit == "causal" else total.part(for_chain), "image": image}
