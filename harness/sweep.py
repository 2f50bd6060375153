"""`python -m harness.sweep ablations=NAME`: runs a study and writes its report.

A sweep reads from here to the report in this order:

1. `command.composed`: the words of the command line become the root configuration.
2. `study.planning.expand`: arms x seeds, one `CellPlan` for each cell.
3. `study.planning.plan`: every cell with its stages, checked; a `Study`.
4. `launch.run.run`: memory check, jobs for what is missing (each makes one stage: `launch.job.Job`), report.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from harness import command
from harness.composition import components
from harness.composition.arguments import asks_hydra, prepare
from harness.launch.folders import umask
from harness.launch.run import run
from harness.stages import keys
from harness.study.pairs import check_run
from harness.study.planning import expand, plan


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        0 all cells done, 1 a cell failed or was lost, 2 a mistake in the command or its files, 130 Ctrl-C.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    return command.exit_code(show if asks_hydra(words) else sweep, words)


def sweep(words: list[str]) -> int:
    """Plans the study that the words describe, runs what is missing, and writes the report.

    Raises:
        UsageError: the study cannot be planned or launched; nothing was started.
    """
    with keys.remembered(), components.remembered():
        with command.composed(words) as root:
            cells = expand(root.config, root.overrides)
            study = plan(root.config, root.loader, cells, words)
        check_run(study.facts, study.cells)
        with umask(group=study.group_writable):
            return run(study, root.config)


def show(words: list[str]) -> None:
    """Lets Hydra print what was asked for: `--help`, `--cfg job`, `--info`, ..."""
    # errors reach `command.exit_code`, not Hydra's own printer
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # else Hydra, imported from a module of this package, lists its folders as groups, too
    os.environ["HYDRA_MAIN_MODULE"] = "__main__"
    others, folder = command.without_folder(prepare(words))
    sys.argv[1:] = [*command.search_path(folder), *others]
    _print_only()


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def _print_only(config: DictConfig) -> None:
    """Never runs: Hydra prints and returns, as `asks_hydra` requires."""


if __name__ == "__main__":
    sys.exit(main())
