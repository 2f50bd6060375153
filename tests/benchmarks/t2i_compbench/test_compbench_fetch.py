"""`harness.fetch` for T2I-CompBench, from a local server that holds the published files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from file_server import FileServer
from omegaconf import OmegaConf

from benchmarks.t2i_compbench import fetch
from benchmarks.t2i_compbench.files import (
    OLD_COLOR_VAL,
    STEMS,
    color_val_file,
    color_val_version,
    prompt_file,
    read_prompts,
    read_routing,
    sums,
)
from benchmarks.t2i_compbench.labels import COLUMNS, EDITS, read_labels
from harness import fetch as command
from harness.composition import groups
from harness.protocols import Benchmark

OLD = "7710d059c3391fe97fbf9e2ad3813ed0e7d87979"


def label_file(labels: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "oid_freebase", *COLUMNS))
    for number, label in enumerate(labels):
        first, _, second = label.partition(", ")
        writer.writerow(("key", "", *(("Edited", "by hand") if number in EDITS else (first, second)), "", ""))
    return text.getvalue().encode()


@pytest.fixture
def server(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    official = data_dir / "t2i_compbench"
    prompts = "/Karine-Huang/T2I-CompBench/{}/examples/dataset/{}"
    pages = {
        prompts.format(fetch.COMMIT, name): (official / name).read_bytes()
        for name in sums()
        if name != OLD_COLOR_VAL
    }
    pages[prompts.format(OLD, "color_val.txt")] = (official / OLD_COLOR_VAL).read_bytes()
    labels = json.loads((official / "unidet_labels_722.json").read_text(encoding="utf-8"))["labels"]
    unidet = (
        "/xingyizhou/UniDet/94cd0e8612e558c1dff64d2928bc969856c9a802/datasets/label_spaces/learned_mAP+M.csv"
    )
    pages[unidet] = label_file(labels)
    served = FileServer(pages)
    served.stand_in(fetch.MIRROR, monkeypatch)
    yield served
    served.close()


def test_everything_comes_as_it_was_published(
    server: FileServer, data_dir: Path, tmp_path: Path, capsys
) -> None:
    to = tmp_path / "cache" / "t2i_compbench"
    fetch.prompts(to)
    files = {path.relative_to(to).as_posix(): path.read_bytes() for path in to.rglob("*") if path.is_file()}
    assert files.pop("unidet_labels.csv") == next(
        page for path, page in server.pages.items() if path.endswith("learned_mAP+M.csv")
    )
    assert files == {name: (data_dir / "t2i_compbench" / name).read_bytes() for name in files}
    assert set(files) >= {f"{stem}_{part}.txt" for stem in STEMS.values() for part in ("val", "train")}
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == f"22/22 unidet_labels.csv: {len(server.pages[server.asked[-1]])} bytes"
    )


def test_as_a_command_it_fills_the_cache(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    offering = type("Offering", (Benchmark,), {"fetches": {"t2i_compbench": f"{fetch.__name__}.prompts"}})
    monkeypatch.setattr(groups, "classes", lambda group: {"t2i_compbench": offering})
    assert command.main(["t2i_compbench"]) == 0
    place = OmegaConf.create({"root": "${fetched:t2i_compbench}"}).root
    assert capsys.readouterr().out == f"t2i_compbench lies in {place}\n"
    assert read_prompts(prompt_file(Path(place), "color", "val"))[0] == "a green bench and a blue bowl"
    server.close()
    assert command.main(["t2i_compbench"]) == 0  # all is there
    Path(place, "new_objects.txt").unlink()
    assert command.main(["t2i_compbench"]) == 1
    assert "new_objects.txt cannot be fetched" in capsys.readouterr().err


def test_what_was_fetched_is_all_that_scorers_read(server: FileServer, tmp_path: Path) -> None:
    fetch.prompts(tmp_path)
    assert [color_val_version(color_val_file(tmp_path, version)) for version in ("2025-09-03", "2023")] == [
        "2025-09-03",
        "2023",
    ]
    assert [len(texts) for texts in read_routing(tmp_path)] == [58, 212]
    assert len(read_labels(tmp_path / "unidet_labels.csv")) == 722


def test_a_second_time_only_what_is_missing_or_damaged_is_fetched(
    server: FileServer, tmp_path: Path, capsys
) -> None:
    fetch.prompts(tmp_path)
    right = (tmp_path / "shape_val.txt").read_bytes()
    (tmp_path / "shape_val.txt").write_bytes(right[:-1])
    (tmp_path / "new_objects.txt").unlink()
    server.asked.clear()
    capsys.readouterr()
    fetch.prompts(tmp_path)
    assert [Path(path).name for path in server.asked] == ["shape_val.txt", "new_objects.txt"]
    assert (tmp_path / "shape_val.txt").read_bytes() == right
    assert "1/22 color_val.txt: there" in capsys.readouterr().err


def test_a_wrong_sum_is_refused_with_both(server: FileServer, tmp_path: Path) -> None:
    path = next(path for path in server.pages if path.endswith("texture_val.txt"))
    server.pages[path] = b"a fluffy cat"
    got, published = hashlib.sha256(b"a fluffy cat").hexdigest(), sums()["texture_val.txt"]
    with pytest.raises(
        ValueError,
        match=f"content of texture_val.txt is refused: its SHA-256 is {got}, "
        f"that of the published file is {published}",
    ):
        fetch.prompts(tmp_path)
    assert (tmp_path / "shape_val.txt").is_file()
    assert not (tmp_path / "texture_val.txt").exists() and not list(tmp_path.glob(".*"))


def test_labels_in_another_order_are_refused(server: FileServer, tmp_path: Path) -> None:
    path = next(path for path in server.pages if path.endswith("learned_mAP+M.csv"))
    lines = server.pages[path].splitlines(keepends=True)
    server.pages[path] = b"".join([lines[0], *reversed(lines[1:])])
    with pytest.raises(ValueError, match=r"content of unidet_labels\.csv is refused: .*in their order"):
        fetch.prompts(tmp_path)
    assert not (tmp_path / "unidet_labels.csv").exists()


def test_a_server_that_refuses(server: FileServer, tmp_path: Path) -> None:
    path = next(path for path in server.pages if path.endswith("/shape_train.txt"))
    server.gone[path] = 429
    with pytest.raises(
        ValueError, match=r"shape_train\.txt answers 429 .*run the same command again.* set T2I_COMPBENCH_DIR"
    ):
        fetch.prompts(tmp_path)
    server.gone.clear()
    fetch.prompts(tmp_path)
    assert server.asked.count(path) == 2 and len(server.asked) == 23


@pytest.mark.parametrize("base", ["http://127.0.0.1:9", "127.0.0.1:9", "http://[oops"])
def test_without_a_network_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: str
) -> None:
    monkeypatch.setenv(fetch.MIRROR, base)
    with pytest.raises(
        ValueError,
        match=r"cannot be fetched: .*clone github\.com/Karine-Huang/T2I-CompBench elsewhere"
        r".*T2I_COMPBENCH_DIR",
    ):
        fetch.prompts(tmp_path)


def test_the_sums_are_those_of_the_published_files(data_dir: Path) -> None:
    assert {
        name: hashlib.sha256((data_dir / "t2i_compbench" / name).read_bytes()).hexdigest() for name in sums()
    } == sums()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Path]]:
    """What was asked of `language.export`, which needs spaCy's model."""
    asked: list[tuple[list[str], Path]] = []
    module = SimpleNamespace(write_export=lambda texts, file: asked.append((list(texts), file)))
    monkeypatch.setitem(sys.modules, "benchmarks.t2i_compbench.language.export", module)
    return asked


def test_noun_phrases_of_every_prompt_once(
    exported, data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("T2I_COMPBENCH_DIR", str(data_dir / "t2i_compbench"))
    fetch.noun_phrases(tmp_path / "new" / "export.json")
    [(texts, file)] = exported
    assert file == tmp_path / "new" / "export.json" and file.parent.is_dir()
    official = data_dir / "t2i_compbench"
    files = [prompt_file(official, category, part) for category in STEMS for part in ("val", "train")]
    lines = {
        line.partition("\t")[0]
        for name in [*files, official / OLD_COLOR_VAL]
        for line in name.read_text().splitlines()
    }
    assert len(texts) == len(set(texts)) and set(texts) == lines


def test_noun_phrases_need_the_prompts(exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert groups  # its resolver is what settings refer to
    monkeypatch.setenv("T2I_COMPBENCH_DIR", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"lacks color_val\.txt, color_train\.txt, .*python -m harness\.fetch t2i_compbench"
    ):
        fetch.noun_phrases(tmp_path / "export.json")
    assert not exported
