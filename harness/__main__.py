"""`python -m harness COMMAND ...`, installed as `got-r1 COMMAND ...`: all commands in one table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "sweep": "run a study: train, sample, score and report every arm and seed",
    "status": "show the state of the cells of a study",
    "cancel": "end all jobs of a study",
    "report": "write the report of a study again",
    "generate": "draw one prompt: the image, its chain, and the boxes over the image",
    "score": "score a folder of images by a benchmark's rules",
    "doctor": "show settings, stages, memory, and what is missing on this machine",
    "bench": "measure how fast this machine draws, trains and scores",
    "fetch": "fetch the published files that a benchmark needs",
}
MODULES = {"report": "harness.report.__main__"}  # the others are harness.COMMAND


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first word names, in this process.

    Returns:
        The exit code of the command; 2 for an unknown command.
    """
    name, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        from harness.names import unknown

        print(f"error: {unknown('command', name, COMMANDS)} python -m harness lists them", file=sys.stderr)
        return 2
    module = importlib.import_module(MODULES.get(name, f"harness.{name}"))
    return module.main(words)


def usage() -> str:
    """How to call a command, and one line for each."""
    lines = [f"  {name:<10}{purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m harness COMMAND ...   or, installed: got-r1 COMMAND ...",
            "",
            *lines,
            "",
            "python -m harness COMMAND --help shows how to use a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
