"""Requests to a server that may be busy, slow, broken or gone.

A request ends in one of four ways. It is answered. It is *rejected*: our mistake, raised with the server's
message. It is *unanswered* after `tries` failures: the question stays unscored. Or the server is gone: then
every request waits until it is back, for `patience_s` at most.

The HTTP client is httpx2: huggingface_hub, which transformers requires, depends on it anyway.
"""

from __future__ import annotations

import random
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.experts.judge.dialects import NO_COMPLETION, error_status, holds_error
from harness.experts.judge.environment import is_direct, key_in, unusable_variables, without_password
from harness.settings import number, whole_number

if TYPE_CHECKING:
    import httpx2

CONNECT_S = 5.0
BACKOFF_S, BACKOFF_MOST_S = 0.5, 8.0
RETRY_AFTER_MOST_S = 120.0
POLL_S, POLL_MOST_S = 1.0, 30.0
RETRIED = (408, 409, 425)  # in addition to 429 and everything from 500
ONE_REQUEST = (400, 413, 422)  # may concern this request's content only
GATEWAY = (502, 503, 504)  # the gateway answers, the server behind it does not


class Rejected(ValueError):
    """The server refuses the request. Another try would not help.

    `for_its_content`: the status is one that servers also give to single requests, such as one that is longer
    than the model's context.
    """

    def __init__(self, message: str, *, for_its_content: bool) -> None:
        super().__init__(message)
        self.for_its_content = for_its_content


class Unanswered(Exception):
    """All tries failed. The message describes the last failure."""


class ServerGone(ConnectionError):
    """The server did not come back in time."""


class Connection:
    """Posts JSON to an OpenAI-compatible server; `concurrency` threads may use it at once.

    Args:
        url: the address below which `/chat/completions` lies; it usually ends in `/v1`.
        key_variable: the environment variable with the key, read when first needed; null: no key.
        concurrency: requests in flight at once.
        timeout_s: how long an answer may take, including the server's queue.
        tries: failures after which a request is given up. Waiting for a busy or absent server is no failure.
        patience_s: how long to wait for a busy or absent server before the run stops.

    Raises:
        ValueError: a setting has a value that is not allowed.
    """

    def __init__(
        self,
        *,
        url: str,
        key_variable: str | None,
        concurrency: int,
        timeout_s: float,
        tries: int,
        patience_s: float,
    ) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname or address.query:
            raise ValueError(
                f"judge.serving.url={without_password(url)}: give the server's address, such as"
                " http://127.0.0.1:8000/v1"
            )
        if address.username or address.password:
            raise ValueError(
                f"judge.serving.url={without_password(url)} must hold no user or password: put the key into"
                " an environment variable, and the variable's name into judge.serving.key_variable"
            )
        if key_variable is not None and not key_variable.isidentifier():
            raise ValueError(
                "judge.serving.key_variable must be the name of an environment variable (the value given is"
                " no name; it is not shown because it may be a key)"
            )
        for name, value in (("concurrency", concurrency), ("tries", tries)):
            whole_number(f"judge.serving.{name}", value)
        for name, seconds in (("timeout_s", timeout_s), ("patience_s", patience_s)):
            number(f"judge.serving.{name}", seconds, above=0, hint=" (seconds)")
        self.url, self.concurrency = url.rstrip("/"), concurrency
        self.patience_s = patience_s
        self._key_variable, self._timeout_s, self._tries = key_variable, timeout_s, tries
        self._outage = Outage(self)

    def post(self, path: str, body: Mapping[str, Any], given_up: threading.Event) -> dict[str, Any]:
        """The server's answer as JSON. Setting `given_up` ends all waiting.

        Raises:
            Rejected: the request or the key is wrong.
            Unanswered: the request failed `tries` times, or was given up.
            ServerGone: the server was busy or absent for `patience_s`.
        """
        began, failures, waits, resets = time.monotonic(), 0, 0, 0
        while True:
            result = self._try(path, body)
            if isinstance(result, dict):
                return result
            if result.reset and not resets:  # servers drop idle connections: the first reset is no failure
                resets += 1
                continue
            if result.absent:
                self._outage.wait(result, given_up)
            if result.counts:
                failures += 1
            elif time.monotonic() - began > self.patience_s:
                raise ServerGone(_gone(self.url, self.patience_s, result.reason))
            if failures >= self._tries:
                raise Unanswered(f"{result.reason} (tried {failures} times)")
            waits += 1
            if given_up.wait(_delay(waits, result.retry_after_s)):
                raise Unanswered("given up")

    def problems(self) -> list[str]:
        """What the environment lacks for a connection: usable proxies, a key."""
        found = [] if is_direct(self.url) else unusable_variables()
        try:
            self._key()
        except ValueError as error:
            found.append(str(error))
        return found

    def is_alive(self) -> bool:
        """Whether a server answers, not only a gateway in front of it."""
        import httpx2

        try:
            answer = self._client.get(f"{self.url}/models", timeout=2 * CONNECT_S)
        except httpx2.HTTPError:
            return False
        return answer.status_code not in GATEWAY

    def _try(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | Failure:
        import httpx2

        started = time.monotonic()
        try:
            answer = self._client.post(f"{self.url}{path}", json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = f"no connection: {self._describe(error)}"
            return Failure(sent_at=started, reason=reason, absent=True, counts=False)
        except httpx2.TimeoutException:
            reason = f"no answer within {self._timeout_s:g} s"
            return Failure(sent_at=started, reason=reason, absent=True)
        except httpx2.TransportError as error:
            reason = f"the connection broke: {self._describe(error)}"
            return Failure(sent_at=started, reason=reason, absent=True, reset=True)
        status = answer.status_code
        if status == 200:
            content = _content(answer)
            if content is None:
                return Failure(sent_at=started, reason="its answer is no JSON object")
            if not holds_error(content):
                return content
            named = error_status(content)
            if named is None:  # an error of unknown meaning may pass
                return Failure(sent_at=started, reason=f"{NO_COMPLETION} but an error: {self._shown(answer)}")
            status = named
        return self._refusal(answer, status, started)

    def _shown(self, answer: httpx2.Response) -> str:
        return self._without_key(" ".join(answer.text.split()))[:600]

    def _refusal(self, answer: httpx2.Response, status: int, started: float) -> Failure:
        """The failure behind an error status.

        Raises:
            Rejected: the status says that another try would not help.
        """
        text = self._shown(answer)
        reason = f"HTTP {status}: {text}" if text else f"HTTP {status}"
        retry_after_s = _retry_after(answer.headers)
        if status == 429 and "insufficient_quota" not in text:
            return Failure(sent_at=started, reason=reason, counts=False, retry_after_s=retry_after_s)
        if status >= 500 or status in RETRIED:
            absent = status in GATEWAY
            return Failure(sent_at=started, reason=reason, absent=absent, retry_after_s=retry_after_s)
        advice = ""
        if status == 401:
            advice = (
                ". The key is read from the environment variable that judge.serving.key_variable names"
                f" ({self._key_variable})"
            )
        if status == 404:
            advice = ". Check judge.model, and judge.serving.url, which usually ends in /v1"
        raise Rejected(
            f"{self.url} refused the request with {reason}{advice}", for_its_content=status in ONE_REQUEST
        )

    @cached_property
    def _client(self) -> httpx2.Client:
        import httpx2

        for problem in self.problems():
            raise ValueError(problem)
        key = self._key()
        connections = self.concurrency + 1
        client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(self._timeout_s, connect=CONNECT_S),
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=4
            ),
            trust_env=not is_direct(self.url),
        )
        weakref.finalize(self, client.close)
        return client

    def _key(self) -> str | None:
        return key_in(self._key_variable)

    def _describe(self, error: Exception) -> str:
        return self._without_key(str(error) or type(error).__name__)

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if key else text


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a request failed."""

    sent_at: float  # by `time.monotonic`
    reason: str
    absent: bool = False  # the server may be gone
    reset: bool = False  # the server closed the connection
    counts: bool = True  # as one of the tries
    retry_after_s: float | None = None


class Outage:
    """One thread polls an absent server, and the others wait for its result. Progress goes to stderr."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._back_at = self._gone_at = -1.0

    def wait(self, failure: Failure, given_up: threading.Event) -> None:
        """Returns once the server answers.

        Raises:
            ServerGone: it does not answer within the connection's `patience_s`.
        """
        connection, patience_s = self._connection, self._connection.patience_s
        with self._lock:
            if self._gone_at > failure.sent_at:
                raise ServerGone(_gone(connection.url, patience_s, failure.reason))
            if self._back_at > failure.sent_at:
                return
            began, delay, report_at = time.monotonic(), POLL_S, 0.0
            while not given_up.is_set() and not connection.is_alive():
                waited = time.monotonic() - began
                if waited >= patience_s:
                    self._gone_at = time.monotonic()
                    raise ServerGone(_gone(connection.url, patience_s, failure.reason))
                if waited >= report_at:
                    _report(
                        f"{connection.url} does not answer ({failure.reason}): waiting since {waited:.0f} s,"
                        f" for {patience_s:g} s at most"
                    )
                    report_at = max(10.0, min(2 * waited, waited + 600))
                given_up.wait(min(delay, patience_s - waited))
                delay = min(1.5 * delay, POLL_MOST_S)
            self._back_at = time.monotonic()
            if report_at:
                _report(f"{connection.url} answers again after {self._back_at - began:.0f} s: continuing")


def _content(answer: httpx2.Response) -> dict[str, Any] | None:
    try:
        content = answer.json()
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _report(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _gone(url: str, patience_s: float, reason: str) -> str:
    return (
        f"{url} did not answer ({reason}); the run waited for {patience_s:g} s (judge.serving.patience_s)."
        " Nothing was scored meanwhile, and checkpoints are kept: start the server and run the same command"
        " again"
    )


def _delay(waits: int, retry_after_s: float | None) -> float:
    """Seconds before the next try: the server's `Retry-After`, else doubling delays with random jitter."""
    if retry_after_s is not None:
        return min(retry_after_s, RETRY_AFTER_MOST_S)
    return min(BACKOFF_S * 2 ** min(waits - 1, 10), BACKOFF_MOST_S) * (1 - 0.25 * random.random())


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds until the time in `Retry-After`, which is a number of seconds or a date."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
