"""Images as GoT-R1's inference script leaves them: one folder per prompt, with images and their chain."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from mini_compbench import write_pictures
from mini_pictures import COLOR, SHAPE, config, made, planned, protocol, samples
from PIL import Image

from harness.chain import format_chain
from harness.types import Box, PlannedObject

UNRECORDED = ["guidance not recorded", "prompt rewriting not recorded"]


def chain_of(text: str) -> str:
    return format_chain("A ", PlannedObject(name=text, box=Box(1, 2, 3, 4)), ".")


def write(folder: Path, prompts: list[str], *, each: int = 2, chains: bool = True) -> Path:
    for text in prompts:
        own = folder / text
        own.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            pixels = Random(f"{text}{number}").randbytes(32 * 32 * 3)
            Image.frombytes("RGB", (32, 32), pixels).save(own / f"generated_image_{number}.jpg")
        if chains:
            (own / "reasoning_chain.txt").write_text(chain_of(text), encoding="utf-8")
    return folder


def refusal(cell: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as caught:
        planned(cell)
    return str(caught.value)


def test_every_prompt_has_its_images_in_order_and_its_chain(tmp_path: Path) -> None:
    folder = write(tmp_path / "made", [*reversed(COLOR)], each=12)
    drawn = samples(tmp_path / "work", config(folder, {"color": COLOR}, images=12))
    assert [(sample.prompt.text, sample.prompt.number) for sample in drawn] == [
        (text, number) for text in COLOR for number in range(12)
    ]
    assert {sample.chain.text for sample in drawn if sample.prompt.text == COLOR[1]} == {chain_of(COLOR[1])}
    assert all(len(sample.chain.objects) == 1 and not sample.chain.faults for sample in drawn)
    first = tmp_path / "made" / COLOR[0]
    index = (tmp_path / "work" / "samples.jsonl").read_text()
    assert index.index(str(first / "generated_image_2.jpg")) < index.index(
        str(first / "generated_image_10.jpg")
    )
    assert protocol(tmp_path / "work") == {"labels": {}, "notes": UNRECORDED}


def test_categories_in_folders_of_their_own_or_together(tmp_path: Path) -> None:
    write(tmp_path / "apart" / "color", COLOR)
    write(tmp_path / "apart" / "shape", SHAPE)
    write(tmp_path / "together", [*COLOR, *SHAPE])
    write(tmp_path / "half" / "color", COLOR)
    write(tmp_path / "half", SHAPE)
    for name in ("apart", "together", "half"):
        drawn = samples(tmp_path / f"{name}_work", config(tmp_path / name))
        assert [sample.prompt.text for sample in drawn] == [text for text in COLOR + SHAPE for _ in range(2)]


def test_a_prompt_with_a_slash_is_a_folder_in_a_folder(tmp_path: Path) -> None:
    prompts = ["a black/white cat", "a black", "color"]
    folder = write(tmp_path / "made", prompts)
    drawn = samples(tmp_path / "work", config(folder, {"color": prompts}))
    assert [sample.prompt.text for sample in drawn] == [text for text in prompts for _ in range(2)]


def test_images_without_any_chain_have_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "made", COLOR, chains=False)
    assert {one.chain.text for one in samples(tmp_path / "work", config(folder, {"color": COLOR}))} == {""}


def test_what_is_missing_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "made", [*COLOR, "a stranger"])
    (folder / COLOR[0] / "generated_image_1.jpg").unlink()
    (folder / COLOR[1] / "reasoning_chain.txt").unlink()
    shutil.rmtree(folder / COLOR[2])
    lines = refusal(config(folder, {"color": COLOR})).splitlines()
    for line in (
        f"  color/0000 '{COLOR[0]}': 1 of 2",
        f"  color/0002 '{COLOR[2]}': 0 of 2",
        f"  {COLOR[1]}/reasoning_chain.txt",
        "  'a stranger' (2 pictures)",
    ):
        assert any(found.startswith(line) for found in lines), line


def test_other_files_are_noted_and_other_formats_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "made", COLOR)
    (folder / COLOR[0] / "grid.jpg").write_bytes(b"")
    made(tmp_path / "work", config(folder, {"color": COLOR}))
    [note] = [note for note in protocol(tmp_path / "work")["notes"] if note not in UNRECORDED]
    assert note.startswith("other files beside the pictures: 1, namely")
    (folder / COLOR[0] / "generated_image_2.bmp").write_bytes(b"")
    assert "pictures of another format: 1" in refusal(config(folder, {"color": COLOR}))


def test_an_edited_chain_or_a_new_image_changes_the_key(tmp_path: Path) -> None:
    folder = write(tmp_path / "made", COLOR)
    sources = planned(config(folder, {"color": COLOR})).external
    assert sorted(sources) == sorted(str(folder / text) for text in COLOR)


def test_the_folder_of_one_prompt_is_not_the_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "made", COLOR)
    assert "Give the folder above: this one holds the images of one prompt" in refusal(
        config(folder / COLOR[0], {"color": COLOR})
    )


@pytest.mark.parametrize("name", ["Color", "COLOR", "colors", "color "])
@pytest.mark.parametrize("layout", ["samples", "prompts"])
def test_a_folder_that_is_almost_a_category_is_named(tmp_path: Path, name: str, layout: str) -> None:
    folder = tmp_path / "made"
    if layout == "samples":
        write_pictures(folder / name, COLOR, each=2)
    else:
        write(folder / name, COLOR)
    write_pictures(folder / "shape", SHAPE, each=2)
    said = refusal(config(folder))
    assert re.search(rf"{re.escape(name)}/(: should it be color/| where color/ is wanted)", said)


def test_a_common_folder_beside_almost_a_category(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_pictures(folder / "Color", COLOR, each=2)
    write_pictures(folder, SHAPE, each=2)
    assert "  Color/ where color/ is wanted\n  -> rename them" in refusal(config(folder))
    write_pictures(folder, COLOR, each=2, first=6)
    assert len(samples(tmp_path / "work", config(folder))) == 12, "nothing is missing"


def test_a_folder_that_is_almost_samples_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made" / "color", COLOR, each=2)
    (tmp_path / "made" / "color" / "samples").rename(tmp_path / "made" / "color" / "Samples")
    assert "There is color/Samples/: should it be samples/?" in refusal(
        config(tmp_path / "made", {"color": COLOR})
    )
