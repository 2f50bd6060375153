"""Pairs of chains: what two arms wrote for the same prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.names import nearest
from harness.types import Chain, Prompt

Written = tuple[Prompt, Chain]  # a prompt, and the chain that an arm wrote for it
SHOWN = 3  # prompts in a message


@dataclass(frozen=True, kw_only=True)
class ChainPair:
    """The chains of the arms `x` and `y` for one prompt and number."""

    prompt: Prompt
    x: str
    y: str
    chain_x: Chain
    chain_y: Chain


def check_pairs(pairs: Iterable[Sequence[str]], arms: Sequence[str]) -> None:
    """Check the pairs of arms that a study compares.

    Raises:
        ValueError: a pair is not two different arms of the study, or is there twice.
    """
    where, seen = "study.preference.pairs", set()
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1]:
            raise ValueError(f"{where} has {pair!r}: a pair needs two different arms, [full, baseline]")
        for name in pair:
            if name not in arms:
                near = nearest(str(name), arms)
                question = f" (nearest: {near})" if near else ""
                raise ValueError(f"{where} names {name}{question}; arms are {', '.join(arms)}")
        if frozenset(pair) in seen:
            raise ValueError(f"{where} has {pair[0]} and {pair[1]} twice: each pair is asked in both orders")
        seen.add(frozenset(pair))


def pair_chains(x: str, chains_x: Sequence[Written], y: str, chains_y: Sequence[Written]) -> list[ChainPair]:
    """Return one pair for every prompt and number, in the order of `chains_x`.

    Args:
        x: the name of an arm.
        chains_x: what it wrote.
        y: the name of the arm that it is compared with.
        chains_y: what that arm wrote, in any order.

    Raises:
        ValueError: the arms wrote for different prompts, or an arm wrote twice for one prompt and number.
    """
    by_prompt_x, by_prompt_y = _by_prompt(x, chains_x), _by_prompt(y, chains_y)
    alone = [(x, key) for key in by_prompt_x if key not in by_prompt_y]
    alone += [(y, key) for key in by_prompt_y if key not in by_prompt_x]
    if alone:
        listed = "; ".join(f"only {arm} has {_named(key)}" for arm, key in alone[:SHOWN])
        raise ValueError(
            f"{x} and {y} were planned for different prompts ({x} {len(by_prompt_x)}, {y} {len(by_prompt_y)};"
            f" {listed}): give both the same benchmarks and evaluation settings"
        )
    pairs = []
    for key, (prompt, chain) in by_prompt_x.items():
        pairs.append(ChainPair(prompt=prompt, x=x, y=y, chain_x=chain, chain_y=by_prompt_y[key][1]))
    return pairs


def _by_prompt(arm: str, written: Sequence[Written]) -> dict[tuple[str, int, str], Written]:
    """The chains by id, number and text of their prompt."""
    found: dict[tuple[str, int, str], Written] = {}
    for prompt, chain in written:
        key = (prompt.id, prompt.number, prompt.text)
        if key in found:
            raise ValueError(f"{arm} has two chains for {_named(key)}: give one")
        found[key] = (prompt, chain)
    return found


def _named(key: tuple[str, int, str]) -> str:
    return f"{key[0]}, number {key[1]} ({key[2]!r})"
