"""A study: the cells of an ablation (arms x seeds), composed, checked and planned before anything runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness import secrets
from harness.composition import groups
from harness.composition.arguments import UsageError, check_arm, explain, readable
from harness.composition.components import with_homes, without_experts
from harness.files import write_text
from harness.names import unknown
from harness.paths import user_path
from harness.settings import flag
from harness.stages import ranks
from harness.stages.keys import key
from harness.stages.status import OVER, Status, read_status, write_status
from harness.stages.store import StageStore
from harness.study import factors, pairs
from harness.study.cell import cell_id, plan_stages
from harness.study.facts import study_facts
from harness.types import Cell

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# settings that cannot change the numbers of a cell
MACHINE = {"hydra", "study", "arms", "arm", "resources", "outputs_dir", "reports_dir", "group_writable"}
# groups that can; the other groups count where one of these refers to them
CONTENT = {"policies", "benchmarks", "rewards", "trainers", "intervention"}


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """One cell to plan: an arm with a seed.

    `common` are the overrides of the command line in Hydra's grammar, `overrides` those of the arm as
    written.
    """

    arm: str
    seed: int
    common: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    @property
    def composition(self) -> list[str]:
        """All overrides of the cell in Hydra's grammar; later ones win."""
        own = [readable(f"study.arm={self.arm}"), f"seed={self.seed}"]
        return [*self.common, *map(readable, self.overrides), *own]

    def __str__(self) -> str:
        return f"arm {self.arm}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A planned study; `facts` is what its ablation says of itself, `folder` is `outputs/studies/<name>`.

    `group_writable`: the user's group may write in the folder.
    """

    name: str
    facts: Mapping[str, Any]
    command: str
    folder: Path
    store: StageStore
    cells: tuple[Cell, ...]
    group_writable: bool = False

    def folder_of(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.id


def expand(config: DictConfig, overrides: Sequence[str]) -> list[CellPlan]:
    """The cells of a study: its arms x its seeds.

    Args:
        config: the composed root configuration, without what the overrides sweep over.
        overrides: of the command line, in Hydra's grammar.

    Raises:
        UsageError: an arm is unknown or not allowed, or another setting than `seed` and `arms` is swept.
    """
    common: list[str] = []
    seeds, chosen = _listed(config.study.seeds or config.seed), _listed(config.arms)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        name = override.key_or_group
        if name == "seed":
            seeds = _values(override)
        elif name == "arms":
            chosen = _values(override)
        elif override.is_sweep_override():
            raise UsageError(_no_sweep(name, str(override.input_line)))
        else:
            common.append(str(override.input_line))
    arms = arms_of(config)
    names = list(arms) if chosen == [None] else [str(name) for name in chosen]
    cells = []
    for name in dict.fromkeys(names):
        if name not in arms:
            hint = f" To add an arm, write arm.{name}=OVERRIDE, once for each override"
            raise UsageError(unknown("arm", name, arms, hint))
        for seed in dict.fromkeys(seeds):
            cells.append(
                CellPlan(arm=name, seed=_seed(seed), common=tuple(common), overrides=tuple(arms[name]))
            )
    return cells


def arms_of(config: DictConfig) -> dict[str, list[str]]:
    """Arm -> overrides: the arms of the ablation and its factors, and those of the command line.

    Without any, one arm without overrides, named like the study.

    Raises:
        UsageError: an arm is named twice or is no list of overrides, or a factor is malformed.
    """
    written = OmegaConf.to_container(config.study.arms, resolve=False) or {}
    added = OmegaConf.to_container(config.arm, resolve=False) or {}
    assert isinstance(written, dict) and isinstance(added, dict)
    for name, overrides in {**written, **added}.items():
        check_arm(name, overrides)
    twice = sorted(set(written) & set(added))
    if twice:
        raise UsageError(
            f"arm {twice[0]!r} is an arm of {config.study.name} already: give yours another name"
        )
    arms = {**written, **factors.arms_of_factors(_factors(config)), **added}
    return arms or {_name(config): []}


def _factors(config: DictConfig) -> dict[str, Any]:
    """`study.factors` as it is written: a level's overrides may refer to settings of its cells."""
    written = OmegaConf.to_container(config.study.factors, resolve=False) or {}
    assert isinstance(written, dict)
    return {str(name): entry for name, entry in written.items()}


def plan(
    config: DictConfig, loader: ConfigLoader, cells: Sequence[CellPlan], words: Sequence[str] = ()
) -> Study:
    """Composes every cell, constructs its components and declares its stages. Writes nothing.

    Args:
        config: the composed root configuration.
        loader: Hydra's, which composes the cells.
        cells: as `expand` returns them.
        words: of the sweep's command line, which is kept in the plan.

    Raises:
        UsageError: a cell cannot be composed or a component refuses its settings; names the arm.
    """
    name = _name(config)
    preference = pairs.read(_resolved(config.study, ["preference"])["preference"], list(arms_of(config)))
    composition = Composition(config, loader)
    arms = [_plan_cell(cell, composition.settings(cell)) for cell in cells]
    compared = pairs.plan_pairs(preference, arms, cells, partial(loader.load_sweep_config, config))
    planned = (*arms, *compared)
    outputs = Path(folder_setting(config, "outputs_dir"))
    nodes, processes = config.resources.nodes, config.resources.processes
    given = {**_resolved(config, ["study"])["study"], "factors": factors.facts(_factors(config))}
    if preference is not None:
        given["preference"] = {**preference, "judges": pairs.judge_labels(compared)}
    facts = study_facts(given, arms_of(config), arms)
    try:
        secrets.check(list(words), "the command")
        secrets.check({**facts, **_resolved(config, ["cluster"])}, "the configuration")
        group_writable = flag("group_writable", config.group_writable)
        ranks.check(nodes, processes, list(chain.from_iterable(cell.stages for cell in planned)))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Study(
        name=name,
        facts=facts,
        command=shlex.join(["python", "-m", "harness.sweep", *words]),
        folder=outputs / "studies" / name,
        store=StageStore(outputs / "stages", ranks=ranks.Ranks(processes)),
        cells=planned,
        group_writable=group_writable,
    )


def _name(config: DictConfig) -> str:
    """The name of the study.

    Raises:
        UsageError: it is no text, or has characters that are not allowed.
    """
    name = config.study.name
    if not isinstance(name, str):
        raise UsageError(f"study.name is {name!r} in its YAML, and no text: put the name in quotes there")
    if not STUDY_NAME.fullmatch(name):
        raise UsageError(
            f"study.name={name!r}: a name starts with a letter or digit, "
            "followed by letters, digits, _ . and -"
        )
    return name


class Composition:
    """Composes the settings of cells. Hydra composes an arm once for all its seeds.

    Args:
        config: the composed root configuration.
        loader: Hydra's, which composes the cells.
    """

    def __init__(self, config: DictConfig, loader: ConfigLoader) -> None:
        self._config, self._loader = config, loader
        self._composed_by_arm: dict[tuple[str, ...], DictConfig] = {}

    def settings(self, cell: CellPlan) -> dict[str, Any]:
        """The resolved settings of a cell that can change its numbers.

        Raises:
            UsageError: it cannot be composed; names the arm.
        """
        try:
            composed = self._composed(cell)
            composed.seed = cell.seed
            unused = (MACHINE | set(groups.options())) - CONTENT
            names = [str(name) for name in composed if name not in unused]
            return without_experts(_resolved(composed, names))
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(f"in {cell}: {explain(error)}") from error

    def _composed(self, cell: CellPlan) -> DictConfig:
        """The configuration of the cell's arm, with the seed of one of its cells."""
        arm = (*cell.common, cell.arm, *cell.overrides)
        if arm not in self._composed_by_arm:
            self._composed_by_arm[arm] = self._loader.load_sweep_config(self._config, cell.composition)
        return self._composed_by_arm[arm]


def _plan_cell(cell: CellPlan, settings: dict[str, Any]) -> Cell:
    try:
        secrets.check(settings, "the configuration")
        stages = plan_stages(settings)
        last = key(stages[-1])
    except (HydraException, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        raise UsageError(f"in {cell}: {explain(error)}") from error
    return Cell(
        id=cell_id(cell.arm, cell.seed, last),
        arm=cell.arm,
        seed=cell.seed,
        overrides=cell.overrides,
        config=settings,
        stages=stages,
    )


def folder_setting(config: DictConfig, name: str) -> str:
    """The value of `outputs_dir` or `reports_dir`.

    Raises:
        UsageError: it is empty or null, no text, or below a home folder that does not exist.
    """
    value = config[name]
    if not value:
        shown = "null" if value is None else value
        raise UsageError(f"{name}={shown}: give a folder, such as {name}={name.removesuffix('_dir')}")
    if not isinstance(value, str):
        raise UsageError(f"{name} is {value!r} in its YAML, and no text: put the folder in quotes there")
    try:
        return str(user_path(value))
    except ValueError as error:
        raise UsageError(f"{name}={error}") from error


def write_plan(study: Study) -> None:
    """Writes `plan.json`, the configuration of every cell, and the status of each complete cell."""
    planned = []
    for cell in study.cells:
        folder = study.folder_of(cell)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", _yaml(cell.config))
        if study.store.is_complete(cell.stages[-1]):  # whichever study made it
            earlier = read_status(folder)
            known = earlier if earlier.state in OVER else Status()
            write_status(folder, replace(known, state="done", error=None))
        stages = [
            {"name": stage.name, "key": key(stage), "folder": f"stages/{study.store.folder(stage).name}"}
            for stage in cell.stages
        ]
        entry = {
            "id": cell.id,
            "arm": cell.arm,
            "seed": cell.seed,
            "overrides": list(cell.overrides),
            "folder": f"cells/{cell.id}",
            "pair": cell.pair and list(cell.pair),
        }
        planned.append({**entry, "stages": stages})
    created = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"study": study.facts, "command": study.command, "created": created, "cells": planned}
    write_text(study.folder / "plan.json", json.dumps(facts, indent=1))


def _yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, by the parser in C where there is one: it is many times faster."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(dict(settings), Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text


def _resolved(config: DictConfig, names: Sequence[str]) -> dict[str, Any]:
    """The named entries as plain values, with home folders in paths. They may refer to other entries."""
    values = {}
    for name in names:
        node = config[name]
        if OmegaConf.is_config(node):
            node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        values[name] = with_homes(node)
    return values


def _values(override: Override) -> list[Any]:
    """The values of an override that may be one value, a list, or a sweep."""
    if not override.is_sweep_override():
        return _listed(override.value())
    values = list(override.sweep_iterator())
    return [value.text if isinstance(value, QuotedString) else value for value in values]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) or OmegaConf.is_list(value) else [value]


def _seed(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise UsageError(f"seed={value}: give a whole number, or several as seed=0,1,2") from None


def _no_sweep(name: str, line: str) -> str:
    if name == "ablations":
        return f"{line} names several ablations: run them one after the other"
    return (
        f"{line} gives several values, and only seed and arms take several. "
        f"Make each an arm: arm.first={name}=... arm.second={name}=..."
    )
