"""What a served judge counts, and what it costs."""

from __future__ import annotations

import json

import pytest
from scripted_server import Script, Step, reply, status

from harness.experts.judge.server import ServerJudge
from harness.experts.judge.usage import Price, Usage, read_price
from harness.types import Question

SERVING = {"key_variable": None, "concurrency": 4, "timeout_s": 5, "tries": 1, "patience_s": 5}
SETTINGS = {"model": "m", "flavour": "vllm", "score": "text", "max_tokens": 64, "retry_temperature": 0.7}


def judge(url: str = "http://127.0.0.1:9/v1", **serving) -> ServerJudge:
    return ServerJudge(**SETTINGS, serving={"url": url, **SERVING, **serving})


def questions(count: int) -> list[Question]:
    return [Question(kind="preference", text=f"which? {index}", scored=False) for index in range(count)]


def counted(usage: object) -> Step:
    choice = {"message": {"role": "assistant", "content": "A"}, "finish_reason": "stop"}
    return status(200, json.dumps({"choices": [choice], "usage": usage}))


def test_the_tokens_of_all_answers_add_up():
    with Script(counted({"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050})) as script:
        asked = judge(script.url)
        asked.ask(questions(10))
        before = asked.usage
        asked.ask(questions(3))
    assert before == Usage(requests=10, counted=10, tokens_in=10_000, tokens_out=500)
    assert asked.usage.since(before) == Usage(requests=3, counted=3, tokens_in=3000, tokens_out=150)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        {"prompt_tokens": "9", "completion_tokens": 1},
        {"prompt_tokens": 9},
        {"prompt_tokens": True, "completion_tokens": -1},
    ],
)
def test_a_server_that_counts_nothing_is_no_server_without_tokens(usage):
    with Script(counted(usage)) as script:
        asked = judge(script.url)
        asked.ask(questions(1))
    assert asked.usage == Usage(requests=1, counted=0)


def test_answers_from_the_cache_are_no_requests(tmp_path):
    with Script(reply()) as script:
        for requests in (2, 0):
            asked = judge(script.url, cache=str(tmp_path))
            asked.ask(questions(2))
            assert asked.usage.requests == requests


def test_a_price_is_that_of_a_million_tokens():
    assert judge(price={"input": 2.5, "output": 10}).price == Price(input=2.5, output=10)
    assert Price(input=2.5, output=10).of(800_000, 120_000) == pytest.approx(3.2)
    assert judge().price is None and judge(price=None).price is None


@pytest.mark.parametrize(
    ("price", "message"),
    [
        (3, r"judge\.serving\.price=3: give the price of a million tokens as \{input: NUMBER"),
        ({"input": 1}, r"judge\.serving\.price=\{'input': 1\}: give"),
        ({"input": 1, "output": -1}, r"judge\.serving\.price\.output=-1: give a number from 0"),
        ({"input": "1", "output": 1}, r"judge\.serving\.price\.input='1': give a number from 0"),
    ],
)
def test_a_wrong_price_says_what_is_allowed(price, message):
    with pytest.raises(ValueError, match=message):
        read_price(price)
