"""The stages between a checkpoint and its scores: chains, samples, and samples with an intervention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.composition.components import make
from harness.interventions.checks import check_benchmark, check_temperature
from harness.interventions.reading import Reading
from harness.protocols import ImageSource
from harness.study.roles import make_component
from harness.types import Prompt, Stage

if TYPE_CHECKING:
    from harness.interventions.case import Intervention
    from harness.protocols import Benchmark, PolicyRecipe

OWN = {"_target_": "harness.interventions.own.Own"}  # the intervention whose images the others share


def written(config: Mapping[str, Any], trained: Stage, candidate: int = 0) -> Stage:
    """The stage of the chains that a checkpoint writes for all images of an evaluation.

    Candidate 0 is what the images are drawn from without an intervention.
    """
    return Stage(
        name=f"chains-{candidate}" if candidate else "chains",
        program="harness.evaluation.write.write",
        settings={**_settings(config), "candidate": candidate},
        inputs={"policy": trained},
    )


def drawn(config: Mapping[str, Any], trained: Stage) -> Stage:
    """The stage of the samples of a checkpoint."""
    return Stage(
        name="samples",
        program="harness.evaluation.draw.sample",
        settings=_settings(config),
        inputs={"policy": trained},
    )


def redrawn(
    config: Mapping[str, Any], trained: Stage, intervention: Mapping[str, Any], reading: Mapping[str, Any]
) -> Stage:
    """The stage of the samples of a checkpoint with an intervention.

    Args:
        config: the settings of the cell.
        trained: the stage with the checkpoint.
        intervention: the settings of the component.
        reading: the settings `evaluation.reading`.
    """
    inputs = {"policy": trained, "chains": written(config, trained)}
    for candidate in range(1, make(intervention).candidates):
        inputs[f"chains-{candidate}"] = written(config, trained, candidate)
    if intervention != OWN:
        inputs["own"] = redrawn(config, trained, OWN, reading)
    return Stage(
        name="samples",
        program="harness.evaluation.intervene.sample",
        settings={**_settings(config), "intervention": intervention, "reading": reading},
        inputs=inputs,
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "policy": config["policies"],
        "benchmark": config["benchmarks"],
        "evaluation": config["evaluation"],
        "seed": config["seed"],
    }


def check(
    config: Mapping[str, Any], policy: PolicyRecipe | ImageSource, benchmark: Benchmark, prompt: Prompt
) -> None:
    """Check that a policy can do what `intervention` and `evaluation.draw` want.

    Args:
        config: the settings of the cell.
        policy: its component.
        benchmark: its component.
        prompt: any prompt of the evaluation.

    Raises:
        ValueError: it cannot, or a setting is not allowed.
    """
    intervention, evaluation = config.get("intervention"), config["evaluation"]
    if evaluation["draw"] and evaluation["captions"] is not None:
        raise ValueError(
            "evaluation.captions needs evaluation.draw=false: a benchmark scores only images of its own"
            " prompts"
        )
    if evaluation["draw"] and intervention is None:
        return
    wish = "intervention=" if intervention is not None else "evaluation.draw=false"
    if isinstance(policy, ImageSource) or not policy.writes_chains:
        if config["policies"].get("plans") is False:
            problem = "this policy writes no chain (policies.plans=false)"
        else:
            problem = "the policy of policies= draws from the prompt alone"
        raise ValueError(
            f"{problem}, and {wish} needs one that writes a chain and draws from a given one. Take such a"
            " policy (policies=tiny_janus, policies=got_r1_1b), or leave out this setting"
        )
    if intervention is None:
        return
    if not evaluation["draw"]:
        raise ValueError("evaluation.draw=false draws nothing: leave intervention=null, or set it to true")
    component: Intervention = make_component("intervention", intervention)
    check_benchmark(component, benchmark, type(benchmark).__name__)
    check_temperature(component, evaluation["rollout"]["text_temperature"])
    Reading(benchmark, prompt, **evaluation["reading"])
