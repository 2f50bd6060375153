"""The stage `checkpoint`: links to a folder, or what a hub gives; the hub here is a small server on
this machine.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.constants
import pytest
import upstream_layout
from mini_world import TEMPLATE, FakeWorkspace

from policies.janus import fetch, folder
from policies.janus.policy import JanusPolicy

COMMIT = "c0ffee" + "0" * 34
SOURCE = {"repository": "someone/janus", "revision": "main"}


class Hub(ThreadingHTTPServer):
    """Serves the files of one folder as the repository someone/janus, as far as huggingface_hub
    asks for it.
    """

    def __init__(self, files: Path) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.files = files
        self.sent: list[str] = []
        self.gated = False


class Page(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        files = {file.name: file for file in self.server.files.iterdir()}
        if not path.removeprefix("/api/models").startswith("/someone/janus"):
            return self._answer(401, {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/models/someone/janus/revision/"):
            if not path.endswith(("/main", COMMIT)):
                return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
            return self._answer(200, {}, {"id": "someone/janus", "sha": COMMIT})
        if path.startswith("/api/models/someone/janus/tree/"):
            listed = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}
                for name, file in files.items()
            ]
            return self._answer(200, {}, listed)
        if self.server.gated:
            return self._answer(403, {"X-Error-Code": "GatedRepo"})
        if self.command == "GET":
            self.server.sent.append(path.rpartition("/")[2])
        content = files[path.rpartition("/")[2]].read_bytes()
        return self._answer(
            200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content
        )

    do_HEAD = do_GET

    def _answer(self, status: int, headers: dict[str, str], body: Any = b"") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            **headers,
            "Content-Length": str(len(content)),
            "Content-Type": "application/json",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    upstream_layout.write(place)
    upstream_layout.write(place, pickled=True, shards=2)
    (place / "README.md").write_text("about it")
    return place


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(Path(shutil.copytree(model, tmp_path / "remote")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", here)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        here + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.utils.close_session()
    yield server
    server.shutdown()
    server.server_close()
    huggingface_hub.utils.close_session()


def test_a_folder_is_linked_again_whatever_a_killed_attempt_left(model: Path, tmp_path: Path) -> None:
    work = FakeWorkspace(tmp_path / "work")
    (work.folder / "checkpoint").mkdir()
    (work.folder / "checkpoint" / "config.json").symlink_to("/nowhere")
    (work.folder / "checkpoint" / "old.bin").write_bytes(b"")
    files = {file.name: str(file) for file in folder.read(model).files}
    fetch.link(work, {"files": files}, {})
    there = {path.name: path.resolve() for path in (work.folder / "checkpoint").iterdir()}
    assert there == {name: Path(path).resolve() for name, path in files.items()}
    assert set(files) == {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}


def test_a_repository_is_fetched_without_what_is_not_needed(hub: Hub, tmp_path: Path) -> None:
    work = FakeWorkspace(tmp_path / "work")
    fetch.download(work, SOURCE, {})
    assert sorted(hub.sent) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert json.loads((work.folder / "source.json").read_text()) == {**SOURCE, "commit": COMMIT}
    assert [line["step"] for line in work.lines] == sorted(line["step"] for line in work.lines)
    assert work.lines[-1]["step"] == work.lines[-1]["total"] > 0
    JanusPolicy(work.folder / "checkpoint", template=TEMPLATE)


def test_shards_of_a_pickle_are_fetched_where_there_is_nothing_better(hub: Hub, tmp_path: Path) -> None:
    (hub.files / "model.safetensors").unlink()
    work = FakeWorkspace(tmp_path / "work")
    fetch.download(work, SOURCE, {})
    names = {path.name for path in (work.folder / "checkpoint").iterdir()}
    assert {name for name in names if "model" in name} == {
        "pytorch_model.bin.index.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    }
    JanusPolicy(work.folder / "checkpoint", template=TEMPLATE)


def test_what_was_fetched_is_used_again_with_no_network(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch.download(FakeWorkspace(tmp_path / "first"), SOURCE, {})
    sent = len(hub.sent)
    fetch.download(FakeWorkspace(tmp_path / "second"), SOURCE, {})
    assert len(hub.sent) == sent
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.utils.close_session()
    work = FakeWorkspace(tmp_path / "third")
    fetch.download(work, SOURCE, {})
    assert json.loads((work.folder / "source.json").read_text())["commit"] == COMMIT
    JanusPolicy(work.folder / "checkpoint", template=TEMPLATE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"repository": "someone/else"},
            "policies.checkpoint=someone/else: there is no such folder here, and the hub has no such model",
        ),
        ({"revision": "v9"}, "policies.revision=v9: someone/janus has no such branch, tag or commit"),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    hub: Hub, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        fetch.download(FakeWorkspace(tmp_path / "work"), SOURCE | settings, {})
    assert str(caught.value).startswith(message)


def test_a_gated_repository_asks_for_a_token(hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    with pytest.raises(
        ValueError, match=r"policies\.checkpoint=someone/janus is gated: accept its terms .* set HF_TOKEN"
    ):
        fetch.download(FakeWorkspace(tmp_path / "work"), SOURCE, {})


def test_no_network_and_nothing_fetched_is_said(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.utils.close_session()
    with pytest.raises(ValueError, match=r"the hub cannot be reached .* `hf download someone/janus`"):
        fetch.download(FakeWorkspace(tmp_path / "work"), SOURCE, {})


def test_a_hub_that_is_down_is_said(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="the hub cannot be reached"):
        fetch.download(FakeWorkspace(tmp_path / "work"), SOURCE, {})


def test_a_repository_of_something_else_is_named(hub: Hub, tmp_path: Path) -> None:
    for file in hub.files.glob("*model*"):
        file.unlink()
    with pytest.raises(ValueError, match="has no weights, neither"):
        fetch.download(FakeWorkspace(tmp_path / "work"), SOURCE, {})
    (hub.files / "config.json").unlink()
    with pytest.raises(ValueError, match=r"someone/janus has no config\.json"):
        fetch.download(FakeWorkspace(tmp_path / "other"), SOURCE, {})
