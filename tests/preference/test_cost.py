from __future__ import annotations

import pytest

from harness.chain import parse
from harness.experts.judge.usage import Price, Usage
from harness.preference.cost import Cost, estimate, spent
from harness.preference.pairs import ChainPair
from harness.preference.question import PreferenceQuestion
from harness.preference.vote import ballots
from harness.types import Prompt
from harness.votes import VoteRow

PRICE = Price(input=2.5, output=10)


def asked(count: int, length: int = 1200, *, layouts: bool = False):
    pairs = []
    for index in range(count):
        prompt = Prompt(id=f"p{index}", text="a cat", category="color")
        chain = parse("x" * length)
        pairs.append(ChainPair(prompt=prompt, x="full", y="base", chain_x=chain, chain_y=chain))
    return ballots(pairs, PreferenceQuestion(layouts=layouts))


def rows(*attempts: int) -> list[VoteRow]:
    found = []
    for index, attempt in enumerate(attempts):
        found.append(
            VoteRow(
                index=index,
                prompt_id="p",
                category="color",
                number=0,
                x="x",
                y="y",
                judge="j",
                order="xy",
                vote="tie",
                unscored=None,
                answer="tie",
                attempt=attempt,
            )
        )
    return found


def test_the_estimate_counts_both_orders_and_the_characters_of_the_real_texts():
    questions = asked(400)
    found = estimate(questions, max_tokens=150, price=PRICE)
    assert (found.questions, found.tokens_out) == (800, 800 * 150)
    characters = sum(len(ballot.question.text) for ballot in questions)
    assert found.tokens_in == pytest.approx(characters / 4, rel=0.01)
    assert found.money == pytest.approx((found.tokens_in * 2.5 + found.tokens_out * 10) / 1e6)
    longer = estimate(asked(400, 1600), max_tokens=150, price=None)
    assert longer.tokens_in - found.tokens_in == 800 * 2 * 400 / 4 and longer.money is None


def test_an_image_costs_tokens_too():
    texts, both = (estimate(asked(1, layouts=shown), max_tokens=1, price=None) for shown in (False, True))
    assert both.tokens_in > texts.tokens_in + 2 * 448 * 2 * 448 / 784


def test_after_the_votes_the_servers_counts_stand():
    usage = Usage(requests=4, counted=4, tokens_in=4000, tokens_out=600)
    assert spent(rows(0, 1, 0), usage, PRICE) == Cost(
        questions=3, retries=1, tokens_in=4000, tokens_out=600, money=pytest.approx(0.016)
    )


@pytest.mark.parametrize("usage", [None, Usage(requests=4, counted=3, tokens_in=3000, tokens_out=450)])
def test_tokens_that_nobody_counted_are_unknown_and_not_0(usage):
    found = spent(rows(0, 0), usage, PRICE)
    assert (found.questions, found.tokens_in, found.tokens_out, found.money) == (2, None, None, None)


def test_answers_of_the_cache_cost_nothing():
    found = spent(rows(0), Usage(), PRICE)
    assert (found.tokens_in, found.money) == (0, 0.0)
