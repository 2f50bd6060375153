"""Stage program `votes`: the votes of every judge on the chains of two arms, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.chain import parse
from harness.chain_rows import read_chains
from harness.composition.components import make
from harness.evaluation.row_shards import RowShards
from harness.experts.judge.usage import Usage
from harness.files import write_rows, write_text
from harness.preference.cost import estimate, spent
from harness.preference.pairs import Written, pair_chains
from harness.preference.question import PreferenceQuestion
from harness.preference.vote import Ballot, ballots, vote
from harness.votes import VoteRow, unreadable

if TYPE_CHECKING:
    from harness.protocols import Judge, Workspace

RESUME_FILES = ("parts",)  # of an unfinished stage; see `harness.stages.program`
USAGE = "usage"  # what a server counted for a block of questions, beside the first of its rows in `parts`


def ask(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Ask every judge about all pairs of chains, in both orders.

    Writes `votes.jsonl`, the votes of one judge after those of another, and `cost.json`: judge -> the
    estimate before the first question, and what was spent. Questions that an interrupted attempt has asked
    are not asked again.

    Args:
        work: the workspace of the stage.
        settings: `pair`, the names of the arms; `judges`, name -> component; `question`, the settings of
            `PreferenceQuestion`.
        inputs: `x` and `y`, the folders of the arms' chains.

    Raises:
        ValueError: the arms wrote for different prompts, or the rows of an interrupted attempt are others.
    """
    x, y = settings["pair"]
    pairs = pair_chains(x, _written(inputs["x"]), y, _written(inputs["y"]))
    asked = ballots(pairs, PreferenceQuestion(**settings["question"]))
    judges = {name: make(judge) for name, judge in settings["judges"].items()}
    estimates = {}
    for name, judge in judges.items():
        limit = settings["judges"][name].get("max_tokens")
        estimates[name] = estimate(asked, max_tokens=limit, price=_price(judge))
        print(f"judge {name}, at most and without repeated questions: {estimates[name]}")
    shards = RowShards(work.folder / RESUME_FILES[0])
    shards.open()
    _ask(work, shards, asked, judges)
    rows = shards.merged(len(asked) * len(judges), "questions")
    votes = [VoteRow.from_json(row) for row in rows]
    write_rows(work.folder / "votes.jsonl", [row.to_json() for row in votes])
    costs = {}
    for number, (name, judge) in enumerate(judges.items()):
        own = slice(number * len(asked), (number + 1) * len(asked))
        cost = spent(votes[own], _usage(rows[own]), _price(judge))
        costs[name] = {"estimate": asdict(estimates[name]), "spent": asdict(cost)}
        print(f"judge {name}: {unreadable(votes[own]) or f'all {len(asked)} answers are votes'}")
    write_text(work.folder / "cost.json", json.dumps(costs, indent=1))


def _written(folder: Path) -> list[Written]:
    return [(row.to_prompt(), parse(row.chain)) for row in read_chains(folder)]


def _price(judge: Judge) -> Any:
    return getattr(judge, "price", None)


def _ask(work: Workspace, shards: RowShards, asked: Sequence[Ballot], judges: Mapping[str, Judge]) -> None:
    """Ask the questions that no row answers, block by block; question i of judge k has the index k n + i."""
    total = len(asked) * len(judges)
    for block in list(shards.to_do(total)):
        for number, (name, judge) in enumerate(judges.items()):
            first = number * len(asked)
            chosen = [asked[index - first] for index in block if 0 <= index - first < len(asked)]
            if chosen:
                shards.append(_rows(chosen, judge, name, first))
        work.progress(shards.count(), total)


def _rows(chosen: Sequence[Ballot], judge: Judge, name: str, first: int) -> list[dict[str, Any]]:
    """Return the rows of some questions to a judge, the first of them with the usage of all."""
    before: Usage | None = getattr(judge, "usage", None)
    rows = [replace(row, index=first + row.index).to_json() for row in vote(chosen, judge, name)]
    after: Usage | None = getattr(judge, "usage", None)
    if before is not None and after is not None:
        rows[0][USAGE] = asdict(after.since(before))
    return rows


def _usage(rows: Sequence[Mapping[str, Any]]) -> Usage | None:
    """Return what a server counted for all rows of a judge; None for a judge that counts nothing."""
    counts = [row[USAGE] for row in rows if USAGE in row]
    if not counts:
        return None
    return Usage(**{name: sum(count[name] for count in counts) for name in asdict(Usage())})
