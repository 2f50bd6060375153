"""No file of a study holds a key or a password, also where a server sends the key back in its error."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SECRETS = {
    "OPENAI_API_KEY": "sk-openai-0123456789",
    "ANTHROPIC_API_KEY": "sk-anthropic-0123456789",
    "HF_TOKEN": "hf_0123456789",
    "LAB_PASSWORD": "Tr0ub4dor-and-3",
}
PROXY = "hunter2hunter2"
LEAKY = """
import os, sys, threading
from harness.experts.judge.connection import Connection
from toy_parts import ToyBenchmark

class Leaky(ToyBenchmark):
    '''Its judge refuses the key and sends it back, after it has printed all it knows.'''

    def __init__(self, *, prompts, url, other):
        super().__init__(prompts=prompts)
        serving = {"concurrency": 1, "timeout_s": 9, "tries": 1, "patience_s": 9}
        self._server = Connection(url=url, key_variable="OPENAI_API_KEY", **serving)
        self._other = other

    def score(self, samples):
        print("known:", dict(os.environ), flush=True)
        print("known:", dict(os.environ), file=sys.stderr, flush=True)
        if self._other:
            raise RuntimeError(f"refused: {os.environ['ANTHROPIC_API_KEY']} at {os.environ['LAB_PROXY']}")
        self._server.post("/x", {}, threading.Event())
"""


class Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()
        key = self.headers["Authorization"].removeprefix("Bearer ")
        self.wfile.write(f"{'x' * 590}{key}: no such key {key}".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def judge() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAB_PROXY", f"http://me:{PROXY}@proxy:8080")


def _files_with_secrets(folder: Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (*SECRETS.values(), PROXY):
                # also a part of it, as where a text is cut
                if secret.encode() in content or secret[:8].encode() in content:
                    found.append(f"{path} holds {secret}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_no_file_of_a_study_whose_judge_fails_holds_a_secret(sweeps, judge, tmp_path, request, cluster):
    if cluster == "slurm":
        request.getfixturevalue("slurm")
    sweeps.toy = shutil.copytree(sweeps.toy, tmp_path / "toy")
    (sweeps.toy / "leaky.py").write_text(LEAKY)
    words = [f"cluster={cluster}", "benchmarks._target_=leaky.Leaky", f"+benchmarks.url={judge}"]
    words += ["+benchmarks.other=false", "arms=baseline,bad", "arm.bad=benchmarks.other=true"]
    ended = sweeps.run(*words, f"reports_dir={tmp_path / 'reports'}")
    assert sweeps.states() == {"baseline": "failed", "bad": "failed"}, ended.stderr
    assert "refused the request with HTTP 401" in sweeps.status("baseline")["error"]
    assert "RuntimeError: refused: *** at http://***@proxy:8080" in sweeps.status("bad")["error"]
    logs = [path.read_text() for name in ("*_log.*", "out-*") for path in tmp_path.rglob(name)]
    assert any("'HF_TOKEN': '***'" in text for text in logs)
    assert (tmp_path / "reports" / "toy" / "index.html").is_file()
    for folder in (sweeps.outputs, tmp_path / "reports"):
        assert _files_with_secrets(folder) == []
    if cluster == "slurm":
        kept = [path for path in (tmp_path / "slurm").iterdir() if not path.name.startswith("env-")]
        assert len(kept) > 3 and not [path for path in kept if b"sk-open" in path.read_bytes()]


@pytest.mark.parametrize(
    "word",
    [
        f"judge.url=https://me:{PROXY}@host/v1",
        f"study.question=from https://me:{PROXY}@host/v1",
        f"arm.mine=study.question=https://{PROXY}@host/v1",
        f"+policies.key={SECRETS['HF_TOKEN']}",
        "+policies.key=${oc.env:HF_TOKEN}",
        "+rewards.components.glow.key=${oc.env:HF_TOKEN}",
        "++cluster.options.comment=${oc.env:HF_TOKEN}",
        "++cluster.options.setup=['export HF_TOKEN=hf_other']",
    ],
)
def test_a_command_that_holds_a_secret_is_refused_before_anything_is_written(sweeps, word):
    ended = sweeps.run("arms=baseline", word)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert not sweeps.outputs.exists()
    assert not any(secret in ended.stderr for secret in (*SECRETS.values(), "hf_other"))
