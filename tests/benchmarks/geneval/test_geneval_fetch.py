"""What `harness.fetch` gets for GenEval, from a server of the test's own that holds the published files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer

from benchmarks.geneval import fetch
from benchmarks.geneval.files import metadata_version, read_metadata, sums

COMMIT = "/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/"
PATHS = {
    "evaluation_metadata.jsonl": f"{COMMIT}prompts/evaluation_metadata.jsonl",
    "generation_prompts.txt": f"{COMMIT}prompts/generation_prompts.txt",
    "object_names.txt": f"{COMMIT}evaluation/object_names.txt",
}


@pytest.fixture
def server(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    served = FileServer({path: (data_dir / "geneval" / name).read_bytes() for name, path in PATHS.items()})
    served.stand_in(fetch.MIRROR, monkeypatch)
    yield served
    served.close()


def test_everything_comes_as_it_was_published(
    server: FileServer, data_dir: Path, tmp_path: Path, capsys
) -> None:
    to = tmp_path / "cache" / "geneval"
    fetch.prompts(to)
    assert {file.name: file.read_bytes() for file in to.iterdir()} == {
        name: (data_dir / "geneval" / name).read_bytes() for name in PATHS
    }
    assert len(read_metadata(to)) == 553 and metadata_version(to) == "published"
    assert capsys.readouterr().err.splitlines()[-1] == "3/3 object_names.txt: 642 bytes"


def test_a_second_time_only_what_is_missing_is_fetched(server: FileServer, tmp_path: Path) -> None:
    fetch.prompts(tmp_path)
    (tmp_path / "object_names.txt").unlink()
    server.asked.clear()
    fetch.prompts(tmp_path)
    assert server.asked == [PATHS["object_names.txt"]]


def test_another_file_is_refused_with_what_to_do(server: FileServer, tmp_path: Path) -> None:
    server.pages[PATHS["object_names.txt"]] = b"person\n"
    with pytest.raises(
        ValueError,
        match=r"content of object_names\.txt is refused: .*run the same command again\. "
        r".*set GENEVAL_DIR to it; or set GENEVAL_MIRROR",
    ):
        fetch.prompts(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "evaluation_metadata.jsonl",
        "generation_prompts.txt",
    }


def test_colleagues_may_read_what_lies_in_a_shared_cache(server: FileServer, tmp_path: Path) -> None:
    fetch.prompts(tmp_path)
    (tmp_path / "own").touch()
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(fetch.MIRROR, "http://127.0.0.1:9")
    with pytest.raises(
        ValueError, match=r"cannot be fetched: .*clone github\.com/djghosh13/geneval elsewhere"
    ):
        fetch.prompts(tmp_path)


def test_the_sums_are_those_of_the_published_files(data_dir: Path) -> None:
    folder = data_dir / "geneval"
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums()} == sums()
    told = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert sums().items() <= told.items()
