"""`python -m harness.sweep ablations=NAME -m`: runs a study, cell by cell, and writes its report.

Kept tiny: jobs import modules by name, and this one is `__main__`.
"""

from __future__ import annotations

import os
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.composition.arguments import UsageError, explain, prepare


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def _hydra(config: DictConfig) -> None:
    raise AssertionError("cells are run by hydra_plugins.got_r1")


def main() -> None:
    """Exit codes: 0 all cells done, 1 some failed or were lost, 2 a mistake in the command or its files, 130 interrupted."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors travel to here instead of being printed by Hydra
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
        _hydra()
    except KeyboardInterrupt:
        sys.exit(130)
    except UsageError as error:
        sys.exit(_complain(str(error)))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_complain(explain(error)))


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
