"""Paths that users write: home folders, and names that no file can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.images import ImageFolder
from harness.paths import MOST_NAME_BYTES, user_path
from harness.samples import SampleRow


def test_a_home_folder_is_expanded_and_other_paths_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/mine")
    assert user_path("~/images") == Path("/home/mine/images")
    assert user_path("a/~/b") == Path("a/~/b")
    with pytest.raises(ValueError, match="~nobody-of-that-name"):
        user_path("~nobody-of-that-name/images")


@pytest.mark.parametrize("name", ["9" * (MOST_NAME_BYTES + 1), "folder/" + "é" * 128 + "/x.png"])
def test_a_name_that_is_too_long_for_a_file_is_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has a name of 256 bytes, which no file has: correct the path"):
        user_path(name)
    with pytest.raises(ValueError, match="has a name of 256 bytes"):
        SampleRow.from_user_json({"prompt": "a dog", "image": name, "chain": ""})
    with pytest.raises(ValueError, match="has a name of 256 bytes"):
        ImageFolder(tmp_path).read(name)
    longest = name.replace("9" * 256, "9" * 255).replace("é" * 128, "é" * 127)
    assert user_path(longest) == Path(longest)
    with pytest.raises(ValueError, match="there is no image"):
        ImageFolder(tmp_path).read(longest)


def test_a_null_character_is_no_part_of_a_path() -> None:
    with pytest.raises(ValueError, match="holds a null character"):
        user_path("images/\0.png")
