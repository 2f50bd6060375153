"""The program `scores`: the same files whatever interrupted it, and unscored stays unscored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mini_reds import Reds, write_samples
from mini_world import BENCHMARK, CAPTIONS, CHOSEN, POLICY, ROLLOUT, FakeWorkspace, Interrupted, with_ranks

from harness.evaluation import draw, sample_rows, score
from harness.files import read_rows, write_rows
from harness.samples import SampleFolder
from harness.stages import ranks
from harness.types import Sample, Score


def files(folder: Path) -> dict[str, bytes]:
    """The files of the result; `parts/` is what an interrupted attempt resumes from."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {name.as_posix(): (folder / name).read_bytes() for name in names if name.parts[0] != "parts"}


def test_scores_keep_their_evidence_and_unscored_stays_unscored(janus_folder: Path, tmp_path: Path) -> None:
    evaluation = {
        **CHOSEN,
        "images_per_prompt": 2,
        "batch_size": 8,
        "first_seed": None,
        "rollout": ROLLOUT,
    }
    benchmark = {**BENCHMARK, "captions": list(CAPTIONS[:4])}
    whole = FakeWorkspace(tmp_path / "samples").folder
    settings = {"policy": POLICY, "benchmark": benchmark, "evaluation": evaluation, "seed": 4}
    draw.sample(FakeWorkspace(whole), settings, {"policy": janus_folder.parent})
    tmp_path /= "scores"
    work = FakeWorkspace(tmp_path)
    score.score(work, {"benchmark": BENCHMARK}, {"samples": whole})
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    drawn = SampleFolder(whole).rows()
    for row, one in zip(rows, drawn, strict=True):
        assert list(row) == [
            "index",
            "prompt_id",
            "category",
            "number",
            "seed",
            "value",
            "unscored",
            "evidence",
        ]
        assert all(
            row[name] == getattr(one, name) for name in ("index", "prompt_id", "category", "number", "seed")
        )
        if one.prompt == "x":
            assert (row["value"], row["unscored"], row["evidence"]) == (None, "x", {})
        else:
            assert 0 <= row["value"] <= 1 and row["unscored"] is None and row["evidence"] == {"n": 1}
    assert work.lines[-1] == {"step": 8, "total": 8}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metric.json", "parts", "scores.jsonl"]
    assert json.loads((tmp_path / "metric.json").read_text()) == {}, (
        "this benchmark says nothing of its metrics"
    )


def judge(
    folder: Path, samples: Path, check: str | None = None, stop_at: int | None = None, **given: Any
) -> FakeWorkspace:
    Reds.seen.clear()
    work = FakeWorkspace(folder, stop_at)
    score.score(
        work, {"benchmark": {"_target_": "mini_reds.Reds", **given}, "check": check}, {"samples": samples}
    )
    return work


def test_scoring_goes_on_where_it_was_stopped_and_scores_no_image_twice(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", each=50)
    work = judge(tmp_path / "whole", samples, "mirror")
    assert [line["step"] for line in work.lines] == [64, 128, 150] and len(Reds.seen) == 150
    with pytest.raises(Interrupted):
        judge(tmp_path / "cut", samples, "mirror", stop_at=128)
    with (tmp_path / "cut" / "parts" / "0.jsonl").open("a") as file:
        file.write('{"index": 128, "prompt_')
    judge(tmp_path / "cut", samples, "mirror")
    assert Reds.seen == [f"c:{number}" for number in range(28, 50)]
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert set(files(tmp_path / "whole")) == {"scores.jsonl", "metric.json", "official/answers.json"}


def test_an_error_in_one_block_loses_no_other_blocks_rows(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", each=50)
    with pytest.raises(LookupError, match="the model is gone"):
        judge(tmp_path / "work", samples, fail_at="b:40")
    assert len(Reds.seen) == 64
    judge(tmp_path / "work", samples)
    assert Reds.seen[0] == "b:14" and len(Reds.seen) == 86
    assert len(read_rows(tmp_path / "work" / "scores.jsonl")) == 150


def test_a_kill_after_the_last_image_scores_nothing_again(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", each=3)
    judge(tmp_path / "work", samples)
    before = files(tmp_path / "work")
    (tmp_path / "work" / "metric.json").unlink()
    judge(tmp_path / "work", samples)
    assert files(tmp_path / "work") == before and not Reds.seen


def test_rows_of_other_images_are_refused(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", each=1)
    (tmp_path / "work" / "parts").mkdir(parents=True)
    (tmp_path / "work" / "parts" / "0.jsonl").write_text('{"index": 7}\n')
    with pytest.raises(ValueError, match=r"not those of 3 images: delete it"):
        judge(tmp_path / "work", samples)


def test_an_image_that_went_away_or_broke_is_unscored_with_the_reason(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", each=2)
    (samples / "images" / "00001.png").unlink()
    (samples / "images" / "00004.png").write_bytes((samples / "images" / "00004.png").read_bytes()[:30])
    judge(tmp_path / "work", samples, "mirror")
    found = read_rows(tmp_path / "work" / "scores.jsonl")
    assert [row["value"] is None for row in found] == [False, True, False, False, True, False]
    assert "00001.png cannot be read as a picture: FileNotFoundError" in found[1]["unscored"]
    assert "00004.png cannot be read as a picture" in found[4]["unscored"]
    assert [row["mirrored"] for row in found] == [pytest.approx(100 / 255 - 0.1), *[None] * 5]


def test_images_are_scored_so_many_pixels_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = write_samples(tmp_path / "samples", each=4)
    judge(tmp_path / "whole", samples)
    sizes = []

    def counted(self: Reds, given: list[Sample]) -> list[Score]:
        sizes.append(len(given))
        return plain(self, given)

    plain = Reds.score
    monkeypatch.setattr(Reds, "score", counted)
    monkeypatch.setattr(sample_rows, "PIXELS", 16 * 5)
    judge(tmp_path / "bounded", samples)
    assert sizes == [5, 5, 2]
    assert files(tmp_path / "bounded") == files(tmp_path / "whole")


def test_what_is_to_be_known_of_the_scores_stands_beside_them(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", each=2, names="ab")
    (samples / "protocol.json").write_text(
        json.dumps({"labels": {"color": ["partial: 2 of 3 prompts"]}, "notes": ["guidance 5"]})
    )
    judge(tmp_path / "work", samples)
    expected = {
        "name": "redness",
        "labels": ["mode=plain", "partial: 2 of 3 prompts"],
        "notes": ["guidance 5"],
        "mirror": None,
    }
    assert json.loads((tmp_path / "work" / "metric.json").read_text()) == {"color": expected}


@pytest.mark.parametrize(
    ("names", "drop", "verdict", "notes"),
    [
        (["a1", "a2", "b"], 0.1, "falls", []),
        (
            ["a1", "a2", "b"],
            0.0,
            "blind",
            ["blind to left and right: mirrored images score 0.39, these 0.39"],
        ),
        (["a1", "b"], 0.1, "cannot tell", []),
    ],
)
def test_the_mirror_check_stands_beside_the_scores(
    tmp_path: Path, names: list[str], drop: float, verdict: str, notes: list[str]
) -> None:
    judge(tmp_path / "work", write_samples(tmp_path / "samples", each=2, names=names), "mirror", drop=drop)
    found = json.loads((tmp_path / "work" / "metric.json").read_text())["color"]
    assert (found["mirror"]["verdict"], found["mirror"]["images"], found["notes"]) == (
        verdict,
        2 * (len(names) - 1),
        notes,
    )


def test_two_processes_write_what_one_writes_also_after_a_kill(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", each=90)
    given = {"benchmark": {"_target_": "mini_reds.Reds"}, "check": "mirror"}
    one, two = FakeWorkspace(tmp_path / "one"), FakeWorkspace(tmp_path / "two")
    score.score(one, given, {"samples": samples})
    (two.folder / "parts").mkdir()
    write_rows(two.folder / "parts" / "0.jsonl", read_rows(one.folder / "scores.jsonl")[:70])
    Reds.seen.clear()
    work = ranks.ProgramCall(
        program="harness.evaluation.score.score",
        settings=given,
        inputs={"samples": str(samples)},
        folder=str(two.folder),
    )
    with with_ranks(work, 2):
        score.score(two, given, {"samples": samples})
    assert files(one.folder) == files(two.folder)
    assert len(Reds.seen) == 64 + 14, "of 200 images, the other process scored those of its two blocks"


class Brings(Reds):
    """A third-party benchmark that returns `given` for any samples."""

    given: Any = None

    def score(self, samples: Sequence[Sample]) -> Any:
        return self.given

    def mirrored(self, samples: Sequence[Sample]) -> Any:
        return self.given


def brought(folder: Path, samples: Path, given: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(Brings, "given", given)
    settings = {"benchmark": {"_target_": f"{__name__}.Brings"}, "check": "mirror"}
    score.score(FakeWorkspace(folder), settings, {"samples": samples})
    return read_rows(folder / "scores.jsonl")


def test_numbers_of_a_benchmark_become_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = write_samples(tmp_path / "samples", each=1)
    given = [np.float32(0.5), None, Score(value=1, evidence={"n": np.int64(2)})]
    rows = brought(tmp_path / "work", samples, given, monkeypatch)
    assert [row["value"] for row in rows] == [0.5, None, 1.0]
    assert [row["mirrored"] for row in rows] == [0.5, None, 1.0]
    assert rows[1]["unscored"] == "benchmark Brings gave None, without a reason"
    assert rows[2]["evidence"] == {"n": 2}


@pytest.mark.parametrize(
    "given",
    [
        None,
        0.5,
        [0.5] * 2,
        [0.5] * 4,
        [0.5, 0.5, float("nan")],
        [0.5, 0.5, 1.5],
        [0.5, 0.5, "good"],
        [0.5, 0.5, Score(value=0.5, evidence={"file": Path("x")})],
    ],
)
def test_what_is_no_score_per_image_names_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any
) -> None:
    samples = write_samples(tmp_path / "samples", each=1)
    with pytest.raises(ValueError, match=r"^benchmark Brings"):
        brought(tmp_path / "work", samples, given, monkeypatch)
