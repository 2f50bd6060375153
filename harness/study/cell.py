"""A cell: its stages, from resolved settings to scores, and how a job makes them.

start (policy) -> trained checkpoint (trainer) -> samples of the benchmark's prompts -> scores

With an intervention: ... -> checkpoint -> chains -> samples -> scores -> plans. With `evaluation.draw: false`
the chains are the end. A policy of images that exist already declares the samples itself.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from harness import settings
from harness.composition.components import make
from harness.prompts import chosen_prompts
from harness.protocols import ImageSource
from harness.reward.function import used_components
from harness.stages.keys import key
from harness.stages.locks import LostError
from harness.stages.status import StatusWriter
from harness.stages.store import DamagedStageError, StageStore, StorageError
from harness.study import drawing
from harness.study.roles import make_component
from harness.types import Prompt, Stage

if TYPE_CHECKING:
    from harness.protocols import Benchmark, PolicyRecipe, Scorer, Trainer

TRACEBACK_LINES = 15
KEY_DIGITS = 8  # of a key in the id of a cell
NOT_DRAWING = ("check", "agreement", "draw", "reading")  # of `evaluation`; no plain sample needs them


def plan_stages(config: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Every stage of a cell, each after its inputs; the last one is what the cell is run for.

    Constructs the components, which check their settings.

    Raises:
        ValueError: a component refuses its settings, or they do not fit together.
        Exception: whatever else a constructor raises.
    """
    policy: PolicyRecipe | ImageSource = make_component("policies", config["policies"])
    trainer: Trainer = make_component("trainers", config["trainers"])
    benchmark: Benchmark = make_component("benchmarks", config["benchmarks"])
    if trainer.trains and (isinstance(policy, ImageSource) or not policy.trainable):
        raise ValueError(
            "the policy of policies= cannot be trained, but the trainer of trainers= trains. "
            "Use trainers=frozen"
        )
    rewards = used_components(config["rewards"])
    components = make(rewards["components"])

    scoring, scorer = _scoring(config, benchmark)
    check = _check(config["evaluation"].get("check"), scorer)
    evaluation, prompts = _evaluation(config["evaluation"], benchmark), _without_scoring(config["benchmarks"])
    for section, rollout in (("rollout", config["rollout"]), ("evaluation.rollout", evaluation["rollout"])):
        settings.check_rollout(section, rollout)
    chosen = _chosen_prompts(json.dumps(prompts), json.dumps(evaluation))
    if scorer is not benchmark:
        scorer.check(chosen, evaluation["images_per_prompt"])
    settings.flag("evaluation.draw", config["evaluation"]["draw"])
    drawing.check(config, policy, benchmark, chosen[0])

    files = [("rewards", rewards, tuple(chain.from_iterable(map(_external, components.values()))))]
    for one, made in ((scoring, scorer), (prompts, make(prompts))):
        files.append(("benchmark", one, tuple(made.external)))
    if evaluation["captions"] is not None:
        files.append(("evaluation", evaluation, (evaluation["captions"],)))
    drawn = {**config, "benchmarks": prompts, "evaluation": evaluation}
    last = policy.samples(drawn) if isinstance(policy, ImageSource) else _made(config, drawn, policy, trainer)
    if config["evaluation"]["draw"]:
        last = _scores(config, scoring, check, last, plans=benchmark.relation and benchmark.locate)
    return tuple(with_inputs([_with_files(last, files)]).values())


def _scoring(config: Mapping[str, Any], benchmark: Benchmark) -> tuple[dict[str, Any], Scorer]:
    """What scores the samples, settings first: `evaluation.agreement`, or the benchmark where it is null."""
    agreement: dict[str, Any] | None = config["evaluation"].get("agreement")
    if agreement is None:
        return config["benchmarks"], benchmark
    return agreement, make_component("evaluation.agreement", agreement)


def _without_scoring(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """The benchmark as every stage but the scores knows it: a change of how it scores retrains nothing."""
    return {name: value for name, value in benchmark.items() if name != "scoring"}


def _made(
    config: Mapping[str, Any], drawn: Mapping[str, Any], policy: PolicyRecipe, trainer: Trainer
) -> Stage:
    """The chains or the samples of a policy that is trained.

    Args:
        config: the settings of the cell.
        drawn: the same as the stages before the scores know them.
        policy: the component.
        trainer: the component.
    """
    start = policy.start(drawn)
    trained = [start, *trainer.stages(drawn, start)][-1]
    if not config["evaluation"]["draw"]:
        return drawing.written(drawn, trained)
    if config.get("intervention") is None:
        return drawing.drawn(drawn, trained)
    return drawing.redrawn(drawn, trained, config["intervention"], config["evaluation"]["reading"])


def _scores(
    config: Mapping[str, Any], scoring: Mapping[str, Any], check: str | None, samples: Stage, *, plans: Any
) -> Stage:
    """The scores of the samples, or what measures the plans of an intervention after them."""
    scores = Stage(
        name="scores",
        program="harness.evaluation.score.score",
        settings={"benchmark": scoring, "check": check},
        inputs={"samples": samples},
        parallel=0,
    )
    if config.get("intervention") is None or not plans:
        return scores
    return Stage(
        name="plans",
        program="harness.evaluation.plans.measure",
        settings={"benchmark": config["benchmarks"], "roles": config["evaluation"]["reading"]["roles"]},
        inputs={"samples": samples, "scores": scores},
        parallel=0,
    )


def _external(component: Any) -> tuple[str, ...]:
    return tuple(getattr(component, "external", ()))


def _with_files(stage: Stage, files: Sequence[tuple[str, Mapping[str, Any], tuple[str, ...]]]) -> Stage:
    """The stage and its inputs, with the files of a benchmark or rewards where the settings hold these."""
    inputs = {name: _with_files(source, files) for name, source in stage.inputs.items()}
    added: dict[str, None] = {}
    for name, settings_of_it, paths in files:
        if stage.settings.get(name) == settings_of_it:
            added |= dict.fromkeys(paths)
    return replace(stage, inputs=inputs, external=(*stage.external, *added))


def _evaluation(given: Mapping[str, Any], benchmark: Benchmark) -> dict[str, Any]:
    """The settings of drawing, completed with the benchmark's first seed and images per prompt."""
    evaluation = {name: value for name, value in given.items() if name not in NOT_DRAWING}
    if evaluation["images_per_prompt"] is None:
        evaluation["images_per_prompt"] = benchmark.images_per_prompt
    for name in ("images_per_prompt", "batch_size"):
        settings.whole_number(f"evaluation.{name}", evaluation[name])
    if evaluation["prompts_per_category"] is not None:
        hint = ", or null for all prompts"
        settings.whole_number(
            "evaluation.prompts_per_category", evaluation["prompts_per_category"], hint=hint
        )
    return {**evaluation, "first_seed": benchmark.first_seed}


def _check(check: Any, scorer: Scorer) -> str | None:
    """`evaluation.check`, if what scores can do it."""
    if check not in (None, "mirror"):
        raise ValueError(f"evaluation.check={check!r}: allowed are mirror and null")
    if check and scorer.mirrored is None:
        raise ValueError(
            "evaluation.check=mirror: this benchmark cannot score mirrored images. Leave it null"
        )
    return check


@cache
def _chosen_prompts(benchmark: str, evaluation: str) -> list[Prompt]:
    """The prompts to evaluate on; benchmark and evaluation are their settings as JSON."""
    return chosen_prompts(make(json.loads(benchmark)), json.loads(evaluation))


def cell_id(arm: str, seed: int, last: str) -> str:
    """The id of a cell: its arm, its seed, and the first digits of the key of its last stage."""
    return f"{arm}-s{seed}-{last[:KEY_DIGITS]}"


def with_inputs(stages: Iterable[Stage]) -> dict[str, Stage]:
    """Key -> stage for the given stages and all their inputs, each after its inputs."""
    stage_by_key: dict[str, Stage] = {}
    for stage in stages:
        stage_by_key |= with_inputs(stage.inputs.values())
        stage_by_key[key(stage)] = stage
    return stage_by_key


def missing(stage: Stage, store: StageStore) -> dict[str, Stage]:
    """Key -> stage for the stages that must be made to have this one, inputs first.

    Inputs of complete stages need not exist.
    """
    if store.is_complete(stage):
        return {}
    stage_by_key: dict[str, Stage] = {}
    for source in stage.inputs.values():
        stage_by_key |= missing(source, store)
    return {**stage_by_key, key(stage): stage}


def run(stage: Stage, store: StageStore, status: StatusWriter) -> bool:
    """Makes a stage and its inputs in a job, and writes progress and errors to the status.

    Returns:
        Whether the stage is complete.

    Raises:
        Stopped: a stop was requested; how the job ends is not written.
    """
    try:
        store.make(stage, status)
    except (DamagedStageError, LostError, StorageError) as error:  # the message says all
        print(f"error: {error}", file=sys.stderr)
        status.end("failed", error=str(error))
        return False
    except Exception as error:
        traceback.print_exc()
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
        status.end("failed", error="\n".join(lines[-TRACEBACK_LINES:]))
        return False
    status.end("done")
    return True
