"""Requests to a server that may be busy, slow, broken or gone.

What becomes of a request: answered; *rejected* (our mistake: raised with what the server said); *unanswered* after `tries`
failures (the question stays unscored); or the server is gone: then every request waits until it is back, for `patience_s`.

httpx2 does the talking: huggingface_hub, which transformers needs, and openai stand on it, so it is there anyway and kept.
"""

from __future__ import annotations

import ipaddress
import os
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

from harness.settings import number, whole_number

if TYPE_CHECKING:
    import httpx2

CONNECT_S = 5.0
BACKOFF_S, BACKOFF_MOST_S = 0.5, 8.0
RETRY_AFTER_MOST_S = 120.0
POLL_S, POLL_MOST_S = 1.0, 30.0
AGAIN = (408, 409, 425)  # beside 429 and what is 500 or more
BEHIND_GATEWAY = (502, 503, 504)  # the gateway answers, the server does not


class Rejected(ValueError):
    """The server refuses the request itself; asking again would not help."""


class Unanswered(Exception):
    """The last try failed too; the message says how."""


class ServerGone(ConnectionError):
    """The server did not come back in time."""


class Connection:
    """Posts JSON to an OpenAI-compatible server; may be used by `concurrency` threads.

    Args:
        url: where its `/chat/completions` is, usually ending in `/v1`.
        key_variable: the environment variable that holds the key, read when first needed; null for a server without one.
        concurrency: requests in flight at once.
        timeout_s: how long an answer may take, the server's queue included.
        tries: failures of one request before it is given up; waiting for a busy or absent server is none.
        patience_s: how long a busy or absent server is waited for before the run stops.

    Raises:
        ValueError: a setting that cannot be.
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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(
                f"judge.serving.url={_without_password(url)}: give the server's address, such as http://127.0.0.1:8000/v1"
            )
        if parts.username or parts.password:
            raise ValueError(
                f"judge.serving.url={_without_password(url)} must hold no user or password: put the key into an environment variable, "
                "and its name into judge.serving.key_variable"
            )
        if key_variable is not None and not key_variable.isidentifier():
            raise ValueError(
                "judge.serving.key_variable must be the name of an environment variable (its value here is none, and is not shown)"
            )
        for name, value in (("concurrency", concurrency), ("tries", tries)):
            whole_number(f"judge.serving.{name}", value)
        for name, seconds in (("timeout_s", timeout_s), ("patience_s", patience_s)):
            number(f"judge.serving.{name}", seconds, above=0, hint=" (seconds)")
        self.url, self.concurrency = url.rstrip("/"), concurrency
        self._key_variable, self._timeout_s, self._tries, self._patience_s = (
            key_variable,
            timeout_s,
            tries,
            patience_s,
        )
        self._outage = Outage(self)

    def post(self, path: str, body: Mapping[str, Any], given_up: threading.Event) -> dict[str, Any]:
        """The JSON that the server answers; `given_up` ends all waiting.

        Raises:
            Rejected: the request or the key is wrong.
            Unanswered: `tries` failures, or given up.
            ServerGone: busy or absent for `patience_s`.
        """
        began, failures, waits, resets = time.monotonic(), 0, 0, 0
        while True:
            trouble = self._try(path, body)
            if isinstance(trouble, dict):
                return trouble
            if trouble.reset and not resets:  # servers drop idle connections: the first reset says nothing
                resets += 1
                continue
            if trouble.absent:
                self._outage.wait(trouble, given_up)
            if trouble.counts:
                failures += 1
            elif time.monotonic() - began > self._patience_s:
                raise ServerGone(_gone(self.url, self._patience_s, trouble.what))
            if failures >= self._tries:
                raise Unanswered(f"{trouble.what} (tried {failures} times)")
            waits += 1
            if given_up.wait(_delay(waits, trouble.retry_after_s)):
                raise Unanswered("given up")

    def is_alive(self) -> bool:
        """Whether anything but a gateway answers there."""
        import httpx2

        try:
            answer = self._client.get(f"{self.url}/models", timeout=2 * CONNECT_S)
        except httpx2.HTTPError:
            return False
        return answer.status_code not in BEHIND_GATEWAY

    def _try(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | Trouble:
        import httpx2

        started = time.monotonic()
        try:
            answer = self._client.post(f"{self.url}{path}", json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return Trouble(at=started, what=f"no connection: {self._told(error)}", absent=True, counts=False)
        except httpx2.TimeoutException:
            return Trouble(at=started, what=f"no answer within {self._timeout_s:g} s", absent=True)
        except httpx2.TransportError as error:
            return Trouble(
                at=started, what=f"the connection broke: {self._told(error)}", absent=True, reset=True
            )
        if answer.status_code == 200:
            return _content(answer, started)
        return self._refusal(answer, started)

    def _refusal(self, answer: httpx2.Response, started: float) -> Trouble:
        status, said = answer.status_code, self._hidden(" ".join(answer.text.split())[:600])
        what = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        if status == 429 and "insufficient_quota" not in said:
            return Trouble(at=started, what=what, counts=False, retry_after_s=_retry_after(answer.headers))
        if status >= 500 or status in AGAIN:
            return Trouble(
                at=started,
                what=what,
                absent=status in BEHIND_GATEWAY,
                retry_after_s=_retry_after(answer.headers),
            )
        advice = {
            401: f". The key is read from the environment variable in judge.serving.key_variable ({self._key_variable})",
            404: ". Check model, and judge.serving.url, which usually ends in /v1",
        }.get(status, "")
        raise Rejected(f"{self.url} refused the request with {what}{advice}")

    @cached_property
    def _client(self) -> httpx2.Client:
        import httpx2

        key = self._key()
        client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(self._timeout_s, connect=CONNECT_S),
            limits=httpx2.Limits(
                max_connections=self.concurrency + 1,
                max_keepalive_connections=self.concurrency + 1,
                keepalive_expiry=4,
            ),
            trust_env=not _is_loopback(
                urlsplit(self.url).hostname or ""
            ),  # no proxy between us and ourselves
        )
        weakref.finalize(self, client.close)
        return client

    def _key(self) -> str | None:
        if self._key_variable is None:
            return None
        key = os.environ.get(self._key_variable, "").strip()
        if not key:
            raise ValueError(
                f"the environment variable {self._key_variable} (judge.serving.key_variable) is empty: put the server's key there"
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                f"the environment variable {self._key_variable} (judge.serving.key_variable) holds no key: it has spaces or odd characters"
            )
        return key

    def _told(self, error: Exception) -> str:
        return self._hidden(str(error) or type(error).__name__)

    def _hidden(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if key else text


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a request failed."""

    at: float  # when it was sent, `time.monotonic`
    what: str
    absent: bool = False  # the server may be gone
    reset: bool = False  # it hung up
    counts: bool = True  # as one of the tries
    retry_after_s: float | None = None


class Outage:
    """One thread looks for the server, the others wait for what it finds; says on stderr what goes on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._back_at = self._gone_at = -1.0

    def wait(self, trouble: Trouble, given_up: threading.Event) -> None:
        """Returns once the server answers.

        Raises:
            ServerGone: it does not within the connection's `patience_s`.
        """
        connection, patience_s = self._connection, self._connection._patience_s
        with self._lock:
            if self._gone_at > trouble.at:
                raise ServerGone(_gone(connection.url, patience_s, trouble.what))
            if self._back_at > trouble.at:
                return
            began, delay, say_at = time.monotonic(), POLL_S, 0.0
            while not given_up.is_set() and not connection.is_alive():
                waited = time.monotonic() - began
                if waited >= patience_s:
                    self._gone_at = time.monotonic()
                    raise ServerGone(_gone(connection.url, patience_s, trouble.what))
                if waited >= say_at:
                    _say(
                        f"{connection.url} does not answer ({trouble.what}): waiting since {waited:.0f} s, for {patience_s:g} s at most"
                    )
                    say_at = max(10.0, min(2 * waited, waited + 600))
                given_up.wait(min(delay, patience_s - waited))
                delay = min(1.5 * delay, POLL_MOST_S)
            self._back_at = time.monotonic()
            if say_at:
                _say(f"{connection.url} answers again after {self._back_at - began:.0f} s: going on")


def _content(answer: httpx2.Response, started: float) -> dict[str, Any] | Trouble:
    try:
        content = answer.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else Trouble(at=started, what="its answer is no JSON object")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _gone(url: str, patience_s: float, what: str) -> str:
    return (
        f"{url} was waited for {patience_s:g} s (judge.serving.patience_s) and does not answer ({what}). Nothing was scored meanwhile, "
        "and checkpoints are kept: start the server and run the same command again"
    )


def _delay(failures: int, retry_after_s: float | None) -> float:
    """Seconds before the next try: as long as the server asks for, else doubling, less up to a quarter at random."""
    if retry_after_s is not None:
        return min(retry_after_s, RETRY_AFTER_MOST_S)
    return min(BACKOFF_S * 2 ** min(failures - 1, 10), BACKOFF_MOST_S) * (1 - 0.25 * random.random())


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` says, in seconds or as a date."""
    written = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(written))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(written).timestamp() - time.time())
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _without_password(url: str) -> str:
    return url if "@" not in url else f"***@{url.rpartition('@')[2]}"
