"""A server of published files, in place of GitHub."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest


class FileServer:
    """Serves bytes by path; `asked` are the paths in order, `gone` answers with a status of its own."""

    def __init__(self, pages: dict[str, bytes]) -> None:
        self.pages, self.asked, self.gone = pages, [], {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(self.path)
                outer.asked.append(path)
                page = outer.pages.get(path)
                self.send_response(outer.gone.get(path, 200 if page is not None else 404))
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stand_in(self, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is asked in place of GitHub by what reads this environment variable."""
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, f"{self.url}/")

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
