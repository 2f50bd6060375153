"""`python -m harness.doctor`: settings, stages, memory, sample size, and what this machine lacks.

Makes, loads and fetches nothing. It imports no torch; where there are GPUs, another process tries them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from harness import command
from harness.command import Choice
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.experts.judge.environment import unusable_variables
from harness.launch import examination
from harness.launch.local import available_cores
from harness.launch.run import make_cluster
from harness.launch.slurm import Slurm
from harness.names import HUB_ID
from harness.paths import user_path
from harness.processes import ask
from harness.protocols import Needing
from harness.stages import nvidia, provenance, sources
from harness.stages.generations import unfinished_folder
from harness.stages.locks import is_held, owner_of
from harness.stages.ranks import import_path
from harness.study import memory
from harness.study.detectable import detectable_table
from harness.study.memory import StageMemory, gigabytes
from harness.types import Stage

USAGE = """\
Shows a run before it starts: settings, this machine, stages, memory, the difference of two arms that it can
detect, and what is missing.

  python -m harness.doctor ablations=reward_components preset=paper_1b arm=full

KEY=VALUE  as in a sweep; with an ablation it shows the arm that the ablation names as full, or arm=NAME

With cluster=slurm it also shows what a login node can find out: limits, partitions, whether the job of a cell
could run. --on-cluster submits a job of a minute that looks from a node: Python, packages, disk, locks.
"""
ON_CLUSTER = "--on-cluster"
START_CUDA_S = 120.0  # torch may lie on a slow shared disk
HUB_SETTINGS = ("checkpoint", "model")  # settings of a component that may hold a hub id


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(doctor, sys.argv[1:] if argv is None else argv, USAGE)


def doctor(words: list[str]) -> None:
    """Prints all sections; settings and machine also where the cell cannot run on this machine."""
    console = Console(soft_wrap=True)
    on_cluster, words = ON_CLUSTER in words, [word for word in words if word != ON_CLUSTER]
    settings = command.settings(words)
    console.print("[bold]Settings[/bold]")
    text = yaml.safe_dump(settings, sort_keys=False, width=120, allow_unicode=True)
    console.print(Syntax(text, "yaml", background_color="default"))
    console.print("[bold]This machine[/bold]")
    for line in machine(settings["resources"]):
        console.print(f"  {escape(line)}")
    chosen = command.choose(words, runs_here=False)
    console.print(stages(chosen))
    for line in _cluster(chosen, on_cluster=on_cluster):
        console.print(escape(line))
    gpu_gb = chosen.resources["gpu_memory_gb"] or provenance.gpu_memory_gb()
    estimates = _estimates(chosen, gpu_gb)
    console.print(memory_table(estimates, gpu_gb))
    console.print(detectable_table(chosen.cell, chosen.store.root.parent / "studies"))
    console.print("[bold]Missing[/bold]")
    for line in [*missing(chosen.cell.stages), *_misfits(estimates, gpu_gb), *_unused_gpus()] or ["nothing"]:
        console.print(f"  {escape(line)}")


def _cluster(chosen: Choice, *, on_cluster: bool) -> Iterator[str]:
    """What can be found out of Slurm, one line each; nothing for another cluster.

    Raises:
        UsageError: --on-cluster needs Slurm, or `cluster` cannot be used.
        ValueError: the job that looks from a node failed.
    """
    if chosen.cluster["_target_"] == command.LOCAL:
        if on_cluster:
            raise UsageError(f"{ON_CLUSTER} looks from a node of Slurm: add cluster=slurm")
        return
    cluster = make_cluster(chosen.cluster)
    if not isinstance(cluster, Slurm):  # a user's own
        return
    outputs, options = chosen.store.root.parent, chosen.cluster["options"]
    yield "Slurm"
    for line in examination.from_here(cluster, outputs, options["partition"], options["account"]):
        yield f"  {line}"
    for line in examination.from_node(cluster, outputs) if on_cluster else ():
        yield f"  {line}"


def stages(chosen: Choice) -> Table:
    """Every stage of the cell, in order, with its state and folder."""
    shown = Table(title="Stages", title_justify="left")
    for head in ("stage", "state", "folder"):
        shown.add_column(head)
    for stage in chosen.cell.stages:
        folder = chosen.store.folder(stage)
        shown.add_row(stage.name, escape(_state(chosen, stage, folder)), escape(str(folder)))
    return shown


def _state(chosen: Choice, stage: Stage, folder: Path) -> str:
    if chosen.store.is_complete(stage):
        seconds = json.loads((folder / "stage.json").read_text(encoding="utf-8"))["seconds"]
        return f"there, took {seconds:.0f} s"
    lock = folder.with_name(folder.name + ".lock")
    if is_held(lock):
        return f"being made by {owner_of(lock) or 'another process'}"
    return "begun" if unfinished_folder(folder).is_dir() else "to be made"


def _estimates(chosen: Choice, gpu_gb: float | None) -> list[StageMemory]:
    """The memory of every stage whose sizes are known."""
    estimates = []
    processes, gpu = chosen.resources["processes"], gpu_gb is not None or bool(provenance.gpus())
    for stage in chosen.cell.stages:
        estimate = memory.estimate(stage, chosen.cell.config, chosen.store, processes=processes, gpu=gpu)
        if estimate:
            estimates.append(estimate)
    return estimates


def memory_table(estimates: Sequence[StageMemory], gpu_gb: float | None) -> Table:
    """The items that each process of every stage holds, always or in one of its phases."""
    if gpu_gb is not None:
        where = f"a GPU has {gpu_gb:.0f} GB"
    elif provenance.gpus():
        where = "how much a GPU has is not known (resources.gpu_memory_gb=N)"
    else:
        where = "on CPUs, as no GPU is known (resources.gpu_memory_gb=N)"
    shown = Table(title=f"Memory of each process, estimated; {where}", title_justify="left")
    for head in ("stage", "when", "part", "needs"):
        shown.add_column(head, justify="right" if head == "needs" else "left")
    for estimate in estimates:
        for when, items in (("always", estimate.resident), *estimate.phases.items()):
            for item in items:
                shown.add_row(estimate.stage, when, item.name, gigabytes(item.bytes))
        when, peak = f"[bold]at most[/bold], in {estimate.worst}", f"[bold]{gigabytes(estimate.peak)}[/bold]"
        shown.add_row(estimate.stage, when, "", peak, end_section=True)
    return shown


def _misfits(estimates: Sequence[StageMemory], gpu_gb: float | None) -> Iterator[str]:
    """The stages that do not fit: the GPU if there is one, else this machine."""
    room_gb, place = gpu_gb, "a GPU"
    if room_gb is None and not provenance.gpus():
        room_gb, place = provenance.memory_gb(), "this machine's memory"
    for estimate in estimates:
        reason = memory.misfit(estimate, room_gb, place) if room_gb is not None else None
        if reason:
            yield reason


def _unused_gpus() -> Iterator[str]:
    """Why torch would use no GPU although there may be some."""
    if refused := nvidia.devices().refused:
        yield refused
    torch = provenance.versions().get("torch", "")
    if provenance.gpus() and torch.endswith("+cpu"):
        yield f"torch {torch} is built without CUDA, so the GPUs are not used: install torch with CUDA"
    elif torch and provenance.gpus():
        yield from _no_cuda()


def _no_cuda() -> Iterator[str]:
    """Why torch cannot start CUDA, as another process finds out."""
    program = "from harness import devices; print(devices.unusable() or '')"
    environment = {**os.environ, "PYTHONPATH": import_path()}
    answer = ask([sys.executable, "-c", program], timeout_s=START_CUDA_S, environment=environment)
    if answer is None or answer.code != 0:
        yield "whether torch can start CUDA is not known: a process that tried gave no answer"
    elif reason := answer.output.strip():
        yield f"{reason}, so the GPUs are not used: install a torch or a driver that fit each other"


def missing(stages: Sequence[Stage]) -> list[str]:
    """What this machine lacks for the components of the stages: packages, models, servers, files."""
    return list(dict.fromkeys(_lacks([dict(stage.settings) for stage in stages])))


def _lacks(value: Any) -> Iterator[str]:
    """What is missing for all components in a value.

    A component with a method `missing` answers for the components in its settings, of which it may need
    only some.
    """
    if isinstance(value, Mapping):
        target = value.get("_target_")
        absent = sorted(_absent_packages(target)) if isinstance(target, str) else []
        yield from (
            f"{name} is not installed, and {target} imports it: pip install {name}" for name in absent
        )
        component: Any = make(dict(value)) if isinstance(target, str) and not absent else None
        if isinstance(component, Needing):
            yield from component.missing()
            return
        if isinstance(target, str) and "url" not in (value.get("serving") or {}):
            yield from (
                _not_cached(name, value[name]) for name in HUB_SETTINGS if _to_be_fetched(value.get(name))
            )
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _lacks(inner)


def _absent_packages(target: str) -> set[str]:
    return {name for name in sources.packages(target) if importlib.util.find_spec(name) is None}


def _to_be_fetched(value: Any) -> bool:
    """Whether the value is the id of a model on the hub that is not in huggingface_hub's cache."""
    if not isinstance(value, str) or not HUB_ID.fullmatch(value) or user_path(value).is_dir():
        return False
    home = user_path(os.environ.get("HF_HOME", "~/.cache/huggingface"))
    cache = user_path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return not any((cache / f"models--{value.replace('/', '--')}" / "snapshots").glob("*"))


def _not_cached(name: str, value: str) -> str:
    return (
        f"{name}={value} is not in the hub's cache. It is fetched at first use, which requires a connection. "
        "Or give a folder"
    )


def machine(resources: Mapping[str, Any]) -> list[str]:
    """Lines on hardware, devices, threads and versions, and on proxies that cannot be used."""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    commit, dirty = provenance.commit()
    gpu_gb = provenance.gpu_memory_gb()
    devices = [f"GPU {name}: {model}" for name, model in provenance.gpus()] or ["no GPU"]
    edits = {True: " with edits", False: "", None: " with or without edits" if commit else ""}[dirty]
    processes, threads = resources["processes"], resources["threads"]
    return [
        provenance.hardware() + (f", smallest GPU {gpu_gb:.0f} GB" if gpu_gb else ""),
        *devices,
        f"{available_cores()} cores; a job uses {processes} x {threads} threads "
        "(resources.processes x resources.threads)",
        versions,
        f"harness {commit or 'of no known commit'}{edits}",
        *(f"not known: {line}" for line in provenance.unknown()),
        *unusable_variables(),
    ]


if __name__ == "__main__":
    sys.exit(main())
