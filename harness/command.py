"""What `generate`, `bench` and `doctor` share: from the words of a command to one cell, its checkpoint, and errors people can act on."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.composition import groups
from harness.composition.arguments import UsageError, explain, prepare, quote
from harness.launch.board import duration, line
from harness.settings import whole_number
from harness.stages import locks
from harness.stages.status import Status
from harness.stages.store import StageStore, StorageError, storage_advice
from harness.study.cell import missing
from harness.study.planning import expand, plan, settings_of
from harness.types import Cell, Stage

HELP = ("-h", "--help")
CONFIG_DIR = ("-cd", "--config-dir")
LINE_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One cell, as a sweep would plan it; `resources` are the settings of that name."""

    cell: Cell
    store: StageStore
    resources: Mapping[str, Any]

    @property
    def threads(self) -> int:
        return self.resources["threads"]

    @property
    def scores(self) -> Stage:
        return self.cell.stages[-1]

    @property
    def samples(self) -> Stage:
        return self.scores.inputs["samples"]

    @property
    def trained(self) -> Stage:
        """The stage whose checkpoint is evaluated.

        Raises:
            UsageError: there is none, as the pictures exist already.
        """
        if "policy" not in self.samples.inputs:
            raise UsageError(
                "policies=images holds pictures and draws none: name a policy that draws, such as policies=tiny_janus. Pictures are"
                " scored with python -m harness.score samples=FOLDER"
            )
        return self.samples.inputs["policy"]


def run(program: Callable[[list[str]], None], words: Sequence[str], usage: str) -> int:
    """Runs a command and tells its errors.

    Returns:
        0 done, 1 something could not be made or written, 2 a mistake in the command, 130 interrupted.
    """
    if set(HELP) & set(words):
        print(
            usage
            + "\nGroups (GROUP=NAME)\n"
            + "\n".join(f"  {group}: {', '.join(names)}" for group, names in groups.options().items())
        )
        return 0
    os.environ.setdefault(
        "HF_HUB_DISABLE_PROGRESS_BARS", "1"
    )  # transformers draws one for every checkpoint it reads
    try:
        program(list(words))
    except KeyboardInterrupt:
        print("\nstopped; finished stages and checkpoints are kept", file=sys.stderr)
        return 130
    except (UsageError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {error if isinstance(error, UsageError) else explain(error)}", file=sys.stderr)
        return 2
    except (StorageError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def take(words: Sequence[str], names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The raw texts of the words `NAME=TEXT` for the given names, and all other words."""
    taken: dict[str, str] = {}
    rest = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in names:
            rest.append(word)
        elif name in taken:
            raise UsageError(f"{name}= is given twice, as {taken[name]!r} and {text!r}: give it once")
        else:
            taken[name] = text
    return taken, rest


def choose(words: Sequence[str]) -> Choice:
    """The one cell that the overrides of a command line mean; of an ablation the arm it calls full, unless `arms=` names another.

    Raises:
        UsageError: the words cannot be read, or mean no cell or several.
    """
    with _cell(words) as (config, line):
        study = plan(config, GlobalHydra.instance().config_loader(), [line])
    try:
        whole_number("resources.threads", config.resources.threads)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Choice(cell=study.cells[0], store=study.store, resources=_resources(config))


def settings(words: Sequence[str]) -> dict[str, Any]:
    """The resolved settings of that cell and its resources, whether or not it could run here.

    Raises:
        UsageError: as `choose`.
    """
    with _cell(words) as (config, line):
        return {
            **settings_of(config, GlobalHydra.instance().config_loader(), line),
            "resources": _resources(config),
        }


@contextmanager
def _cell(words: Sequence[str]) -> Iterator[tuple[DictConfig, list[str]]]:
    """The root configuration and the overrides of the one cell, with Hydra in place while the block runs."""
    arguments, folder = without_flags(prepare(words))
    for override in OverridesParser.create().parse_overrides(arguments):
        if override.is_sweep_override():
            raise UsageError(
                f"{override.input_line} gives several values, and this command uses one policy: give one value"
            )
    search = [f"hydra.searchpath=[{quote(f'file://{folder.resolve()}')}]"] if folder else []
    with initialize(version_base="1.3", config_path=None):
        config = compose("config", [*search, *arguments], return_hydra_config=True)
        if config.arms is None and config.study.full is not None:
            arguments.append(f"arms={config.study.full}")
        lines = expand(config, arguments)
        if len(lines) != 1:
            raise UsageError(
                f"these are {len(lines)} cells, and this command uses one policy: choose it with arms=NAME and seed=NUMBER"
            )
        yield config, lines[0]


def _resources(config: DictConfig) -> dict[str, Any]:
    return {str(name): value for name, value in config.resources.items()}


def obtain(stage: Stage, store: StageStore) -> Path:
    """The folder of a stage; says on stderr what has to be made first, how long it may take, and how it goes.

    Raises:
        StorageError: nothing can be written there.
        Exception: whatever the program of a stage raised.
    """
    needed = list(missing(stage, store).values())
    if needed:
        print(f"to be made first, once, under {store.root}:", file=sys.stderr)
        for one in needed:
            print(f"  {one.name:<12} {_expected(one, store)}", file=sys.stderr)
        try:
            store.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(storage_advice(store.root, error)) from error
    return store.make(stage, Lines())


class Lines:
    """A `harness.stages.store.Reporter` that writes lines to stderr."""

    def __init__(self) -> None:
        self._waits: Stage | None = None

    def begin(self, stage: Stage) -> None:
        self._name, self._first, self._began, self._said = stage.name, 0, 0.0, float("-inf")

    def wait(self, stage: Stage, owner: locks.Owner | None) -> None:
        if self._waits is not stage:
            self._waits = stage
            print(
                f"{stage.name} is being made by {owner or 'another process'}: waiting for it", file=sys.stderr
            )

    def progress(self, step: int, total: int, metrics: Mapping[str, float | int | None]) -> None:
        now = time.monotonic()
        self._first = self._first or step
        if self._first == step:  # the first step tells where this attempt goes on, its duration is unknown
            self._began = now
        elif now - self._said >= LINE_EVERY_S or step == total:
            self._said = now
            eta_s = (now - self._began) / (step - self._first) * (total - step)
            status = Status(
                state="running", step=step, total=total, reward=metrics.get("reward"), eta_s=eta_s
            )
            print(line(self._name, status), file=sys.stderr, flush=True)


def _expected(stage: Stage, store: StageStore) -> str:
    """How long the most similar stage of that name took that is there."""
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in store.root.glob(f"{stage.name}-*/stage.json")
    ]
    if not found:
        return "none was made here yet: minutes with preset=miniature, far more with a large model"
    alike = max(
        found,
        key=lambda facts: sum(facts["settings"].get(name) == value for name, value in stage.settings.items()),
    )
    return f"about {duration(alike['seconds'])}, as a similar one took"


def without_flags(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """Overrides, and the folder that --config-dir names."""
    arguments: list[str] = []
    folder = None
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in CONFIG_DIR:
            folder = Path(value if equals else next(rest, ""))
            if not folder.is_dir():
                raise UsageError(
                    f"--config-dir {folder}: there is no such folder. Give one that holds rewards/NAME.yaml or the like"
                )
        elif word.startswith("-") and flag != "--multirun":
            raise UsageError(f"unknown flag {word!r}. Known: --config-dir FOLDER, --help")
        elif not word.startswith("-"):
            if not equals and not word.startswith("~"):
                raise UsageError(
                    f'{word!r} is not KEY=VALUE: a text of several words needs quotes around the whole, "KEY=SEVERAL WORDS"'
                )
            arguments.append(word)
    return arguments, folder
