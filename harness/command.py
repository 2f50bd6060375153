"""What the commands share: the configuration of a command line, a cell, its stages, and exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.composition import groups
from harness.composition.arguments import CONFIG_DIR, UsageError, explain, prepare, quote
from harness.launch.board import StatusLines, duration
from harness.settings import whole_number
from harness.stages import locks, nvidia
from harness.stages.status import Status
from harness.stages.store import StageStore, StorageError, storage_advice
from harness.study.cell import missing
from harness.study.planning import CellPlan, Composition, expand, plan
from harness.types import Cell, Stage

HELP = ("-h", "--help")
LINE_EVERY_S = 5.0
LOCAL = "harness.launch.local.Local"


@dataclass(frozen=True, kw_only=True)
class Root:
    """The root configuration of a command line, its overrides, and Hydra's loader.

    Values that the command line sweeps over are in `overrides` only.
    """

    config: DictConfig
    overrides: list[str]
    loader: ConfigLoader


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One cell, as a sweep would plan it; `resources` and `cluster` are the settings of these names.

    `words` are those of the command line that describe it.
    """

    cell: Cell
    store: StageStore
    resources: Mapping[str, Any]
    cluster: DictConfig
    words: Sequence[str]

    @property
    def threads(self) -> int:
        return self.resources["threads"]

    @property
    def scores(self) -> Stage:
        return self._last("scores")

    @property
    def samples(self) -> Stage:
        return self._last("samples")

    def _last(self, name: str) -> Stage:
        """The last stage of this name.

        Raises:
            UsageError: there is none, because no image is drawn.
        """
        for stage in reversed(self.cell.stages):
            if stage.name == name:
                return stage
        raise UsageError("evaluation.draw=false draws no image: set it to true for this command")

    @property
    def trained(self) -> Stage:
        """The stage whose checkpoint is evaluated.

        Raises:
            UsageError: there is none, because the images exist already.
        """
        if "policy" not in self.samples.inputs:
            raise UsageError(
                "policies=images reads images and draws none. Name a policy that draws, such as "
                "policies=tiny_janus. To score images, use python -m harness.score samples=FOLDER"
            )
        return self.samples.inputs["policy"]


def run(program: Callable[[list[str]], int | None], words: Sequence[str], usage: str) -> int:
    """Runs a command, or prints its usage and the groups where the words ask for help.

    Returns:
        The exit code, as `exit_code`.
    """
    if set(HELP) & set(words):
        lines = [f"  {group}: {', '.join(names)}" for group, names in groups.options().items()]
        print("\n".join([usage, "Groups (GROUP=NAME)", *lines]))
        return 0
    return exit_code(program, words)


def exit_code(program: Callable[[list[str]], int | None], words: Sequence[str]) -> int:
    """Runs a program and prints its errors as one message.

    Returns:
        What the program returns, or 0; 1 where something could not be made or written, 2 for a mistake in the
        command, 130 after Ctrl-C.
    """
    # transformers draws a progress bar for every checkpoint it reads
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        with interruptible():
            return program(list(words)) or 0
    except KeyboardInterrupt:
        print("\nstopped. Finished stages and checkpoints are kept", file=sys.stderr)
        return 130
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    except (StorageError, locks.LostError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


@contextmanager
def interruptible() -> Iterator[None]:
    """Makes SIGINT (Ctrl-C) and SIGTERM raise KeyboardInterrupt while the block runs.

    A shell script starts `command &` with SIGINT ignored. Python then installs no handler of its own.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def take(words: Sequence[str], names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The raw texts of the words `NAME=TEXT` for the given names, and all other words.

    Raises:
        UsageError: a name is given twice.
    """
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


def choose(words: Sequence[str], *, runs_here: bool = True) -> Choice:
    """The one cell that the words of a command line describe.

    With an ablation it is the arm that the ablation names as full, unless `arms=` names another.

    Args:
        words: of the command line.
        runs_here: whether the command does its work in this process, so that it cannot use another cluster.

    Raises:
        UsageError: the words cannot be read, describe no cell or several, or name a cluster that is not used.
    """
    with _one_cell(words) as (root, cell):
        if runs_here and root.config.cluster["_target_"] != LOCAL:
            raise UsageError(
                "this command runs on this machine, and cluster= is for sweeps: leave it out. To run it on a"
                " node of Slurm, start it with srun"
            )
        study = plan(root.config, root.loader, [cell])
    try:
        whole_number("resources.threads", root.config.resources.threads)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Choice(
        cell=study.cells[0],
        store=study.store,
        resources=_resources(root.config),
        cluster=root.config.cluster,
        words=tuple(words),
    )


def settings(words: Sequence[str]) -> dict[str, Any]:
    """The resolved settings and resources of that cell, also where it cannot run on this machine.

    Raises:
        UsageError: as `choose`.
    """
    with _one_cell(words) as (root, cell):
        return {**Composition(root.config, root.loader).settings(cell), "resources": _resources(root.config)}


@contextmanager
def composed(words: Sequence[str]) -> Iterator[Root]:
    """Composes the root configuration of a command line; Hydra stays initialized while the block runs.

    Raises:
        UsageError: a word cannot be read.
        HydraException: the configuration cannot be composed (`arguments.explain` says why).
    """
    overrides, folder = without_flags(prepare(words))
    parsed = OverridesParser.create().parse_overrides(overrides)
    plain = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    with initialize(version_base="1.3", config_path=None):
        config = compose("config", [*search_path(folder), *plain], return_hydra_config=True)
        yield Root(config=config, overrides=overrides, loader=GlobalHydra.instance().config_loader())


@contextmanager
def _one_cell(words: Sequence[str]) -> Iterator[tuple[Root, CellPlan]]:
    """The root configuration and its only cell, with Hydra initialized while the block runs."""
    with composed(words) as root:
        for override in OverridesParser.create().parse_overrides(root.overrides):
            if override.is_sweep_override():
                raise UsageError(
                    f"{override.input_line} gives several values, and this command uses one policy: "
                    "give one value"
                )
        overrides = list(root.overrides)
        if root.config.arms is None and root.config.study.full is not None:
            overrides.append(f"arms={root.config.study.full}")
        cells = expand(root.config, overrides)
        if len(cells) != 1:
            raise UsageError(
                f"these words describe {len(cells)} cells, and this command uses one policy: "
                "choose it with arms=NAME and seed=NUMBER"
            )
        yield root, cells[0]


def _resources(config: DictConfig) -> dict[str, Any]:
    return {str(name): value for name, value in config.resources.items()}


def obtain(stage: Stage, store: StageStore) -> Path:
    """The folder of a stage, made first where it is missing.

    Prints on stderr which stages must be made, how long each may take, and their progress.

    Raises:
        UsageError: CUDA_VISIBLE_DEVICES cannot be used.
        StorageError: nothing can be written there.
        Exception: whatever the program of a stage raised.
    """
    if refused := nvidia.devices().refused:
        raise UsageError(refused)
    needed = list(missing(stage, store).values())
    if needed:
        print(f"to be made first, once, under {store.root}:", file=sys.stderr)
        for source in needed:
            print(f"  {source.name:<12} {_expected(source, store)}", file=sys.stderr)
        try:
            store.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(storage_advice(store.root, error)) from error
    return store.make(stage, LineReporter())


class LineReporter:
    """A `harness.stages.store.Reporter` that prints lines on stderr."""

    def __init__(self) -> None:
        self._lines = StatusLines(LINE_EVERY_S, _print_on_stderr)

    def begin(self, stage: Stage) -> None:
        self._stage = stage
        self._first_step: int | None = None
        self._began_s = 0.0

    def wait(self, stage: Stage, owner: locks.Owner | None) -> None:
        self._lines.show(stage.name, Status(state="waiting", waits_for=str(owner or "another process")))

    def progress(self, step: int, total: int, metrics: Mapping[str, float | int | None]) -> None:
        now = time.monotonic()
        if self._first_step is None:  # where this attempt resumes: its own duration is unknown
            self._first_step, self._began_s = step, now
        made = step - self._first_step
        eta_s = (now - self._began_s) / made * (total - step) if made else None
        status = Status(state="running", step=step, total=total, reward=metrics.get("reward"), eta_s=eta_s)
        self._lines.show(self._stage.name, status, last=step == total)


def _print_on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _expected(stage: Stage, store: StageStore) -> str:
    """How long the stage took, of those of its name under this root, whose settings are most like its own."""
    records = []
    for path in store.root.glob(f"{stage.name}-*/stage.json"):
        records.append(json.loads(path.read_text(encoding="utf-8")))
    if not records:
        return "none was made here yet: minutes with preset=miniature, far more with a large model"

    def equal_settings(record: Mapping[str, Any]) -> int:
        return sum(record["settings"].get(name) == value for name, value in stage.settings.items())

    return f"about {duration(max(records, key=equal_settings)['seconds'])}, as a similar one took"


def without_flags(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """The overrides among the words, and the folder that --config-dir names.

    Raises:
        UsageError: an unknown flag, a folder that does not exist, or a word that is no override.
    """
    arguments, folder = without_folder(words)
    for word in arguments:
        if word.startswith("-"):
            raise UsageError(f"unknown flag {word!r}. Known: --config-dir FOLDER, --help")
        if "=" not in word and not word.startswith("~"):
            raise UsageError(
                f"{word!r} is not KEY=VALUE. A text of several words needs quotes around the whole, "
                '"KEY=SEVERAL WORDS"'
            )
    return arguments, folder


def without_folder(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """The words without --config-dir, and the folder that it names.

    Raises:
        UsageError: the folder does not exist.
    """
    others: list[str] = []
    folder = None
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag not in CONFIG_DIR:
            others.append(word)
            continue
        folder = Path(value if equals else next(rest, ""))
        if not folder.is_dir():
            raise UsageError(
                f"--config-dir {folder}: there is no such folder. "
                "Give one that holds rewards/NAME.yaml or the like"
            )
    return others, folder


def search_path(folder: Path | None) -> list[str]:
    """The override by which Hydra reads a user's folder as we do, after a byte order mark."""
    return [f"hydra.searchpath=[{quote(f'folder://{folder.resolve()}')}]"] if folder else []
