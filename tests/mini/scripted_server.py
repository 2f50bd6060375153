"""A server that answers chat completions as it is told: the moods of real ones, on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = Callable[["Handler", dict[str, Any]], None]


def reply(
    text: str | None = '{"score": 7}', finish: str | None = "stop", logprobs: Any = None, **message: Any
) -> Step:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
        "logprobs": logprobs,
    }
    return status(200, json.dumps({"object": "chat.completion", "choices": [choice]}))


def status(code: int, body: str = "{}", **headers: str) -> Step:
    def answer(handler: Handler, _: dict[str, Any]) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return answer


def reset(handler: Handler, _: dict[str, Any]) -> None:
    """Hangs up without a word."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def slow(seconds: float, then: Step) -> Step:
    def answer(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        then(handler, body)

    return answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.script.connections.append(self.connection)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script = self.server.script
        with script.lock:
            script.bodies.append(body)
            script.headers.append(dict(self.headers))
            script.flying += 1
            script.most_flying = max(script.most_flying, script.flying)
            step = script.step(len(script.bodies) - 1)
        try:
            step(self, body)
        except OSError:
            pass
        finally:
            with script.lock:
                script.flying -= 1

    def do_GET(self) -> None:
        status(self.server.script.models_status)(self, {})

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # hung up
            super().finish()

    def log_message(self, *_: Any) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    script: Script

    def handle_error(self, *_: Any) -> None: ...


class Script:
    """Steps in the order of the requests, the last for ever; `by_body` decides by the request
    instead. A context manager.
    """

    def __init__(
        self, *steps: Step, by_body: Callable[[dict[str, Any]], Step] | None = None, models_status: int = 200
    ) -> None:
        self.steps, self.by_body, self.models_status = steps, by_body, models_status
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.flying = self.most_flying = 0
        self.connections: list[socket.socket] = []
        self._server: Server | None = None
        self.port = 0

    def step(self, number: int) -> Step:
        return (
            self.by_body(self.bodies[number])
            if self.by_body
            else self.steps[min(number, len(self.steps) - 1)]
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listens, the second time on the port of the first."""
        self._server = Server(("127.0.0.1", self.port), Handler)
        self._server.script = self
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Hangs up, and refuses connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for one in self.connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def __enter__(self) -> Script:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
