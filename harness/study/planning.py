"""A study: the cells of an ablation (arms x seeds), composed, checked and planned before anything runs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.analysis import claims
from harness.composition import groups
from harness.composition.arguments import UsageError, check_arm_name, explain, known, readable
from harness.composition.components import make
from harness.files import write_text
from harness.stages import ranks
from harness.stages.keys import key
from harness.stages.status import OVER, Status, read_status, write_status
from harness.stages.store import StageStore
from harness.study.cell import plan_stages
from harness.types import Cell

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
CELL_KEY_DIGITS = 8
MACHINE = {
    "hydra",
    "study",
    "arms",
    "arm",
    "resources",
    "outputs_dir",
    "reports_dir",
}  # cannot change a cell's numbers
CONTENT = {
    "policies",
    "benchmarks",
    "rewards",
    "trainers",
}  # other groups count where one of these refers to them


@dataclass(frozen=True, kw_only=True)
class Study:
    """A planned study; `facts` is what its ablation says of itself, `folder` is `outputs/studies/<name>`."""

    name: str
    facts: Mapping[str, Any]
    command: str
    folder: Path
    store: StageStore
    cells: tuple[Cell, ...]

    def folder_of(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.id


def expand(config: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every cell: command line, then the arm's, then arm and seed.

    Args:
        config: the composed root configuration (without what is swept over).
        arguments: the overrides of the command line, in Hydra's grammar.

    Raises:
        UsageError: an unknown arm, a sweep over anything but `seed` and `arms`, or arms that cannot be.
    """
    parser = OverridesParser.create()
    common, seeds, chosen = [], config.study.seeds or [config.seed], config.arms
    for override in parser.parse_overrides(list(arguments)):
        name = override.key_or_group
        values = list(override.sweep_iterator()) if override.is_sweep_override() else None
        if name == "seed":
            seeds = values if values is not None else _listed(override.value())
        elif name == "arms":
            chosen = values if values is not None else override.value()
        elif values is not None:
            raise UsageError(_no_sweep(name, str(override.input_line)))
        else:
            common.append(str(override.input_line))
    arms = arms_of(config)
    names = list(arms) if chosen is None else [str(name) for name in _listed(chosen)]
    for name in names:
        if name not in arms:
            raise UsageError(
                known("arm", name, arms, f" An arm is added with arm.{name}=OVERRIDE, once for each override")
            )
    return [
        [*common, *map(readable, arms[name]), f"study.arm={name}", f"seed={_seed(seed)}"]
        for name in dict.fromkeys(names)
        for seed in dict.fromkeys(seeds)
    ]


def arms_of(config: DictConfig) -> dict[str, list[str]]:
    """Arm -> overrides: those of the ablation and those added on the command line; one without overrides if there are none."""
    written = OmegaConf.to_container(config.study.arms, resolve=False) or {}
    added = OmegaConf.to_container(config.arm, resolve=False) or {}
    assert isinstance(written, dict) and isinstance(added, dict)
    if twice := sorted(set(written) & set(added)):
        raise UsageError(
            f"arm {twice[0]!r} is an arm of {config.study.name} already: give yours another name"
        )
    arms = {str(name): overrides for name, overrides in {**written, **added}.items()} or {
        str(config.study.name): []
    }
    for name, overrides in arms.items():
        check_arm_name(name)
        if not isinstance(overrides, list) or not all(
            isinstance(line, str) and "=" in line for line in overrides
        ):
            raise UsageError(
                f"arm {name} is {overrides!r}: write it as a list of overrides, [KEY=VALUE, ...]"
            )
    return arms


def plan(config: DictConfig, loader: ConfigLoader, lines: Sequence[Sequence[str]]) -> Study:
    """Composes every cell, constructs its components and declares its stages. Writes nothing.

    Raises:
        UsageError: a cell cannot be composed or a component refuses its settings; names the arm.
    """
    name = str(config.study.name)
    if not STUDY_NAME.fullmatch(name):
        raise UsageError(
            f"study.name={name!r}: a name starts with a letter or digit and goes on with letters, digits, _ . and -"
        )
    arms = arms_of(config)
    cells, categories = [], []
    for line in lines:
        cell = _cell(*_who(line), arms, settings_of(config, loader, line))
        cells.append(cell)
        categories.extend(make(cell.config["benchmarks"]).categories)
    facts = {
        word: value
        for word, value in _resolved(config, ["study"])["study"].items()
        if word not in ("arms", "arm")
    }
    for role in ("baseline", "full"):
        if facts.get(role) is not None and facts[role] not in arms:
            raise UsageError(known(f"arm as study.{role}", facts[role], arms))
    facts["categories"] = list(dict.fromkeys(categories))
    try:
        claims.check({**facts, "arms": arms})
    except ValueError as error:
        raise UsageError(f"in study {name}: {error}") from error
    outputs = Path(folder_setting(config, "outputs_dir"))
    processes = config.resources.processes
    try:
        ranks.check(processes, [stage for cell in cells for stage in cell.stages])
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Study(
        name=name,
        facts=facts,
        command=shlex.join(["python", "-m", "harness.sweep", *sys.argv[1:]]),
        folder=outputs / "studies" / name,
        store=StageStore(outputs / "stages", processes=processes),
        cells=tuple(cells),
    )


def folder_setting(config: DictConfig, name: str) -> str:
    """`outputs_dir` or `reports_dir`.

    Raises:
        UsageError: it is empty or null.
    """
    if not (value := config[name]):
        raise UsageError(
            f"{name}={'null' if value is None else value}: give a folder, such as {name}={name.removesuffix('_dir')}"
        )
    return str(value)


def write_plan(study: Study) -> None:
    """Writes `plan.json` and, for every cell, its configuration and where it stands, before anything is launched."""
    planned = []
    for cell in study.cells:
        folder = study.folder_of(cell)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(dict(cell.config)), folder / "config.yaml")
        write_status(folder, _standing(study, cell))
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
        }
        planned.append({**entry, "stages": stages})
    created = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"study": study.facts, "command": study.command, "created": created, "cells": planned}
    write_text(study.folder / "plan.json", json.dumps(facts, indent=1))


def _standing(study: Study, cell: Cell) -> Status:
    """Done if the scores are there, whoever made them; else planned, with the reward it had reached."""
    earlier = read_status(study.folder_of(cell))
    if study.store.is_complete(cell.stages[-1]):
        return replace(earlier, state="done", error=None) if earlier.state in OVER else Status(state="done")
    return Status(state="planned", reward=earlier.reward)


def settings_of(config: DictConfig, loader: ConfigLoader, line: Sequence[str]) -> dict[str, Any]:
    """The resolved settings of the cell of one line of `expand`, as far as they can change its numbers.

    Raises:
        UsageError: it cannot be composed; names the arm.
    """
    try:
        composed = loader.load_sweep_config(config, list(line))
        unused = (MACHINE | set(groups.options())) - CONTENT
        return _resolved(composed, [str(name) for name in composed if name not in unused])
    except (HydraException, OmegaConfBaseException) as error:
        arm, seed = _who(line)
        raise UsageError(f"in arm {arm}, seed {seed}: {explain(error)}") from error


def _cell(arm: str, seed: int, arms: Mapping[str, Sequence[str]], config: dict[str, Any]) -> Cell:
    try:
        stages = plan_stages(config)
        last = key(stages[-1])
    except (HydraException, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        raise UsageError(f"in arm {arm}, seed {seed}: {explain(error)}") from error
    cell_id = f"{arm}-s{seed}-{last[:CELL_KEY_DIGITS]}"
    return Cell(id=cell_id, arm=arm, seed=seed, overrides=tuple(arms[arm]), config=config, stages=stages)


def _resolved(config: DictConfig, names: Sequence[str]) -> dict[str, Any]:
    """The named parts as plain values; what they refer to may lie in other parts."""
    nodes = {name: config[name] for name in names}
    return {
        name: OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        if OmegaConf.is_config(node)
        else node
        for name, node in nodes.items()
    }


def _who(line: Sequence[str]) -> tuple[str, int]:
    """Arm and seed of a line that `expand` made."""
    return line[-2].partition("=")[2], int(line[-1].partition("=")[2])


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
    return f"{line} gives several values, and only seed and arms take several. Make each an arm: arm.first={name}=... arm.second={name}=..."
