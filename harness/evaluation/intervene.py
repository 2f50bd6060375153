"""Stage program `samples` with an intervention: draws from changed chains, with the seeds of the own ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from harness.chain_rows import ChainRow, read_chains
from harness.composition.components import make
from harness.evaluation.load import load_to_draw
from harness.interventions.case import Case, Change, Intervention
from harness.interventions.pool import OwnChain, Pool
from harness.interventions.reading import Reading
from harness.samples import DrawnFrom, SampleFolder, SampleRow
from harness.seeds import derive
from harness.types import Drawing, Sample, Sampling, Tokens

if TYPE_CHECKING:
    from harness.protocols import Benchmark, Policy, Workspace


def sample(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Draw one image for each own chain, from what the intervention makes of it.

    Resumes after the last complete batch. Where ids and caption are those of the own chain, the image is
    copied from the samples of the intervention `own`, unless the images of a batch share a random stream.
    """
    intervention: Intervention = make(settings["intervention"])
    own = read_chains(inputs["chains"])
    candidates = [read_chains(inputs[f"chains-{k}"]) for k in range(1, intervention.candidates)]
    cases = _Cases(settings, intervention.name, [own, *candidates])
    size, sampling = settings["evaluation"]["batch_size"], Sampling(**settings["evaluation"]["rollout"])
    drawn_own = None
    if "own" in inputs and sampling.random == "per_sample":
        drawn_own = _DrawnOwn(SampleFolder(inputs["own"]))
    folder = SampleFolder(work.folder)
    starts = folder.unfinished(len(own), size)
    policy = load_to_draw(settings["policy"], inputs["policy"] / "checkpoint")
    for start in starts:
        batch = []
        for row in own[start : start + size]:
            batch.append(_plan(policy, row, intervention(cases.of(row.index)), sampling.max_chain_tokens))
        samples = _draw(policy, batch, sampling, drawn_own)
        origins = []
        for one, drawn in zip(batch, samples, strict=True):
            origins.append(_origin(intervention.name, one, drawn, sampling.text_temperature))
        folder.append(start, samples, origins)
        work.progress(start + len(batch), len(own))


class _Cases:
    """The case of every image; all have the same pool of own chains.

    Args:
        settings: of the stage.
        name: of the intervention.
        candidates: for each candidate the chains of all images, the own ones first.
    """

    def __init__(self, settings: dict[str, Any], name: str, candidates: Sequence[Sequence[ChainRow]]) -> None:
        self._benchmark: Benchmark = make(settings["benchmark"])
        self._reading, self._seed, self._name = settings["reading"], settings["seed"], name
        self._candidates = candidates
        own = [OwnChain(prompt=row.to_prompt(), chain=row.to_chain()) for row in candidates[0]]
        self._pool = Pool(own, seed=self._seed)

    def of(self, index: int) -> Case:
        prompt = self._candidates[0][index].to_prompt()
        return Case(
            reading=Reading(self._benchmark, prompt, **self._reading),
            chains=[chains[index].to_chain() for chains in self._candidates],
            pool=self._pool,
            rng=Random(derive(self._seed, "intervention", self._name, prompt.id, prompt.number)),
        )


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """An image to draw: its own chain, what it is drawn from, and the ids of that."""

    own: ChainRow
    change: Change
    ids: tuple[int, ...]

    @property
    def is_own(self) -> bool:
        """Whether the model receives exactly what it wrote."""
        return self.change.caption is None and self.ids == self.own.ids


def _plan(policy: Policy, own: ChainRow, change: Change, limit: int) -> _Planned:
    """What to draw an image from: the own ids where the text of the change is too long."""
    if not isinstance(change.chain, str):
        return _Planned(own=own, change=change, ids=change.chain.ids)
    ids = policy.chain_ids(change.chain)
    if len(ids) <= limit:
        return _Planned(own=own, change=change, ids=ids)
    reason = (
        f"the chain has {len(ids)} ids, rollout.max_chain_tokens={limit}: raise it (it changes the samples of"
        " every arm), or shorten the text"
    )
    unchanged = Change(chain=own.to_chain(), applied=False, reason=reason)
    return _Planned(own=own, change=unchanged, ids=own.ids)


class _DrawnOwn:
    """The samples of the intervention `own`, in the order of the own chains."""

    def __init__(self, folder: SampleFolder) -> None:
        self._folder, self._rows = folder, folder.rows()

    def of(self, own: ChainRow) -> Sample:
        row: SampleRow = self._rows[own.index]
        tokens = Tokens(prompt=(), chain=own.ids, image=(), forced_end=own.forced_end)
        return replace(self._folder.sample(row), tokens=tokens, logprobs=own.logprobs)


def _draw(
    policy: Policy, batch: Sequence[_Planned], sampling: Sampling, drawn_own: _DrawnOwn | None
) -> list[Sample]:
    """The samples of a batch; only those are drawn that do not exist already."""
    samples: dict[int, Sample] = {}
    places, drawings, seeds = [], [], []
    for place, one in enumerate(batch):
        if drawn_own is not None and one.is_own:
            samples[place] = drawn_own.of(one.own)
            continue
        change = one.change
        places.append(place)
        drawings.append(Drawing(prompt=one.own.to_prompt(), chain=change.chain, caption=change.caption))
        seeds.append(one.own.seed)
    if drawings:
        samples |= zip(places, policy.draw(drawings, seeds, sampling), strict=True)
    return [samples[place] for place in range(len(batch))]


def _origin(name: str, one: _Planned, drawn: Sample, temperature: float) -> DrawnFrom:
    """What the row says of a drawn image."""
    change, counted = one.change, len(drawn.tokens.chain) - drawn.tokens.forced_end
    nll = -sum(drawn.logprobs[:counted])
    written = len(drawn.tokens.chain) > 1  # SFT teaches images without a chain, and not that there is none
    comparable = written and change.caption is None and temperature > 0 and math.isfinite(nll)
    return DrawnFrom(
        intervention=name,
        applied=change.applied,
        reason=change.reason,
        own_chain=one.own.chain,
        caption=change.caption,
        sampled_ids=not isinstance(change.chain, str),
        own_ids=one.ids == one.own.ids,
        nll=nll if comparable else None,
        nll_ids=counted,
        details=change.details,
    )
