"""The program `samples`: the same files whatever interrupted it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mini_world import BENCHMARK, CAPTIONS, CHOSEN, POLICY, ROLLOUT, FakeWorkspace, Interrupted

from harness.evaluation.draw import sample
from harness.samples import SampleFolder
from harness.seeds import derive


def settings(*, rollout: dict[str, Any] | None = None, captions: int = 4, **changes: Any) -> dict[str, Any]:
    evaluated = {
        **CHOSEN,
        "images_per_prompt": 2,
        "batch_size": 3,
        "first_seed": None,
        "rollout": {**ROLLOUT, **(rollout or {})},
    }
    return {
        "policy": POLICY,
        "benchmark": {**BENCHMARK, "captions": list(CAPTIONS[:captions])},
        "evaluation": {**evaluated, **changes},
        "seed": 4,
    }


def draw(
    folder: Path, janus_folder: Path, given: dict[str, Any], stop_at: int | None = None
) -> FakeWorkspace:
    work = FakeWorkspace(folder, stop_at)
    sample(work, given, {"policy": janus_folder.parent})
    return work


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, janus_folder: Path) -> Path:
    return draw(tmp_path_factory.mktemp("whole"), janus_folder, settings()).folder


def test_every_prompt_is_drawn_as_often_as_asked_with_its_own_seeds(whole: Path) -> None:
    rows = SampleFolder(whole).rows()
    wanted = [
        (f"val-{prompt}", derive(4, "evaluation", f"val-{prompt}", image))
        for prompt in range(4)
        for image in range(2)
    ]
    assert [(row.prompt_id, row.seed) for row in rows] == wanted
    assert [row.index for row in rows] == list(range(8))
    assert set(files(whole)) == {"samples.jsonl", *(f"images/{index:05d}.png" for index in range(8))}


@pytest.mark.parametrize("stop_at", [3, 6, 8], ids=["after-one-batch", "after-two", "after-the-last"])
def test_an_interruption_between_batches_changes_nothing(
    whole: Path, janus_folder: Path, tmp_path: Path, stop_at: int
) -> None:
    with pytest.raises(Interrupted):
        draw(tmp_path, janus_folder, settings(), stop_at)
    assert len(SampleFolder(tmp_path).rows()) == stop_at
    work = draw(tmp_path, janus_folder, settings())
    assert files(tmp_path) == files(whole)
    again = [3, 6, 8][stop_at // 3 :] if stop_at < 8 else []
    assert [line["step"] for line in work.lines] == again, "whole batches are not drawn again"


@pytest.mark.parametrize(("rows", "cut"), [(4, 0), (5, 30), (3, 1), (0, 12)], ids=str)
def test_an_interruption_within_a_batch_changes_nothing(
    whole: Path, janus_folder: Path, tmp_path: Path, rows: int, cut: int
) -> None:
    """Complete rows, some bytes of the next row, and more images, the last of them in part, were written."""
    lines = (whole / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "samples.jsonl").write_bytes(b"".join(lines[:rows]) + lines[rows][:cut])
    for index in range(6):
        picture = (whole / "images" / f"{index:05d}.png").read_bytes()
        (tmp_path / "images" / f"{index:05d}.png").write_bytes(picture if index < 5 else picture[:30])
    draw(tmp_path, janus_folder, settings())
    assert files(tmp_path) == files(whole)


def test_the_batch_size_decides_nothing(whole: Path, janus_folder: Path, tmp_path: Path) -> None:
    draw(tmp_path, janus_folder, settings(batch_size=100))
    assert files(tmp_path) == files(whole)


def test_upstreams_single_stream_is_seeded_once_a_batch(janus_folder: Path, tmp_path: Path) -> None:
    draw(tmp_path, janus_folder, settings(rollout={"random": "upstream"}))
    seeds = [row.seed for row in SampleFolder(tmp_path).rows()]
    assert [len(set(seeds[start : start + 3])) for start in (0, 3, 6)] == [1, 1, 1]
    assert len(set(seeds)) == 3


def test_a_split_without_prompts_is_a_clear_error(janus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluation\.split=val: the benchmark has no prompts there"):
        draw(tmp_path, janus_folder, settings(captions=0))


def test_a_first_seed_is_the_same_for_every_prompt(janus_folder: Path, tmp_path: Path) -> None:
    draw(tmp_path, janus_folder, settings(captions=2, images_per_prompt=3, first_seed=42))
    assert [(row.prompt_id, row.number, row.seed) for row in SampleFolder(tmp_path).rows()] == [
        (f"val-{prompt}", number, 42 + number) for prompt in range(2) for number in range(3)
    ]
