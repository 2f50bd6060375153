"""`python -m harness.fetch NAME`: fetches files that a benchmark needs and the project may not ship.

Each benchmark, also one of an installed plugin, lists its files in `fetches` (`harness.protocols.Benchmark`).
A setting refers to the place as `${fetched:NAME}`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.utils import get_method

from harness import command
from harness.composition import groups
from harness.composition.arguments import UsageError
from harness.names import unknown
from harness.paths import cache, user_path
from harness.stages.store import StorageError
from harness.study.roles import checked_class

USAGE = """\
Fetches files that a benchmark needs and that this project may not ship.

  python -m harness.fetch        list the names, and where their files are or would be
  python -m harness.fetch NAME   fetch the files of NAME; files that are there already are kept

to=PLACE   a file or folder of your own instead of the cache
           ($XDG_CACHE_HOME/got-r1-harness/NAME, by default below ~/.cache)
"""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Files that can be fetched: the `benchmarks=` options that need them, and the function to call."""

    options: tuple[str, ...]
    program: str  # dotted path of the function


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(fetch, sys.argv[1:] if argv is None else argv, USAGE)


def fetch(words: list[str]) -> None:
    """Fetch the files of one name and print where they are; without arguments, list the names.

    Raises:
        UsageError: the arguments are malformed, or the name is unknown.
        StorageError: the files cannot be written.
        ValueError: the files cannot be fetched; the message says what to do.
    """
    settings, names = command.take(words, ("to",))
    offer_by_name = offers()
    if not names and not settings:
        lines = [_line(name, offer) for name, offer in offer_by_name.items()]
        print("\n".join(lines) or "no benchmark has anything to fetch")
        return
    if len(names) != 1 or settings.get("to") == "":
        raise UsageError(
            f"{' '.join(words)!r} cannot be read: write NAME, or NAME to=PLACE. "
            f"NAME is one of {', '.join(offer_by_name)}"
        )
    name = names[0]
    if name not in offer_by_name:
        raise UsageError(unknown("thing to fetch", name, offer_by_name))
    target = user_path(settings["to"]) if settings else cache(name)
    try:
        get_method(offer_by_name[name].program)(target)
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or target}: {error.strerror or error}. "
            "Free some space, or name another place with to=PLACE"
        ) from error
    print(f"{name} lies in {target}")


def offers() -> dict[str, Offer]:
    """Return name -> offer, from the benchmark classes that YAML files name. No class is constructed.

    Raises:
        ValueError: two benchmarks use one name for different files, or a class cannot be imported.
    """
    offer_by_name: dict[str, Offer] = {}
    for option, benchmark in groups.classes("benchmarks").items():
        for name, program in checked_class("benchmarks", benchmark).fetches.items():
            earlier = offer_by_name.get(name, Offer(options=(), program=program))
            if earlier.program != program:
                raise ValueError(
                    f"benchmarks={earlier.options[0]} and benchmarks={option} both fetch {name!r}, "
                    "in two ways: rename one"
                )
            offer_by_name[name] = Offer(options=(*earlier.options, option), program=program)
    return dict(sorted(offer_by_name.items()))


def _line(name: str, offer: Offer) -> str:
    target = cache(name)
    state = "there" if target.exists() else "not there"
    return f"{name:<16} {state:<9}  {target}  (benchmarks={', '.join(offer.options)})"


if __name__ == "__main__":
    sys.exit(main())
