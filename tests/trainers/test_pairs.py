"""The best and the worst of a group, and the file that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from harness.trainers.pairs import Pair, PairFile, StepPairs, pair_of
from harness.types import Chain, Group, Prompt, Reward, Sample, Score, Tokens

PROMPT = Prompt(id="0", text="a red circle", category="color")


def tokens(number: int) -> Tokens:
    return Tokens(prompt=(1, 2), chain=(number, 9), image=(3, number), forced_end=number % 2 == 1)


def group(*totals: float | None) -> Group:
    """Sample n has the ids `tokens(n)`."""
    samples, rewards = [], []
    for number, total in enumerate(totals):
        chain, image = Chain(text="", objects=(), bare_text=""), Image.new("RGB", (1, 1))
        one = Sample(prompt=PROMPT, chain=chain, image=image, tokens=tokens(number), logprobs=(), seed=0)
        samples.append(one)
        score = Score(value=total, unscored="left out" if total is None else None)
        rewards.append(Reward(total=score, components={}))
    return Group(prompt=PROMPT, samples=tuple(samples), rewards=tuple(rewards))


def test_the_best_and_the_worst_are_the_pair() -> None:
    assert pair_of(group(0.3, 0.9, 0.1, 0.4), 5) == Pair(
        position=5, best=tokens(1), worst=tokens(2), best_total=0.9, worst_total=0.1
    )


def test_of_equal_samples_the_first_is_taken() -> None:
    pair = pair_of(group(0.5, 0.2, 0.5, 0.2), 0)
    assert pair is not None and (pair.best, pair.worst) == (tokens(0), tokens(1))


def test_unscored_samples_are_neither_best_nor_worst() -> None:
    pair = pair_of(group(None, 0.2, 0.0, None), 0)
    assert pair is not None and (pair.best, pair.worst) == (tokens(1), tokens(2))


@pytest.mark.parametrize(
    "totals",
    [(0.5, 0.5, 0.5), (None, None), (None, 0.4), (0.1 + 0.2, 0.3), (0.0, None, 0.0)],
    ids=["equal", "unscored", "one", "rounding", "equal-and-unscored"],
)
def test_a_group_without_a_preference_gives_no_pair(totals: tuple[float | None, ...]) -> None:
    assert pair_of(group(*totals), 0) is None


def drawn(step: int) -> StepPairs:
    pair = Pair(position=1, best=tokens(1), worst=tokens(2), best_total=0.1 + 0.2, worst_total=1 / 3)
    return StepPairs(step=step, pairs=(pair,) * (step % 3), groups_without_pair=2, unscored=1)


def test_a_file_that_is_read_again_holds_the_same_pairs(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    written = PairFile(file, writes=True)
    for step in (4, 5, 6):
        written.add(drawn(step), first=step == 4)
    for writes in (False, True):
        again = PairFile(file, writes=writes)
        assert again.resume(4) == 3
        assert [again[step] for step in (4, 5, 6)] == [drawn(step) for step in (4, 5, 6)]
    assert drawn(5).groups == 4


def test_a_line_that_was_cut_off_is_drawn_again(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    written = PairFile(file, writes=True)
    for step in (0, 1):
        written.add(drawn(step), first=step == 0)
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    again = PairFile(file, writes=True)
    assert again.resume(0) == 1
    again.add(drawn(1), first=False)
    assert file.read_bytes() == whole


def test_a_new_round_replaces_the_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    pairs = PairFile(file, writes=True)
    pairs.add(drawn(0), first=True)
    assert PairFile(file, writes=True).resume(2) == 0
    pairs.add(drawn(2), first=True)
    assert PairFile(file, writes=True).resume(2) == 1
    with pytest.raises(KeyError):
        pairs[0]


def test_only_one_process_writes(tmp_path: Path) -> None:
    pairs = PairFile(tmp_path / "pairs.jsonl", writes=False)
    pairs.add(drawn(0), first=True)
    assert pairs[0] == drawn(0) and not list(tmp_path.iterdir())
