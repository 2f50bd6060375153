"""Examples of votes in the judge's words: the orders disagree, then both are for the same arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.preference import Pair, Preference
from harness.analysis.results import StudyResult
from harness.chain import END, without_control_tokens
from harness.chain_rows import ChainRow
from harness.votes import VoteRow

EACH = 3  # examples where the orders disagree, and where they agree
WORDS = 600  # characters of an answer or chain

_Asked = tuple[Pair, int, VoteRow, VoteRow]  # the pair, the seed, and the votes in the orders xy and yx


@dataclass(frozen=True, kw_only=True)
class VoteExample:
    """A prompt, the chains of two arms, and what the judge said of them in both orders.

    `chains` are (arm, chain), and `answers` (the order and the vote, the judge's words).
    """

    category: str
    prompt: str
    agrees: bool
    chains: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str], ...]


def vote_examples(study: StudyResult, preference: Preference | None) -> list[VoteExample]:
    """Return examples of the first judge's votes, spread evenly over each kind; [] in other studies."""
    if preference is None:
        return []
    chains: dict[tuple[str, int, str, int], ChainRow] = {}
    for cell in study.cells:
        for row in cell.chains or ():
            chains[cell.arm, cell.seed, row.prompt_id, row.number] = row
    disagreeing: list[_Asked] = []
    agreeing: list[_Asked] = []
    for asked in _asked(study, preference):
        _, _, first, second = asked
        if first.vote != second.vote:
            disagreeing.append(asked)
        elif first.vote != "tie":
            agreeing.append(asked)
    examples = []
    for pair, seed, first, second in [*_spread(disagreeing), *_spread(agreeing)]:
        written = [chains.get((arm, seed, first.prompt_id, first.number)) for arm in pair]
        if None not in written:
            examples.append(_example(pair, [row for row in written if row], first, second))
    return examples


def _asked(study: StudyResult, preference: Preference) -> list[_Asked]:
    """Return the pairs of chains with a vote of the first judge in both orders."""
    found: list[_Asked] = []
    for pair in preference.pairs:
        for seed in study.seeds:
            orders: dict[tuple[str, int], dict[str, VoteRow]] = {}
            for row in preference.rows(preference.first, pair, seed=seed):
                if row.vote is not None:
                    orders.setdefault((row.prompt_id, row.number), {})[row.order] = row
            found += [(pair, seed, one["xy"], one["yx"]) for one in orders.values() if len(one) == 2]
    return found


def _spread(asked: Sequence[_Asked]) -> list[_Asked]:
    """Return `EACH` of them at equal distances, all where there are fewer."""
    places = dict.fromkeys((2 * number + 1) * len(asked) // (2 * EACH) for number in range(EACH))
    return [asked[place] for place in places] if asked else []


def _example(pair: Pair, written: Sequence[ChainRow], first: VoteRow, second: VoteRow) -> VoteExample:
    answers = []
    for row, shown in ((first, pair), (second, pair[::-1])):
        vote = "a tie" if row.vote == "tie" else f"for {row.x if row.vote == 'x' else row.y}"
        answers.append((f"A is {shown[0]}, B is {shown[1]}: {vote}", _fit(row.answer or "")))
    chains = tuple((arm, _readable(row.chain)) for arm, row in zip(pair, written, strict=True))
    return VoteExample(
        category=first.category,
        prompt=written[0].prompt,
        agrees=first.vote == second.vote,
        chains=chains,
        answers=tuple(answers),
    )


def _readable(chain: str) -> str:
    return _fit(without_control_tokens(chain.partition(END)[0])) or "(nothing)"


def _fit(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WORDS else f"{line[:WORDS]}..."
