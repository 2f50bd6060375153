"""A judge behind an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, OpenAI."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from typing import Any

from harness.experts.judge.cache import AnswerCache, ask_each_once
from harness.experts.judge.connection import Connection, Rejected, Unanswered
from harness.experts.judge.dialects import (
    DIALECTS,
    TOP_LOGPROBS,
    WeighedToken,
    continue_after_one,
    dialect_of,
    first_digit,
    messages,
    read_answer,
    read_tokens,
)
from harness.experts.judge.expected import LEAST_MASS, expected_score
from harness.experts.judge.usage import Meter, Usage, read_price
from harness.protocols import ModelJudge
from harness.settings import choice, number, whole_number
from harness.types import Answer, Question

PATH = "/chat/completions"
ONE_MATTERS = 0.02  # from this probability of a 1 on, another request distinguishes 1 from 10
LOGPROBS = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
LENGTHS = {"max_tokens", "max_completion_tokens"}
OURS = {
    "messages": "is the question",
    "model": "is judge.model",
    "stream": "cannot be set: answers come whole",
}
SCORES = ("text", "expected")


def check_settings(score: str, max_tokens: int, retry_temperature: float) -> None:
    """Checks the settings that all judges with a model share.

    Raises:
        ValueError: a setting has a value that is not allowed.
    """
    choice("judge.score", score, SCORES)
    whole_number("judge.max_tokens", max_tokens)
    number("judge.retry_temperature", retry_temperature, above=0, most=2)


def _checked_fields(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of `judge.extra`.

    Raises:
        ValueError: it is no mapping, holds what JSON cannot, or a field that the judge fills itself.
    """
    if not isinstance(extra, Mapping | None):
        raise ValueError(
            f"judge.extra={extra!r} must hold fields of a request, such as ++judge.extra.reasoning_effort=low"
        )
    fields = dict(extra or {})
    for name in OURS.keys() & fields.keys():
        raise ValueError(f"judge.extra.{name} is not allowed: this field {OURS[name]}")
    try:
        json.dumps(fields)
    except TypeError as error:
        raise ValueError(f"judge.extra holds what a JSON request cannot hold: {error}") from None
    return fields


class ServerJudge(ModelJudge):
    """Asks a served model, with many requests at a time. Equal questions are asked once.

    Args:
        model: the model's name on the server.
        flavour: the kind of server, one of `DIALECTS`; it decides the fields of a request.
        score: `text`: the score that the model writes; `expected`: the mean of 0 to 10 under the model's own
            probabilities, from one token.
        max_tokens: the length limit of an answer.
        retry_temperature: the temperature for questions that are asked again; the first time it is 0.
        extra: fields of a request that are added or replaced; null leaves a field out. Default: none.
        serving: settings that change no answer: those of `Connection`, `cache`, a folder for answers or
            null, and `price` of a million tokens (see `read_price`), null by default.

    Raises:
        ValueError: a setting has a value that is not allowed.
    """

    def __init__(
        self,
        *,
        model: str,
        flavour: str,
        score: str,
        max_tokens: int,
        retry_temperature: float,
        serving: Mapping[str, Any],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        choice("judge.flavour", flavour, list(DIALECTS))
        check_settings(score, max_tokens, retry_temperature)
        self._dialect, self._score = dialect_of(flavour, model), score
        if score == "expected" and self._dialect.constrained is None:
            raise ValueError(
                f"judge.score=expected: {model} on a {flavour} server gives no log-probs;"
                " take judge.score=text"
            )
        self.model, self._extra = model, _checked_fields(extra)
        self._max_tokens, self._retry_temperature = max_tokens, retry_temperature
        self._settings = f"{model} {flavour} {score} {max_tokens} {retry_temperature}"
        if self._extra:
            self._settings += f" {json.dumps(self._extra, sort_keys=True)}"
        connection = dict(serving)
        cache = connection.pop("cache", None)
        self.cache = AnswerCache(cache) if cache else None
        self.price = read_price(connection.pop("price", None))
        self._meter = Meter()
        self._connection = Connection(**connection)
        self._warned = threading.Event()
        self._answered_kinds: set[str] = set()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order. Waits while the server is gone, see `Connection`.

        A question that the server refuses is a failure if it has answered others of the same kind, here or
        earlier.

        Raises:
            Rejected: the server refuses our requests, or all questions of a kind.
            ServerGone: the server did not come back in time.
        """
        refusals: dict[str, Rejected] = {}
        answer = partial(self._ask_all, refusals=refusals)
        answers = ask_each_once(questions, self._settings, self.cache, answer)
        for question, given in zip(questions, answers, strict=True):
            if given.failure is None or given.text is not None:
                self._answered_kinds.add(question.kind)
        for question, given in zip(questions, answers, strict=True):
            if given.failure in refusals and question.kind not in self._answered_kinds:
                raise refusals[given.failure]
        return answers

    @property
    def usage(self) -> Usage:
        """What the server has answered so far; answers of the cache are not in it."""
        return self._meter.usage

    def missing(self) -> list[str]:
        """What the environment lacks, or a message if no server answers."""
        if problems := self._connection.problems():
            return problems
        if self._connection.is_alive():
            return []
        return [
            f"no judge answers at {self._connection.url}: start its server, or give another address with"
            " judge.serving.url"
        ]

    def _ask_all(
        self, questions: list[Question], refusals: dict[str, Rejected]
    ) -> Iterator[tuple[int, Answer]]:
        """Yields (index of the question, answer) as answers arrive.

        A refusal that may concern one question only is an answer with a failure, and is added to `refusals`.
        """
        given_up = threading.Event()
        workers = min(self._connection.concurrency, len(questions))
        pool = ThreadPoolExecutor(workers, thread_name_prefix="judge")
        index_by_future = {}
        for index, question in enumerate(questions):
            index_by_future[pool.submit(self._ask_one, question, given_up)] = index
        try:
            for future in as_completed(index_by_future):
                try:
                    answer = future.result()
                except Rejected as error:
                    if not error.for_its_content:
                        raise
                    answer = Answer(text=None, failure=str(error))
                    refusals[str(error)] = error
                yield index_by_future[future], answer
        finally:
            given_up.set()
            ends = isinstance(sys.exception(), SystemExit)  # a stop does not wait for a server that is silent
            pool.shutdown(wait=not ends, cancel_futures=True)

    def _ask_one(self, question: Question, given_up: threading.Event) -> Answer:
        wants_expected = self._score == "expected" and question.scored
        body = self._body(question)
        if wants_expected:
            body |= {**(self._dialect.constrained or {}), **LOGPROBS}
        try:
            content = self._post(self._with_extra(body), given_up)
            answer = read_answer(content)
            if wants_expected and answer.failure is None:
                return self._with_expected_score(question, answer, content, given_up)
            return answer
        except Unanswered as error:
            return Answer(text=None, failure=f"no answer from the server: {error}")

    def _post(self, body: Mapping[str, Any], given_up: threading.Event) -> dict[str, Any]:
        content = self._connection.post(PATH, body, given_up)
        self._meter.add(content)
        return content

    def _body(self, question: Question) -> dict[str, Any]:
        sampling: dict[str, Any] = {}
        if self._dialect.sampling and question.attempt:
            sampling = {"top_p": 1.0, "temperature": self._retry_temperature, "seed": question.attempt}
        elif self._dialect.sampling:
            sampling = {"top_p": 1.0, "temperature": 0.0}
        return {
            "model": self.model,
            "messages": messages(question),
            self._dialect.length: self._max_tokens,
            **sampling,
            **self._dialect.plain,
        }

    def _with_extra(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the fields of `judge.extra`, and without those that are null there."""
        left_out = [name for name, value in self._extra.items() if value is None]
        return {name: value for name, value in (body | self._extra).items() if name not in left_out}

    def _with_expected_score(
        self, question: Question, answer: Answer, content: Mapping[str, Any], given_up: threading.Event
    ) -> Answer:
        """The answer with its expected score, or unchanged if the server gave no probabilities."""
        tokens = read_tokens(content)
        position = first_digit(tokens)
        if position is None:
            self._warn_once("gives no log-probs of a score: its written scores are used instead")
            return answer
        after_one = self._after_one(question, tokens, position, given_up)
        expected, mass = expected_score(tokens[position].probabilities, after_one)
        if expected is None or mass < LEAST_MASS:
            return replace(
                answer, mass=mass, failure=f"the model gave scores a probability of {mass:.2f} only"
            )
        return replace(answer, expected=expected, mass=mass)

    def _after_one(
        self,
        question: Question,
        tokens: Sequence[WeighedToken],
        position: int,
        given_up: threading.Event,
    ) -> dict[str, float] | None:
        """The probabilities of the token after a 1; None if 10 is one token, or a 1 is unlikely."""
        text, probabilities = tokens[position]
        if text.strip() == "1" and position + 1 < len(tokens):
            return tokens[position + 1].probabilities
        one = sum(probability for token, probability in probabilities.items() if token.strip() == "1")
        ten_is_a_token = any(token.strip() == "10" for token in probabilities)
        if ten_is_a_token or one < ONE_MATTERS or self._dialect.prefilled is None:
            return None
        body = self._body(question) | LOGPROBS | continue_after_one(question, self._dialect)
        body = self._with_extra(body)
        body |= dict.fromkeys(LENGTHS & body.keys(), 1)
        following = read_tokens(self._post(body, given_up))
        return following[0].probabilities if following else None

    def _warn_once(self, message: str) -> None:
        if not self._warned.is_set():
            self._warned.set()
            print(f"judge {self.model} {message}", file=sys.stderr, flush=True)
