"""`python -m harness.fetch NAME`: fetches what a benchmark needs and may be no part of the project, into the cache.

What there is to fetch, the benchmarks say themselves (`fetches` of `harness.protocols.Benchmark`), those of installed plugins too.
A setting refers to the place as `${fetched:NAME}`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import get_method

from harness import command
from harness.composition import groups
from harness.composition.arguments import UsageError, known
from harness.files import cache
from harness.stages.store import StorageError
from harness.study.roles import checked_class

USAGE = """\
Fetches what a benchmark needs and may be no part of this project.

  python -m harness.fetch        what there is to fetch, and where it lies or would lie
  python -m harness.fetch NAME   fetches it; what is there already is kept

to=PLACE   a file or folder of your own, in place of the cache ($XDG_CACHE_HOME/got-r1-harness/NAME, or below ~/.cache)
"""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Something that can be fetched: for which `benchmarks=` options, and the dotted path of the function that does it."""

    options: tuple[str, ...]
    program: str


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(fetch, sys.argv[1:] if argv is None else argv, USAGE)


def fetch(words: list[str]) -> None:
    """Fetches what the words name and prints where it lies; without words, lists what there is.

    Raises:
        UsageError: the words cannot be read, or there is no such thing.
        StorageError: it cannot be written there.
        ValueError: it cannot be had; the message says what to do.
    """
    taken, names = command.take(words, ("to",))
    there = offers()
    if not names and not taken:
        print(
            "\n".join(_line(name, offer) for name, offer in there.items())
            or "no benchmark has anything to fetch"
        )
        return
    if len(names) != 1 or taken.get("to") == "":
        raise UsageError(
            f"{' '.join(words)!r} cannot be read: write NAME, or NAME to=PLACE. NAME is one of {', '.join(there)}"
        )
    if names[0] not in there:
        raise UsageError(known("thing to fetch", names[0], there))
    place = Path(taken["to"]).expanduser() if taken else cache(names[0])
    try:
        get_method(there[names[0]].program)(place)
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or place}: {error.strerror or error}. Free some space, or name another place with to=PLACE"
        ) from error
    print(f"{names[0]} lies in {place}")


def offers() -> dict[str, Offer]:
    """Name -> offer, of the classes that the YAML files of the benchmarks name; none is constructed.

    Raises:
        ValueError: two benchmarks mean different things by one name, or a class cannot be imported.
    """
    found: dict[str, Offer] = {}
    for option, made in groups.classes("benchmarks").items():
        for name, program in checked_class("benchmarks", made).fetches.items():
            earlier = found.get(name, Offer(options=(), program=program))
            if earlier.program != program:
                raise ValueError(
                    f"benchmarks={earlier.options[0]} and benchmarks={option} both fetch {name!r}, in two ways: rename one"
                )
            found[name] = Offer(options=(*earlier.options, option), program=program)
    return dict(sorted(found.items()))


def _line(name: str, offer: Offer) -> str:
    place = cache(name)
    state = "there" if place.exists() else "not there"
    return f"{name:<16} {state:<9}  {place}  (benchmarks={', '.join(offer.options)})"


if __name__ == "__main__":
    sys.exit(main())
