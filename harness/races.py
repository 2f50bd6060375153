"""The races of `python -m harness.bench`: the same work, done by several systems in one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra.utils import get_object

from harness.command import Choice
from harness.composition import groups
from harness.composition.components import make
from harness.stages.program import peak_memory_mb, reset_peak_memory
from harness.study.roles import checked_class

if TYPE_CHECKING:
    from harness.protocols import PolicyRecipe, Race


@dataclass(frozen=True, kw_only=True)
class Lap:
    """One system's run in a race: seconds by phase, MB at its peak, and the time of the first system."""

    race: Race
    system: str
    seconds: Mapping[str, float]
    peak_mb: float
    first_s: float
    floor_s: float | None

    def __str__(self) -> str:
        race, total = self.race, sum(self.seconds.values())
        systems, speed = list(race.systems), per_second(race.amount, total)
        name = f"{race.setting:<20} {self.system:<{max(9, *map(len, systems))}}"
        whole = f"{speed:>7,.{0 if speed >= 100 else 3}f} {race.unit}/s"
        ratio = f"  {per_second(self.first_s, total):.2f} x {systems[0]}" if len(systems) > 1 else ""
        time_s = f"{total:.{1 if total >= 10 else 2}f} s"
        floor = (
            ""
            if self.floor_s is None
            else f", {100 * per_second(self.floor_s, total):.0f} % of what the device allows"
        )
        return "; ".join(
            filter(
                None,
                [f"{name} {whole}{ratio}", self._rates(), f"{time_s}{floor}", f"peak {self.peak_mb:,.0f} MB"],
            )
        )

    def _rates(self) -> str:
        """The rate of each phase whose work is counted."""
        unit, counts = self.race.count_unit, self.race.counts
        rates = {
            phase: f"{per_second(counts[phase], seconds):,.0f} {unit}/s"
            for phase, seconds in self.seconds.items()
            if phase in counts
        }
        return ", ".join(rate if phase == unit else f"{phase} {rate}" for phase, rate in rates.items())


def laps(races: Iterable[Race], machine: str) -> Iterator[Lap | str]:
    """Runs every system of every race once. Yields a line that names the work before its first race."""
    work = ""
    for race in races:
        if race.work != work:
            work = race.work
            yield f"{work}; {machine}"
        floor_s, first_s = race.floor_s() if race.floor_s else None, 0.0
        for name, run in race.systems.items():
            memory = _Peak()
            seconds = run()
            first_s = first_s or sum(seconds.values())
            yield Lap(
                race=race, system=name, seconds=seconds, peak_mb=memory.mb(), first_s=first_s, floor_s=floor_s
            )


def rollout_races(chosen: Choice) -> Iterable[Race]:
    """The policy's rollouts beside those of other systems."""
    policy: PolicyRecipe = make(chosen.samples.settings["policy"])
    return get_object(policy.races)() if policy.races else ()


def score_races(chosen: Choice) -> Iterator[Race]:
    """Of every benchmark that is installed, and of the chosen one: its ways to scores beside other ways."""
    made = [*groups.classes("benchmarks").values(), type(make(chosen.samples.settings["benchmark"]))]
    paths: dict[str, None] = {}
    for benchmark in made:
        races = checked_class("benchmarks", benchmark).races
        if races:
            paths[races] = None
    for path in paths:
        yield from get_object(path)()


class _Peak:
    """The highest memory since its construction: of the GPU where there is one, else of the process."""

    def __init__(self) -> None:
        import torch

        self._gpu = torch.cuda if torch.cuda.is_available() else None
        if self._gpu:
            self._gpu.reset_peak_memory_stats()
        reset_peak_memory()

    def mb(self) -> float:
        return self._gpu.max_memory_allocated() / 2**20 if self._gpu else peak_memory_mb()


def per_second(amount: float, seconds: float) -> float:
    """Units of work per second."""
    return amount / seconds if seconds > 0 else float("inf")
