"""The checks of an image set: each kind of finding, partial sets, and that no incomplete set is accepted."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn_from
from hypothesis import settings as of_hypothesis
from hypothesis import strategies as st
from mini_compbench import write_pictures
from mini_pictures import COLOR, SHAPE, config, made, planned, protocol, samples
from PIL import Image

from harness.samples import SampleFolder

UNRECORDED = ["guidance not recorded", "prompt rewriting not recorded"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of each of three color prompts."""
    write_pictures(tmp_path / "made", COLOR, each=2)
    return tmp_path / "made"


def cell(folder: Path, **settings: Any) -> dict[str, Any]:
    return config(folder, {"color": COLOR}, **settings)


def file(folder: Path, prompt: int, picture: int) -> Path:
    return folder / "samples" / f"{COLOR[prompt]}_{prompt * 2 + picture:06d}.png"


def refusal(cell: dict[str, Any], work: Path | None = None) -> list[str]:
    """The lines of the refusal: when the cell is planned, or within the stage if a folder for it is given."""
    if work is None:
        with pytest.raises(ValueError) as caught:
            planned(cell)
    else:
        planned(cell)
        with pytest.raises(ValueError) as caught:
            made(work, cell)
        assert not (work / "samples.jsonl").exists()
    first, *rest = str(caught.value).splitlines()
    assert first == f"policies.folder={cell['policies']['folder']}: the image set cannot be scored"
    if work is not None:
        assert rest.pop() == f"full list: {work / 'lint.txt'}"
        assert (work / "lint.txt").read_text(encoding="utf-8").splitlines()[: len(rest)] == rest
    return rest


def png(width: int, height: int) -> bytes:
    """A file that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


# What names and numbers tell.


def test_prompts_that_lack_images_and_what_they_may_have_been_called(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, SHAPE[0], "val shape number 1,"], each=2)
    file(tmp_path / "made", 1, 1).unlink()
    assert refusal(config(tmp_path / "made")) == [
        "prompts that lack pictures: 3",
        "  color/0001 'val color number 1': 1 of 2",
        "  shape/0001 'val shape number 1': 0 of 2",
        "  shape/0002 'val shape number 2': 0 of 2",
        "  -> generate these images, or score only the complete prompts with policies.allow_partial=true",
        "prompts that do not belong: 1",
        "  'val shape number 1,' (2 pictures), close to 'val shape number 1'",
        "  -> name the images by the prompts as the prompt file spells them, or remove them",
    ]


def test_the_first_ten_of_many_are_named_and_what_cannot_be_a_file_name(tmp_path: Path) -> None:
    prompts = ["a dog/cat", "x" * 250, *(f"a {number}" for number in range(20))]
    write_pictures(tmp_path / "made", ["a 0"], each=1)
    lines = refusal(config(tmp_path / "made", {"color": prompts}, images=1))
    assert (
        lines[0] == "prompts that lack pictures: 21" and len(lines) == 1 + 10 + 1 + 1 and lines[11] == "  ..."
    )
    assert [line.endswith("(no file can be named so: give it in samples.jsonl)") for line in lines[1:5]] == [
        True,
        True,
        False,
        False,
    ]


def test_too_many_images_as_of_a_folder_copied_twice(folder: Path) -> None:
    write_pictures(folder, COLOR, each=2, first=6)
    lines = refusal(cell(folder))
    assert lines[:2] == ["prompts with too many pictures: 3", "  color/0000 'val color number 0': 4 of 2"]
    assert "was a folder copied twice?" in lines[-1]


def test_images_without_prompt_and_number(folder: Path) -> None:
    for name in ("grid.png", "00001.jpg", "a dog_12b.PNG"):
        shutil.copy(file(folder, 0, 0), folder / "samples" / name)
    lines = refusal(cell(folder))
    assert lines[0] == "pictures whose names hold no prompt and number: 3"
    assert lines[1:4] == ["  samples/00001.jpg", "  samples/a dog_12b.PNG", "  samples/grid.png"]


def test_two_images_of_one_number(folder: Path) -> None:
    file(folder, 0, 1).rename(folder / "samples" / f"{COLOR[0]}_0.PNG")
    lines = refusal(cell(folder))
    assert lines[:2] == [
        "numbers that a prompt has twice: 1",
        f"  0 of '{COLOR[0]}': samples/{COLOR[0]}_0.PNG and samples/{COLOR[0]}_000000.png",
    ]


def test_prompts_that_do_not_belong_are_told_their_category(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made" / "color", [*COLOR, SHAPE[1], "something else entirely"], each=2)
    write_pictures(tmp_path / "made" / "shape", SHAPE, each=2)
    assert refusal(config(tmp_path / "made"))[:3] == [
        "prompts that do not belong: 2",
        "  'something else entirely' (2 pictures)",
        "  'val shape number 1' (2 pictures), a prompt of shape",
    ]


@pytest.mark.parametrize("benchmark", ["Known", "Given"])
def test_a_quick_look_is_not_told_of_the_prompts_it_leaves_out(
    folder: Path, tmp_path: Path, benchmark: str
) -> None:
    """If the benchmark says what they are."""
    quick = cell(folder, n_prompts=1)
    quick["benchmarks"]["_target_"] = f"mini_prompts.{benchmark}"
    if benchmark == "Known":
        assert [sample.prompt.text for sample in samples(tmp_path / "work", quick)] == [COLOR[0]] * 2
    else:
        assert refusal(quick)[0] == "prompts that do not belong: 2"


@pytest.mark.parametrize("own", [False, True])
def test_categories_that_are_not_asked_for_may_lie_in_a_common_folder(tmp_path: Path, own: bool) -> None:
    write_pictures(tmp_path / "made" / "color" if own else tmp_path / "made", [*COLOR, *SHAPE], each=2)
    asked = config(tmp_path / "made")
    asked["benchmarks"]["categories"] = ["color"]
    if own:
        assert refusal(asked)[:2] == [
            "prompts that do not belong: 3",
            "  'val shape number 0' (2 pictures), a prompt of shape",
        ]
    else:
        assert [sample.prompt.category for sample in samples(tmp_path / "work", asked)] == ["color"] * 6


def test_images_of_a_format_that_is_not_read(folder: Path) -> None:
    file(folder, 2, 0).rename(file(folder, 2, 0).with_suffix(".gif"))
    lines = refusal(cell(folder))
    assert lines[3:5] == ["pictures of another format: 1", f"  samples/{COLOR[2]}_000004.gif"]
    assert lines[0] == "prompts that lack pictures: 1"


def test_chains_that_are_missing(folder: Path) -> None:
    (folder / "chains").mkdir()
    for path in sorted((folder / "samples").iterdir())[:-1]:
        (folder / "chains" / f"{path.stem}.txt").touch()
    assert refusal(cell(folder))[:2] == [
        "pictures whose chains are missing: 1",
        f"  chains/{COLOR[2]}_000005.txt",
    ]


def test_files_that_an_index_names_and_that_are_not_there(tmp_path: Path) -> None:
    rows = [{"prompt": "a dog", "image": f"images/{number}.png", "chain": ""} for number in range(2)]
    (tmp_path / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    lines = refusal(config(tmp_path, {"color": ["a dog"]}))
    assert lines[:3] == [
        "files that samples.jsonl names and that are not there: 2",
        "  images/0.png",
        "  images/1.png",
    ]


# What a look into the files tells.


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) - 30], lambda data: b"<html>not found</html>", lambda data: b""]
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_unreadable_images(
    folder: Path, tmp_path: Path, damage: Callable[[bytes], bytes], suffix: str
) -> None:
    for prompt in range(3):
        for picture in range(2):
            file(folder, prompt, picture).unlink()
            Image.effect_noise((64, 64), 90).convert("RGB").save(
                file(folder, prompt, picture).with_suffix(suffix), quality=95
            )
    broken = file(folder, 1, 0).with_suffix(suffix)
    broken.write_bytes(damage(broken.read_bytes()))
    lines = refusal(cell(folder), tmp_path / "work")
    assert lines[0] == "unreadable pictures: 1" and lines[1].startswith(f"  samples/{broken.name}: ")
    assert lines[2:] == ["  -> generate them again"]


def test_unreadable_chains(folder: Path, tmp_path: Path) -> None:
    (folder / "chains").mkdir()
    for path in (folder / "samples").iterdir():
        (folder / "chains" / f"{path.stem}.txt").write_bytes(
            b"A caf\xe9" if path.stem.endswith("3") else b"A cup."
        )
    lines = refusal(cell(folder), tmp_path / "work")
    assert lines[0] == "unreadable chains: 1" and lines[1].startswith(
        f"  chains/{COLOR[1]}_000003.txt: 'utf-8' codec"
    )


@pytest.mark.parametrize("size", [(1, 1), (15, 64), (64, 15)])
def test_tiny_images(folder: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(file(folder, 0, 0))
    lines = refusal(cell(folder), tmp_path / "work")
    assert lines[:2] == [
        "pictures under 16 pixels a side: 1",
        f"  samples/{file(folder, 0, 0).name}: {size[0]} x {size[1]}",
    ]


@pytest.mark.parametrize("size", [(8193, 32), (32, 8193), (10_000, 10_000), (20_000, 20_000)])
def test_large_images_are_known_by_their_header(folder: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    """The latter two are what PIL calls decompression bombs."""
    file(folder, 2, 1).write_bytes(png(*size))
    lines = refusal(cell(folder), tmp_path / "work")
    assert lines[0] == "pictures over 8192 pixels a side: 1" and lines[1].startswith(
        f"  samples/{file(folder, 2, 1).name}: "
    )


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_animated_images(folder: Path, tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (32, 32), (number, 9, 9)) for number in (0, 90, 180)]
    file(folder, 0, 1).unlink()
    frames[0].save(file(folder, 0, 1).with_suffix(suffix), save_all=True, append_images=frames[1:])
    lines = refusal(cell(folder), tmp_path / "work")
    assert lines[:2] == [
        "pictures with several frames: 1",
        f"  samples/{file(folder, 0, 1).with_suffix(suffix).name}: 3 frames",
    ]


def test_images_of_another_size_than_most(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 32)).save(file(folder, 0, 1))
    lines = refusal(cell(folder), tmp_path / "work")
    assert lines[:2] == [
        "pictures of another size than most: 1",
        f"  samples/{file(folder, 0, 1).name}: 64 x 32, most are 32 x 32",
    ]
    assert [sample.image.size for sample in samples(tmp_path / "mixed", cell(folder, mixed_sizes=True))][
        :3
    ] == [
        (32, 32),
        (64, 32),
        (32, 32),
    ]


def test_sizes_are_those_of_a_set_and_sets_may_differ(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made" / "color", COLOR, each=2)
    write_pictures(tmp_path / "made" / "shape", SHAPE, each=2)
    for path in (tmp_path / "made" / "shape" / "samples").iterdir():
        with Image.open(path) as image:
            image.resize((48, 40)).save(path)
    assert {sample.image.size for sample in samples(tmp_path / "work", config(tmp_path / "made"))} == {
        (32, 32),
        (48, 40),
    }


def test_equal_images_of_one_prompt_and_of_two(folder: Path, tmp_path: Path) -> None:
    shutil.copy(file(folder, 0, 0), file(folder, 0, 1))
    shutil.copy(file(folder, 1, 0), file(folder, 2, 1))
    lines = refusal(cell(folder), tmp_path / "work")
    assert lines[:3] == [
        "pictures with equal bytes: 2",
        f"  samples/{COLOR[0]}_000000.png = samples/{COLOR[0]}_000001.png",
        f"  samples/{COLOR[1]}_000002.png = samples/{COLOR[2]}_000005.png",
    ]


def test_many_equal_images_are_one_line(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "samples").iterdir():
        Image.new("RGB", (32, 32)).save(path)
    assert refusal(cell(folder), tmp_path / "work")[1].endswith(" = 3 more")


def test_one_file_for_two_rows_of_an_index(folder: Path, tmp_path: Path) -> None:
    name = f"samples/{file(folder, 0, 0).name}"
    rows = [{"prompt": text, "image": name, "chain": ""} for text in ("a dog", "a cat")]
    (folder / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    lines = refusal(config(folder, {"color": ["a dog", "a cat"]}, images=1), tmp_path / "work")
    assert lines[:2] == ["pictures with equal bytes: 1", f"  {name} = {name}"]


def test_all_kinds_are_told_at_once(folder: Path, tmp_path: Path) -> None:
    file(folder, 0, 0).write_bytes(b"")
    Image.new("RGB", (1, 1)).save(file(folder, 1, 0))
    Image.new("RGB", (64, 64)).save(file(folder, 2, 0))
    kinds = [line for line in refusal(cell(folder), tmp_path / "work") if not line.startswith(" ")]
    assert kinds == [
        "unreadable pictures: 1",
        "pictures under 16 pixels a side: 1",
        "pictures of another size than most: 1",
    ]


# What is recorded and scored all the same.


def test_numbers_that_do_not_follow_the_prompt_file(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [COLOR[1], COLOR[0], COLOR[2]], each=2)
    drawn = samples(tmp_path / "work", cell(tmp_path / "made"))
    assert [sample.prompt.text for sample in drawn] == [text for text in COLOR for _ in range(2)]
    assert drawn[0].image.getpixel((0, 0))[0] == 2  # type: ignore[index]
    (note,) = protocol(tmp_path / "work")["notes"][2:]
    assert note.startswith(
        "categories whose numbers do not follow the prompt file: 1, namely color: the picture at place 0 is"
        " of 'val color number 1'"
    )


def test_numbers_that_begin_anew_with_every_prompt(tmp_path: Path) -> None:
    for text in COLOR:
        write_pictures(tmp_path / "made", [text], each=2)
    assert [
        sample.image.getpixel((0, 0))[0] for sample in samples(tmp_path / "work", cell(tmp_path / "made"))
    ] == [0, 1] * 3  # type: ignore[index]
    assert "do not follow the prompt file" in protocol(tmp_path / "work")["notes"][2]


@pytest.mark.parametrize(
    ("mode", "suffix"), [("P", ".png"), ("RGBA", ".png"), ("L", ".png"), ("CMYK", ".jpg"), ("I;16", ".png")]
)
def test_images_of_other_modes_are_given_as_they_are(
    folder: Path, tmp_path: Path, mode: str, suffix: str
) -> None:
    with Image.open(file(folder, 1, 1)) as image:
        odd = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    file(folder, 1, 1).unlink()
    odd.save(file(folder, 1, 1).with_suffix(suffix))
    drawn = samples(tmp_path / "work", cell(folder))
    with Image.open(file(folder, 1, 1).with_suffix(suffix)) as image:
        assert (drawn[3].image.mode, drawn[3].image.tobytes()) == (image.mode, image.tobytes())
    (note,) = protocol(tmp_path / "work")["notes"][2:]
    assert note.startswith(f"pictures that are not RGB: 1, namely samples/{COLOR[1]}_000003{suffix}: {mode}")
    assert ("above 255 becomes white" in note) == (mode == "I;16")


def test_other_files_beside_the_images(folder: Path, tmp_path: Path) -> None:
    for name in ("Thumbs.db", f"._{COLOR[0]}_000000.png", f"{COLOR[0]}_000000.txt"):
        (folder / "samples" / name).write_text("no picture")
    assert len(samples(tmp_path / "work", cell(folder))) == 6
    (note,) = protocol(tmp_path / "work")["notes"][2:]
    assert note.startswith("other files beside the pictures: 3, first ")
    assert (tmp_path / "work" / "lint.txt").read_text().splitlines()[
        0
    ] == "other files beside the pictures: 3"


# A partial set.


def test_the_complete_prompts_alone(folder: Path, tmp_path: Path) -> None:
    file(folder, 0, 1).unlink()
    file(folder, 1, 0).write_bytes(b"")
    drawn = samples(tmp_path / "work", cell(folder, allow_partial=True))
    assert [(sample.prompt.id, sample.prompt.number) for sample in drawn] == [
        ("color/0002", 0),
        ("color/0002", 1),
    ]
    said = protocol(tmp_path / "work")
    assert said["labels"] == {"color": ["partial: 1 of 3 prompts"]}
    assert said["notes"][2:] == [
        "left out, prompts that lack pictures: 1, namely color/0000 'val color number 0': 1 of 2",
        f"left out, unreadable pictures: 1, namely samples/{file(folder, 1, 0).name}: "
        f"cannot identify image file {str(file(folder, 1, 0))!r}",
    ]


def test_a_whole_set_is_not_called_partial(folder: Path, tmp_path: Path) -> None:
    assert len(samples(tmp_path / "work", cell(folder, allow_partial=True))) == 6
    assert protocol(tmp_path / "work") == {"labels": {}, "notes": UNRECORDED}


def test_surplus_images_are_left_out_and_take_the_place_of_spoilt_ones(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", COLOR, each=3)
    (tmp_path / "made" / "samples" / f"{COLOR[0]}_000001.png").write_bytes(b"")
    drawn = samples(tmp_path / "work", cell(tmp_path / "made", allow_partial=True))
    assert [sample.image.getpixel((0, 0))[0] for sample in drawn] == [0, 2, 3, 4, 6, 7]  # type: ignore[index]
    assert [sample.prompt.number for sample in drawn] == [0, 1] * 3
    assert protocol(tmp_path / "work")["labels"] == {"color": ["partial: 3 of 3 prompts"]}


def test_a_prompt_without_any_image_makes_a_set_partial(folder: Path, tmp_path: Path) -> None:
    for picture in (0, 1):
        file(folder, 2, picture).unlink()
    assert len(samples(tmp_path / "work", cell(folder, allow_partial=True))) == 4
    assert protocol(tmp_path / "work")["labels"] == {"color": ["partial: 2 of 3 prompts"]}


def test_strangers_are_left_out_of_a_set_that_is_whole(folder: Path, tmp_path: Path) -> None:
    write_pictures(folder, ["a stranger"], each=2, first=6)
    assert len(samples(tmp_path / "work", cell(folder, allow_partial=True))) == 6
    said = protocol(tmp_path / "work")
    assert said["labels"] == {} and said["notes"][2:] == [
        "left out, prompts that do not belong: 1, namely 'a stranger' (2 pictures)"
    ]


def test_of_equal_images_of_one_prompt_the_first_is_kept_and_of_two_none(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", COLOR, each=3)
    own = tmp_path / "made" / "samples"
    shutil.copy(own / f"{COLOR[0]}_000000.png", own / f"{COLOR[0]}_000001.png")
    shutil.copy(own / f"{COLOR[1]}_000004.png", own / f"{COLOR[2]}_000006.png")
    drawn = samples(tmp_path / "work", cell(tmp_path / "made", allow_partial=True))
    assert [sample.image.getpixel((0, 0))[0] for sample in drawn] == [0, 2, 3, 5, 7, 8]  # type: ignore[index]


def test_two_images_of_one_number_are_both_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", COLOR, each=3)
    own = tmp_path / "made" / "samples"
    Image.new("RGB", (32, 32), (99, 0, 0)).save(own / f"{COLOR[0]}_1.png")
    drawn = samples(tmp_path / "work", cell(tmp_path / "made", allow_partial=True))
    assert [sample.image.getpixel((0, 0))[0] for sample in drawn] == [0, 2, 3, 4, 6, 7]  # type: ignore[index]


def test_shares_that_do_not_come_out_even_are_left_out(tmp_path: Path) -> None:
    twice = {"color": ["a dog", "a dog", "a cat"]}
    write_pictures(tmp_path / "made", ["a dog", "a cat"], each=3)
    drawn = samples(tmp_path / "work", config(tmp_path / "made", twice, images=3, allow_partial=True))
    assert [sample.prompt.text for sample in drawn] == ["a cat"] * 3
    assert protocol(tmp_path / "work")["labels"] == {"color": ["partial: 1 of 3 prompts"]}


def test_a_category_of_which_nothing_is_complete_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", COLOR, each=2)
    with pytest.raises(ValueError) as caught:
        planned(config(tmp_path / "made", allow_partial=True))
    assert str(caught.value).splitlines()[:2] == [
        f"policies.folder={tmp_path / 'made'}: 0 of 3 shape prompts are complete, which leaves nothing to"
        " score. To score the others alone: benchmarks.categories=[color]",
        "prompts that lack pictures: 3",
    ]


def test_a_partial_set_does_not_choose_among_sizes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [f"photo {number}" for number in range(6)], each=1)
    for number, path in enumerate(sorted((tmp_path / "made" / "samples").iterdir())):
        Image.new("RGB", (32 + number, 40)).save(path)
    prompts = {"color": [f"photo {number}" for number in range(6)]}
    with pytest.raises(ValueError, match="size to score\npictures of another size than most: 5\n") as caught:
        made(tmp_path / "work", config(tmp_path / "made", prompts, images=1, allow_partial=True))
    assert "score all sizes with policies.mixed_sizes=true" in str(caught.value)
    allowed = config(tmp_path / "made", prompts, images=1, allow_partial=True, mixed_sizes=True)
    assert len(samples(tmp_path / "all", allowed)) == 6


def test_a_partial_set_may_have_one_size_per_folder(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made" / "color", COLOR[:2], each=2)
    write_pictures(tmp_path / "made" / "shape", SHAPE, each=2)
    for path in (tmp_path / "made" / "shape" / "samples").iterdir():
        with Image.open(path) as image:
            image.resize((48, 48)).save(path)
    drawn = samples(tmp_path / "work", config(tmp_path / "made", allow_partial=True))
    assert len(drawn) == 2 * (2 + len(SHAPE))


def test_images_of_which_none_can_be_read_are_refused_though_some_may_be_missing(
    folder: Path, tmp_path: Path
) -> None:
    for path in (folder / "samples").iterdir():
        path.write_bytes(b"")
    planned(cell(folder, allow_partial=True))
    with pytest.raises(
        ValueError,
        match=r"0 of 3 color prompts are complete, which leaves nothing to score\nunreadable pictures: 6",
    ):
        made(tmp_path / "work", cell(folder, allow_partial=True))
    assert not (tmp_path / "work" / "samples.jsonl").exists()


# Whatever is done to a set.

DAMAGES: dict[str, Callable[[Path], None]] = {
    "unlink": Path.unlink,
    "empty": lambda path: path.write_bytes(b"") and None,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:50]) and None,
    "rename": lambda path: path.rename(path.with_name("another prompt_000000.png")) and None,
    "number": lambda path: path.rename(path.with_name(path.name.replace("_0", "_1"))) and None,
    "tiny": lambda path: Image.new("RGB", (1, 1)).save(path),
    "large": lambda path: path.write_bytes(png(9000, 9000)) and None,
    "copy": lambda path: shutil.copy(path, path.with_name(path.name.replace("_0", "_1"))) and None,
}
PLACES = [(prompt, picture) for prompt in range(3) for picture in range(2)]


@drawn_from(
    damaged=st.dictionaries(st.sampled_from(PLACES), st.sampled_from(sorted(DAMAGES)), max_size=4),
    partial=st.booleans(),
)
@of_hypothesis(max_examples=60, deadline=None)
def test_a_set_that_lacks_an_image_is_never_taken_for_a_whole_one(
    damaged: dict[tuple[int, int], str], partial: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve()
        write_pictures(root / "made", COLOR, each=2)
        for spot, damage in damaged.items():
            DAMAGES[damage](file(root / "made", *spot))
        try:
            rows = SampleFolder(made(root / "work", cell(root / "made", allow_partial=partial))).rows()
        except ValueError:
            assert damaged
            return
        whole = [(f"color/{prompt:04d}", picture) for prompt, picture in PLACES]
        kept = [(row.prompt_id, row.number) for row in rows]
        harmed = {
            f"color/{prompt:04d}"
            for (prompt, _), damage in damaged.items()
            if damage not in ("number", "copy")
        }
        assert {name for name, _ in kept} == {name for name, _ in whole} - harmed
        assert kept == [one for one in whole if one[0] not in harmed]
        assert bool(harmed) <= bool(protocol(root / "work")["labels"].get("color"))
        assert partial or set(damaged.values()) <= {"number"}
        for row in rows:
            with Image.open(row.image) as image:
                assert image.size == (32, 32) and row.prompt in row.image
