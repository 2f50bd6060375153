"""Checks of the settings under `grpo`, before any job: wrong values, and values that could not act."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.composition.components import make
from harness.reward.function import RewardFunction
from harness.reward.total import Total
from harness.settings import choice, number, share, whole_number
from harness.study.roles import make_component
from harness.trainers import aggregate, credit
from harness.trainers.optimizer_settings import check_lora, check_optimizer
from harness.trainers.ratio import Clipped, TokenRatio

if TYPE_CHECKING:
    from harness.protocols import Advantage, Ratio

IMAGE_LOGPROBS = ("guided", "conditional")
CHOICES = {
    "image_logprobs": IMAGE_LOGPROBS,
    "credit": credit.KINDS,
    "aggregate": aggregate.KINDS,
    "kl": ("k3", "k2", "reward"),
    "zero_spread": ("keep", "drop", "resample"),
    "token_weights": ("none", "guidance"),
    "truncated": ("keep", "mask", "penalise"),
}
RESAMPLE_BATCHES = 10  # the default
CLIP = (0.8, 1.2)  # the default bounds of the ratio
TOLERANCE = 1e-9


def check(grpo: Mapping[str, Any]) -> None:
    """Raises ValueError for the first wrong setting, with its value and what is allowed."""
    check_optimizer("grpo", grpo)
    for name in ("prompts", "samples", "inner_epochs", "micro_batch", "resample_batches"):
        whole_number(f"grpo.{name}", grpo[name])
    number("grpo.gap_tolerance", grpo["gap_tolerance"], above=0)
    number("grpo.kl_weight", grpo["kl_weight"], least=0)
    if grpo["samples"] < 2:
        raise ValueError(
            f"grpo.samples={grpo['samples']}: a group needs at least 2 samples to have an advantage"
        )
    for name, allowed in CHOICES.items():
        choice(f"grpo.{name}", grpo[name], allowed)
    if grpo["advantage_clip"] is not None:
        number("grpo.advantage_clip", grpo["advantage_clip"], above=0, hint=", or null for no bound")
    if grpo["rollout_batch"] is not None:
        whole_number("grpo.rollout_batch", grpo["rollout_batch"])
    share("grpo.unscored_tolerance", grpo["unscored_tolerance"])
    check_lora("grpo", grpo["lora"])
    _check_advantage(grpo, _made("advantage", grpo["advantage"]))
    _check_ratio(grpo, _made("ratio", grpo["ratio"]))
    _check_effects(grpo)


def _made(group: str, settings: Any) -> Any:
    if not isinstance(settings, Mapping) or "_target_" not in settings:
        raise ValueError(
            f"{group}={settings!r}: choose one with {group}=NAME. Your own: FOLDER/{group}/NAME.yaml with"
            " _target_: MODULE.CLASS, and --config-dir FOLDER"
        )
    return make_component(group, settings)


def _check_advantage(grpo: Mapping[str, Any], advantage: Advantage) -> None:
    if advantage.uses_total:
        return
    name = grpo["advantage"]["_target_"]
    if grpo["kl"] == "reward" and grpo["kl_weight"]:
        raise ValueError(
            f"grpo.kl=reward takes the KL off the total, which {name} does not use: use k3 or k2"
        )
    if grpo["truncated"] == "penalise":
        raise ValueError(
            f"grpo.truncated=penalise lowers the total, which {name} does not use: use keep or mask"
        )


def _check_ratio(grpo: Mapping[str, Any], ratio: Ratio) -> None:
    """Refuses what has no effect while the policy is the one that sampled: all ratios are 1 then."""
    if grpo["inner_epochs"] > 1:
        return
    advice = "with grpo.inner_epochs=1 all ratios are 1, so it has no effect. Set 2 or more inner epochs"
    if ratio.needs_inner_epochs:
        raise ValueError(f"ratio: {grpo['ratio']['_target_']}: {advice}, or use ratio=token")
    if isinstance(ratio, Clipped) and (ratio.low, ratio.high) != CLIP:
        raise ValueError(f"ratio.clip_low or ratio.clip_high is not the default: {advice}")
    if isinstance(ratio, TokenRatio) and ratio.dual_clip is not None:
        raise ValueError(f"ratio.dual_clip={ratio.dual_clip}: {advice}")


def _check_effects(grpo: Mapping[str, Any]) -> None:
    """Refuses values that no other setting lets act."""
    if not grpo["kl_weight"] and grpo["kl"] != "k3":
        raise ValueError(f"grpo.kl={grpo['kl']} has no effect with grpo.kl_weight=0: set a weight")
    if grpo["zero_spread"] != "resample" and grpo["resample_batches"] != RESAMPLE_BATCHES:
        raise ValueError(
            f"grpo.resample_batches={grpo['resample_batches']} has no effect without"
            " grpo.zero_spread=resample"
        )
    if grpo["token_weights"] == "guidance" and grpo["image_logprobs"] != "guided":
        raise ValueError(
            "grpo.token_weights=guidance compares the conditional with the unconditional row, and"
            " grpo.image_logprobs=conditional has only one: use image_logprobs=guided"
        )
    if grpo["token_weights"] == "guidance" and grpo["credit"] == "chain":
        raise ValueError(
            "grpo.token_weights=guidance weighs image tokens, and grpo.credit=chain trains none of them"
        )
    if grpo["truncated"] == "penalise" and grpo["credit"] == "image":
        raise ValueError(
            "grpo.truncated=penalise lowers the reward of chains, and grpo.credit=image trains none of them"
        )


def check_together(grpo: Mapping[str, Any], rollout: Mapping[str, Any], rewards: Mapping[str, Any]) -> None:
    """Raises ValueError where settings of GRPO cannot act with these rollouts or rewards."""
    if grpo["token_weights"] == "guidance" and rollout["guidance"] <= 1:
        raise ValueError(
            f"grpo.token_weights=guidance has no effect with rollout.guidance={rollout['guidance']}: there is"
            " no unconditional row. Set a guidance above 1"
        )
    if grpo["truncated"] != "keep" and rollout["max_chain_tokens"] == 0:
        raise ValueError(
            f"grpo.truncated={grpo['truncated']} has no effect with rollout.max_chain_tokens=0: there are no"
            " chains"
        )
    function = RewardFunction(**make(rewards))
    _check_weights(grpo["advantage"], function)
    if grpo["credit"] in credit.ROUTED:
        _check_parts(grpo["credit"], function)
    elif rewards.get("scopes"):
        raise ValueError(
            f"rewards.scopes has no effect with grpo.credit={grpo['credit']}: use causal or split"
        )
    if not make(grpo["advantage"]).uses_total and not _is_sum(function.total):
        _say(
            f"note: {grpo['advantage']['_target_']} adds the normalized components of rewards.total; its"
            f" expression {function.total.text!r} is not used"
        )


def _is_sum(total: Total) -> bool:
    """Whether components count alike and alone, as in a sum or a mean: judged by their values at 0 and 1."""
    zeros = dict.fromkeys(total.names, 0.0)
    nothing = total.evaluate(zeros)
    gains = [total.evaluate({**zeros, name: 1.0}) - nothing for name in total.names]
    everything = total.evaluate(dict.fromkeys(total.names, 1.0)) - nothing
    return max(gains) - min(gains) < TOLERANCE and abs(everything - sum(gains)) < TOLERANCE


def _check_weights(advantage: Mapping[str, Any], function: RewardFunction) -> None:
    for name in advantage.get("weights") or {}:
        if name not in function.total.names:
            raise ValueError(
                f"advantage.weights.{name} has no effect: the components of rewards.total are"
                f" {', '.join(sorted(function.total.names))}"
            )


def _check_parts(kind: str, function: RewardFunction) -> None:
    """Refuses causal credit that is that of the total, and says where a stage has no reward."""
    parts = credit.parts(kind, function.total, function.scopes)
    if kind == "causal" and parts["image"] == function.total:
        raise ValueError(
            f"grpo.credit=causal equals total here: rewards.total={function.total.text!r} names no component"
            " of scope chain"
        )
    for stage, part in parts.items():
        if part is None:
            _say(
                f"note: with grpo.credit={kind} rewards.total={function.total.text!r} rewards nothing of the"
                f" {stage}: only the KL acts there"
            )


@cache
def _say(message: str) -> None:
    """Prints a message once."""
    print(message, file=sys.stderr)
