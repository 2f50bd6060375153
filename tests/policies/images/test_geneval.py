"""Images as GenEval's generator leaves them: one folder per prompt, with the prompt in its metadata."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mini_geneval_scored import EACH, PROMPTS, write_pictures
from mini_pictures import config, made, planned, protocol
from PIL import Image

from harness.samples import SampleFolder, SampleRow
from harness.stages.keys import key

TEXTS: dict[str, list[str]] = {}
for one in PROMPTS:
    TEXTS.setdefault(one["tag"], []).append(one["prompt"])
UNRECORDED = ["guidance not recorded", "prompt rewriting not recorded"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "made")
    return tmp_path / "made"


def cell(folder: Path, **settings: Any) -> dict[str, Any]:
    return config(folder, TEXTS, images=EACH, **settings)


def rows(work: Path, cell: dict[str, Any]) -> list[SampleRow]:
    return SampleFolder(made(work, cell)).rows()


def refusal(cell: dict[str, Any], work: Path | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        made(work, cell) if work else planned(cell)
    return str(caught.value)


def test_every_prompt_gets_the_images_of_its_folder_in_order(folder: Path, tmp_path: Path) -> None:
    found = rows(tmp_path / "work", cell(folder))
    assert [row.prompt for row in found] == [
        text for texts in TEXTS.values() for text in texts for _ in range(EACH)
    ]
    assert [row.number for row in found] == list(range(EACH)) * len(PROMPTS)
    metadata = {one["prompt"]: place for place, one in enumerate(PROMPTS)}
    assert [row.image for row in found] == [
        str(folder / f"{metadata[row.prompt]:05d}" / "samples" / f"{row.number:05d}.png") for row in found
    ]
    assert protocol(tmp_path / "work") == {"labels": {}, "notes": UNRECORDED}, (
        "the grid beside samples/ is nobody's picture"
    )


def test_the_metadata_decides_and_not_the_folders_number(folder: Path, tmp_path: Path) -> None:
    (folder / "00000").rename(folder / "17")
    found = rows(tmp_path / "work", cell(folder))
    assert [row.image for row in found[:EACH]] == [
        str(folder / "17" / "samples" / f"{number:05d}.png") for number in range(EACH)
    ]


def test_images_stand_in_the_order_of_their_numbers(folder: Path, tmp_path: Path) -> None:
    own = folder / "00000" / "samples"
    for number, name in enumerate(("9", "10", "011", "100")):
        (own / f"{number:05d}.png").rename(own / f"{name}.png")
    found = rows(tmp_path / "work", cell(folder))
    assert [Path(row.image).name for row in found[:EACH]] == ["9.png", "10.png", "011.png", "100.png"]


def test_other_names_are_left_out_and_noted(folder: Path, tmp_path: Path) -> None:
    own = folder / "00001" / "samples"
    for name in ("00004.jpg", "a00005.png", "00006.PNG", "00007.png.part", "thumbnail.png"):
        (own / name).write_bytes(b"")
    assert len(rows(tmp_path / "work", cell(folder))) == EACH * len(PROMPTS)
    [note] = [note for note in protocol(tmp_path / "work")["notes"] if note not in UNRECORDED]
    assert note.startswith("other files beside the pictures: 5, first 00001/samples/00004.jpg; left out")


def test_too_few_too_many_and_strangers_are_found_when_planning(folder: Path) -> None:
    (folder / "00000" / "samples" / "00003.png").unlink()
    shutil.rmtree(folder / "00006" / "samples")
    shutil.copy(folder / "00001" / "samples" / "00000.png", folder / "00001" / "samples" / "00004.png")
    (folder / "00002" / "metadata.jsonl").write_text(json.dumps({"prompt": "a photo of two dog"}))
    told = refusal(cell(folder)).splitlines()
    assert told == [
        f"policies.folder={folder}: the image set cannot be scored",
        "prompts that lack pictures: 3",
        "  single_object/0000 'a photo of a bench': 3 of 4",
        "  counting/0000 'a photo of two dogs': 0 of 4",
        "  color_attr/0000 'a photo of a red bench and a blue dog': 0 of 4",
        "  -> generate these images, or score only the complete prompts with policies.allow_partial=true",
        "prompts with too many pictures: 1",
        "  two_object/0000 'a photo of a bench and a dog': 5 of 4",
        told[8],
        "prompts that do not belong: 1",
        "  'a photo of two dog' (4 pictures), close to 'a photo of two dogs'",
        told[11],
    ]


def test_a_folder_copied_to_another_number_is_found(folder: Path) -> None:
    shutil.copytree(folder / "00003", folder / "00553")
    told = refusal(cell(folder))
    assert "colors/0000 'a photo of a red dog': 8 of 4" in told
    assert "0 of 'a photo of a red dog': 00003/samples/00000.png and 00553/samples/00000.png" in told


def test_copies_placeholders_and_damaged_images_are_found(folder: Path, tmp_path: Path) -> None:
    own = folder / "00004" / "samples"
    shutil.copy(own / "00000.png", own / "00001.png")
    (own / "00002.png").write_bytes((own / "00002.png").read_bytes()[:60])
    Image.new("RGB", (8, 8)).save(own / "00003.png")
    told = refusal(cell(folder), tmp_path / "work")
    for line in (
        "pictures with equal bytes: 1\n  00004/samples/00000.png = 00004/samples/00001.png",
        "unreadable pictures: 1\n  00004/samples/00002.png",
        "pictures under 16 pixels a side: 1\n  00004/samples/00003.png: 8 x 8",
    ):
        assert line in told


def test_the_complete_prompts_are_scored_alone_where_that_is_allowed(folder: Path, tmp_path: Path) -> None:
    (folder / "00005" / "samples" / "00002.png").unlink()
    assert len(rows(tmp_path / "work", cell(folder, allow_partial=True))) == EACH * (len(PROMPTS) - 1)
    assert protocol(tmp_path / "work")["labels"] == {"position": ["partial: 1 of 2 prompts"]}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"tag": "counting"}',
        '{"prompt": "one"}\n{"prompt": "two"}',
        '{"prompt": "caf\udce9"}',
    ],
)
def test_metadata_that_names_no_prompt_is_refused(folder: Path, text: str | None) -> None:
    file = folder / "00002" / "metadata.jsonl"
    file.unlink()
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    told = refusal(cell(folder))
    assert (
        told.startswith(f"policies.folder={folder}: {file} must hold the line of the prompt file")
        and '{"prompt": ...}' in told
    )


def test_contents_count_and_what_lies_beside_them_does_not(folder: Path) -> None:
    before = key(planned(cell(folder)))
    (folder / "00000" / "grid.png").unlink()
    (folder / "results.jsonl").write_text("")
    assert key(planned(cell(folder))) == before
    Image.new("RGB", (64, 48)).save(folder / "00000" / "samples" / "00000.png")
    assert key(planned(cell(folder))) != before


def rewrite(folder: Path, places: range, **changes: Any) -> None:
    for place in places:
        line = {**PROMPTS[place], "prompt": f"A vivid, detailed photo. {PROMPTS[place]['prompt']}", **changes}
        (folder / f"{place:05d}" / "metadata.jsonl").write_text(json.dumps(line))


def known(folder: Path, *tags: str, **settings: Any) -> dict[str, Any]:
    """A cell whose benchmark knows the objects of its prompts."""
    facts = {one["prompt"]: one for one in PROMPTS}
    made = cell(folder, **settings)
    benchmark = {**made["benchmarks"], "_target_": "mini_prompts.KnownFacts", "facts": facts}
    return {**made, "benchmarks": {**benchmark, "categories": list(tags or TEXTS)}}


def test_a_rewritten_prompt_is_known_by_its_tag_and_objects(folder: Path, tmp_path: Path) -> None:
    before = rows(tmp_path / "before", known(folder))
    rewrite(folder, range(1, len(PROMPTS)), extra="a key of another program")
    assert rows(tmp_path / "work", known(folder)) == before
    labels = protocol(tmp_path / "work")["labels"]
    assert labels == {
        **{tag: ["rewritten prompts: 1 of 1"] for tag in TEXTS if tag != "single_object"},
        "position": ["rewritten prompts: 2 of 2"],
    }


def test_rewritten_prompts_of_other_categories_are_left_alone(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, range(len(PROMPTS)))
    found = rows(tmp_path / "work", known(folder, "colors"))
    assert [row.prompt for row in found] == ["a photo of a red dog"] * EACH


def test_a_rewritten_prompt_with_other_objects_does_not_belong(folder: Path) -> None:
    rewrite(folder, range(3, 4), include=[{"class": "dog", "count": 1, "color": "blue"}])
    told = refusal(known(folder))
    text = "'A vivid, detailed photo. a photo of a red dog' (4 pictures)"
    assert (
        f"{text}, nor is it a rewritten one: its metadata.jsonl has the tag and objects of no prompt" in told
    )
