"""The two versions of color_val.txt, and the files beside the prompts that scorers read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.t2i_compbench.files import (
    OLD_COLOR_VAL,
    VERSIONS,
    color_val_file,
    color_val_version,
    objects_file,
    prompt_file,
    read_prompts,
    read_routing,
)


@pytest.fixture
def official(data_dir: Path) -> Path:
    return data_dir / "t2i_compbench"


def test_every_version_is_known_by_its_content(official: Path) -> None:
    for version in VERSIONS:
        assert color_val_version(color_val_file(official, version)) == version
    assert color_val_file(official, None) == prompt_file(official, "color", "val")
    assert color_val_file(official, 2023) == official / OLD_COLOR_VAL


def test_five_lines_changed_which_had_repeated_others(official: Path) -> None:
    new, old = (read_prompts(color_val_file(official, version)) for version in ("2025-09-03", "2023"))
    assert [place for place, (one, other) in enumerate(zip(new, old, strict=True)) if one != other] == [
        227,
        228,
        271,
        287,
        299,
    ]
    assert (len(set(new)), len(set(old))) == (300, 295)


def test_a_version_is_found_wherever_it_lies(official: Path, tmp_path: Path) -> None:
    """A checkout of an earlier commit holds the old file under the new one's name."""
    shutil.copyfile(official / OLD_COLOR_VAL, tmp_path / "color_val.txt")
    assert color_val_file(tmp_path, "2023") == tmp_path / "color_val.txt"
    with pytest.raises(
        ValueError,
        match=r"color_val=2025-09-03 is not here, .*color_val\.txt is 2023: fetch it with .python -m harness",
    ):
        color_val_file(tmp_path, "2025-09-03")


def test_a_file_that_was_changed_is_no_version(official: Path, tmp_path: Path) -> None:
    file = tmp_path / "color_val.txt"
    file.write_bytes((official / "color_val.txt").read_bytes().replace(b"\r\n", b"\n"))
    assert color_val_version(file).startswith("unknown, sha256 ")
    with pytest.raises(ValueError, match="is unknown, sha256"):
        color_val_file(tmp_path, "2025-09-03")


@pytest.mark.parametrize(
    ("version", "said"), [("2024", "give 2025-09-03, 2023, or null"), ("2023", "holds none: fetch it")]
)
def test_what_is_no_version_or_not_there(tmp_path: Path, version: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        color_val_file(tmp_path, version)


def test_the_routing_files_are_parts_of_the_complex_prompts(official: Path) -> None:
    spatial, action = read_routing(official)
    prompts = {
        text.partition(".")[0].lower() for text in read_prompts(prompt_file(official, "complex", "val"))
    }
    keys = [{text.partition(".")[0].lower() for text in texts} for texts in (spatial, action)]
    assert (len(spatial), len(action)) == (58, 212)
    assert not keys[0] & keys[1] and len(prompts - keys[0] - keys[1]) == 30


def test_a_missing_file_says_what_to_fetch(official: Path, tmp_path: Path) -> None:
    assert objects_file(official) == official / "new_objects.txt"
    with pytest.raises(
        ValueError, match=r"lacks new_objects\.txt: fetch it with `python -m harness\.fetch t2i_compbench`"
    ):
        objects_file(tmp_path)
    shutil.copyfile(official / "complex_val_spatial.txt", tmp_path / "complex_val_spatial.txt")
    with pytest.raises(ValueError, match=r"lacks complex_val_action\.txt: fetch it"):
        read_routing(tmp_path)
