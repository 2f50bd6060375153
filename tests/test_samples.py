"""A folder of samples: what is written is read again, and a kill leaves whole rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from harness.chain import parse
from harness.samples import SampleFolder, SampleRow, ScoreRow, sample_row, score_row
from harness.types import Prompt, Sample, Score, Tokens


def sample(number: int, *, forced: bool = False) -> Sample:
    chain = (
        f"A <|obj_start|>kreis № {number} \u2028é<|obj_end|> <|box_start|>(1,2),(3,4)<|box_end|>.\r\nEnd"
        + ("" if forced else "<begin_of_image>")
    )
    return Sample(
        prompt=Prompt(
            id=f"val-{number}",
            text='a "red" кружок\n',
            category="color",
            facts={"n": number, "objects": ["x", None]},
            number=7,
        ),
        chain=parse(chain),
        image=Image.effect_noise((12, 8), number).convert("RGB"),
        tokens=Tokens(prompt=(1,), chain=(2, 3), image=(4,), forced_end=forced),
        logprobs=(-1.0, -2.0, -0.5),
        seed=2**62 + number,
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    samples = [sample(0), sample(1, forced=True), sample(2)]
    folder = SampleFolder(tmp_path)
    folder.append(0, samples[:2])
    folder.append(2, samples[2:])
    again = list(folder.read())
    assert len(again) == 3
    for before, after in zip(samples, again, strict=True):
        assert (after.prompt, after.chain, after.seed) == (before.prompt, before.chain, before.seed)
        assert after.image.mode == "RGB" and after.image.tobytes() == before.image.tobytes()


def test_rows_are_as_the_architecture_page_says(tmp_path: Path) -> None:
    SampleFolder(tmp_path).append(7, [sample(1, forced=True)])
    line, rest = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert rest == ""
    row = json.loads(line)
    assert list(row) == [
        "index",
        "prompt_id",
        "number",
        "prompt",
        "category",
        "facts",
        "seed",
        "chain",
        "faults",
        "truncated",
        "image",
    ]
    assert row["index"] == 7 and row["truncated"] is True
    assert row["faults"] == list(sample(1, forced=True).chain.faults)
    assert (tmp_path / row["image"]).is_file()


def test_an_image_may_lie_elsewhere_and_be_of_any_kind(tmp_path: Path) -> None:
    folder = SampleFolder(tmp_path / "samples")
    folder.append(0, [sample(0)])
    (row,) = folder.rows()
    for mode in ("RGBA", "L", "P", "CMYK", "1"):
        Image.new(mode, (3, 2)).save(tmp_path / "elsewhere.tif")
        again = folder.sample(replace(row, image=str(tmp_path / "elsewhere.tif")))
        assert again.image.mode == mode and again.image.size == (3, 2)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:40], lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: None],
    ids=["head", "half", "empty", "gone"],
)
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, damage) -> None:
    folder = SampleFolder(tmp_path)
    folder.append(0, [sample(0)])
    picture = tmp_path / "images" / "00000.png"
    left = damage(picture.read_bytes())
    picture.unlink() if left is None else picture.write_bytes(left)
    with pytest.raises(ValueError, match=r"images/00000\.png cannot be read as a picture: \w+Error"):
        list(folder.read())


def test_a_folder_without_rows_has_none(tmp_path: Path) -> None:
    assert SampleFolder(tmp_path).rows() == []
    assert list(SampleFolder(tmp_path).read()) == []
    SampleFolder(tmp_path).keep(0)
    assert SampleFolder(tmp_path).rows() == []


def test_a_line_cut_off_anywhere_is_left_out(tmp_path: Path) -> None:
    folder = SampleFolder(tmp_path)
    folder.append(0, [sample(0), sample(1)])
    whole = folder.index.read_bytes()
    first = whole.index(b"\n") + 1
    rows = folder.rows()
    for end in range(first, len(whole)):  # also within the bytes of a letter
        folder.index.write_bytes(whole[:end])
        assert folder.rows() == rows[:1]
    folder.index.write_bytes(whole[: first + 20])
    folder.keep(1)
    assert folder.index.read_bytes() == whole[:first]
    folder.append(1, [sample(1)])
    assert folder.index.read_bytes() == whole


def test_keep_drops_the_rows_after_the_first_ones(tmp_path: Path) -> None:
    folder = SampleFolder(tmp_path)
    folder.append(0, [sample(number) for number in range(4)])
    folder.keep(2)
    assert [row.index for row in folder.rows()] == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "samples.jsonl"]


def test_a_row_of_a_sample_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    row = sample_row(sample(3, forced=True), 7, "images/00007.png")
    assert SampleRow.from_json(json.loads(json.dumps(row.to_json()))) == row
    for key in row.to_json():
        with pytest.raises(KeyError, match=key):
            SampleRow.from_json({name: value for name, value in row.to_json().items() if name != key})


def test_a_row_of_a_user_needs_prompt_image_and_chain_only() -> None:
    row = {"prompt": "a cat", "image": "cat.png", "chain": ""}
    assert SampleRow.from_user_json(row) == SampleRow(prompt="a cat", image="cat.png", chain="")
    known = {**row, "prompt_id": 7, "number": "3", "seed": 5, "other": None}
    assert SampleRow.from_user_json(known) == SampleRow(
        prompt="a cat", image="cat.png", chain="", prompt_id="7", number=3, seed=5
    )
    for key in row:
        with pytest.raises(KeyError, match=key):
            SampleRow.from_user_json({name: value for name, value in row.items() if name != key})


@pytest.mark.parametrize("mirrored", [None, Score(value=0.25)])
def test_a_row_of_a_score_holds_the_mirrored_score_only_where_it_was_checked(mirrored: Score | None) -> None:
    drawn = sample_row(sample(1), 7, "images/00007.png")
    score = Score(value=0.5, evidence={"boxes": [1]})
    unchecked = score_row(drawn, score)
    assert list(unchecked.to_json()) == [
        "index",
        "prompt_id",
        "category",
        "number",
        "seed",
        "value",
        "unscored",
        "evidence",
    ]
    checked = score_row(drawn, score, mirrored, mirror_checked=True)
    assert checked.to_json() == {
        **unchecked.to_json(),
        "mirrored": mirrored.value if mirrored else None,
    }
    for row in (unchecked, checked):
        assert ScoreRow.from_json(json.loads(json.dumps({**row.to_json(), "image": "x.png"}))) == row


def test_null_in_a_row_of_a_user_is_as_missing() -> None:
    row = {"prompt": "a cat", "image": "a.png", "chain": ""}
    nothing = {"prompt_id": None, "number": None, "seed": None, "chain": None}
    assert SampleRow.from_user_json({**row, **nothing}) == SampleRow.from_user_json(row)
    with pytest.raises(ValueError, match="its prompt is null"):
        SampleRow.from_user_json({**row, "prompt": None})
