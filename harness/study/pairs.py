"""The cells that compare arms: votes on the chains of every pair of `study.preference.pairs`, by seed.

The judges are those of the study: the option of judge= that its command line and ablation choose, then
`more_judges`. What an arm sets for judge= is the judge of its rewards, and votes on no chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.composition.arguments import UsageError, explain, readable
from harness.composition.components import make, with_homes
from harness.names import unknown
from harness.preference.pairs import check_pairs
from harness.preference.question import PreferenceQuestion
from harness.settings import share
from harness.stages.keys import key
from harness.study.cell import cell_id, with_inputs
from harness.study.experts import label
from harness.types import Cell, Stage

if TYPE_CHECKING:
    from harness.study.planning import CellPlan

WHERE = "study.preference"
QUESTION = ("ties", "rubric", "layouts")
DEFAULTS: dict[str, Any] = {
    "pairs": [],
    "more_judges": [],
    "ties": True,
    "rubric": None,
    "layouts": False,
    "unscored_tolerance": 0.5,  # with a larger share of unreadable answers, a set of prompts is not measured
}
# settings under `evaluation` that decide which prompts a policy writes for
PROMPTS = ("split", "categories", "prompts_per_category", "captions", "images_per_prompt")

Compose = Callable[[list[str]], DictConfig]  # overrides -> the configuration of a cell


def read(given: Any, arms: Sequence[str]) -> dict[str, Any] | None:
    """The complete settings of `study.preference`; None for a study that compares no chains.

    Raises:
        UsageError: a setting is unknown or not allowed, or a pair is not two different arms of the study.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given.get("pairs"):
        raise UsageError(f"{WHERE}={given!r}: write {{pairs: [[full, baseline], ...]}}, or null")
    for name in given:
        if name not in DEFAULTS:
            raise UsageError(unknown("setting", f"{WHERE}.{name}", [f"{WHERE}.{one}" for one in DEFAULTS]))
    settings = {**DEFAULTS, **given}
    more = settings["more_judges"]
    if not isinstance(more, list) or not all(isinstance(name, str) for name in more):
        raise UsageError(f"{WHERE}.more_judges={more!r}: give a list of options of judge=, such as [oracle]")
    if not isinstance(settings["pairs"], list):
        raise UsageError(f"{WHERE}.pairs={settings['pairs']!r}: give a list, [[full, baseline], ...]")
    try:
        check_pairs(settings["pairs"], arms)
        share(f"{WHERE}.unscored_tolerance", settings["unscored_tolerance"])
        PreferenceQuestion(**{name: settings[name] for name in QUESTION})
    except ValueError as error:
        raise UsageError(f"{WHERE}: {error}") from error
    return settings


def plan_pairs(
    preference: Mapping[str, Any] | None,
    cells: Sequence[Cell],
    plans: Sequence[CellPlan],
    compose: Compose,
) -> list[Cell]:
    """The cells of all pairs whose two arms are planned, for every seed that both have.

    Args:
        preference: as `read` returns it.
        cells: those of the arms.
        plans: theirs, in the same order.
        compose: composes the settings of a cell from its overrides.

    Raises:
        UsageError: two arms of a pair write for different prompts, a cell draws images, or a judge cannot be
            composed or refuses its settings.
    """
    found: list[Cell] = []
    for x, y in preference["pairs"] if preference else ():
        for cell, plan in zip(cells, plans, strict=True):
            other = next((one for one in cells if (one.arm, one.seed) == (y, cell.seed)), None)
            if preference and cell.arm == x and other is not None:
                judges = _judges(plan, preference["more_judges"], compose)
                found.append(_pair_cell(cell, other, judges, preference))
    return found


def check_run(facts: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Check that a run of a study of votes compares something.

    Args:
        facts: what the plan says of the study.
        cells: all cells of the run.

    Raises:
        UsageError: no pair has both arms in this run.
    """
    preference = facts.get("preference")
    if preference and all(cell.pair is None for cell in cells):
        pairs = ", ".join(f"{x} and {y}" for x, y in preference["pairs"])
        arms = ", ".join(dict.fromkeys(cell.arm for cell in cells))
        raise UsageError(
            f"{WHERE}.pairs compares {pairs}, and this run has {arms} alone: leave out arms=, or name both"
            " arms of a pair"
        )


def judge_labels(pairs: Sequence[Cell]) -> dict[str, str]:
    """Judge -> what a report calls it besides its option; the first one decides the claims."""
    labels: dict[str, str] = {}
    for cell in pairs:
        for name, settings in cell.stages[-1].settings["judges"].items():
            labels[name] = label(settings) or ""
    return labels


def _pair_cell(x: Cell, y: Cell, judges: Mapping[str, Any], preference: Mapping[str, Any]) -> Cell:
    _check_prompts(x, y)
    question = {name: preference[name] for name in QUESTION}
    external = list(PreferenceQuestion(**question).external)
    for settings in judges.values():
        external += getattr(make(settings), "external", ())
    votes = Stage(
        name="votes",
        program="harness.preference.votes.ask",
        settings={"pair": [x.arm, y.arm], "judges": judges, "question": question},
        inputs={"x": _chains(x), "y": _chains(y)},
        external=tuple(dict.fromkeys(external)),
    )
    arm = f"{x.arm}~{y.arm}"
    return Cell(
        id=cell_id(arm, x.seed, key(votes)),
        arm=arm,
        seed=x.seed,
        overrides=(),
        config={name: value for name, value in x.config.items() if y.config.get(name) == value},
        stages=tuple(with_inputs([votes]).values()),
        pair=(x.arm, y.arm),
    )


def _chains(cell: Cell) -> Stage:
    """The stage of a cell's own chains, its last one.

    Raises:
        UsageError: the cell draws images.
    """
    last = cell.stages[-1]
    if last.name != "chains":
        raise UsageError(
            f"{WHERE} compares the chains of arms, and the last stage of arm {cell.arm} is {last.name}: set"
            " evaluation.draw=false, with a policy that writes chains"
        )
    return last


def _check_prompts(x: Cell, y: Cell) -> None:
    """Refuses arms whose chains answer different prompts."""
    differing = []
    if x.config["benchmarks"] != y.config["benchmarks"]:
        differing.append("benchmarks differs")
    for name in PROMPTS:
        ours, theirs = (cell.config["evaluation"].get(name) for cell in (x, y))
        if ours != theirs:
            differing.append(f"evaluation.{name} {ours} and {theirs}")
    if differing:
        raise UsageError(
            f"{x.arm} and {y.arm} were planned for different prompts ({'; '.join(differing)}): give both the"
            " same benchmarks and evaluation settings"
        )


def _judges(plan: CellPlan, more: Sequence[str], compose: Compose) -> dict[str, Any]:
    """Judge -> its settings, that of judge= first. A further judge has the settings of its own file."""
    own = [*_not_of_judge(map(readable, plan.overrides)), f"seed={plan.seed}"]
    name, settings = _judge([*plan.common, *own], compose, "judge=")
    judges = {name: settings}
    for one in more:
        where = f"{WHERE}.more_judges={one}"
        if one in judges:
            raise UsageError(f"{where}: this judge votes already; name each once, without that of judge=")
        words = [*_not_of_judge(plan.common), *own, f"judge={one}"]
        remedy = f". {WHERE}.more_judges=[] asks the judge of judge= alone"
        judges[one] = _judge(words, compose, where, remedy)[1]
    return judges


def _not_of_judge(words: Any) -> list[str]:
    return [word for word in words if not word.lstrip("+~").startswith(("judge=", "judge."))]


def _judge(words: list[str], compose: Compose, where: str, remedy: str = "") -> tuple[str, dict[str, Any]]:
    """The option of judge= and its resolved settings, with which it can be made."""
    try:
        composed = compose(words)
        node = OmegaConf.to_container(composed.judge, resolve=True, throw_on_missing=True)
        settings = with_homes(node)
        make(settings)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        raise UsageError(f"{where}: {explain(error)}{remedy}") from error
    return str(composed.hydra.runtime.choices.judge), settings
