"""The unfinished folder of a stage has one name at a time, and another one after each fencing."""

from __future__ import annotations

from pathlib import Path

from harness.stages.generations import fence, remove_unfinished, unfinished_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_name_counts_up_and_the_content_stays(tmp_path: Path) -> None:
    folder = tmp_path / "grpo-1f"
    assert unfinished_folder(folder) == tmp_path / "grpo-1f.part"
    unfinished_folder(folder).mkdir()
    (unfinished_folder(folder) / "training.pt").write_text("step 3")
    for count in range(2, 12):
        fence(folder)
        assert names(tmp_path) == [f"grpo-1f.part{count}"]
    assert (unfinished_folder(folder) / "training.pt").read_text() == "step 3"


def test_an_owner_that_has_begun_nothing_is_fenced_off_too(tmp_path: Path) -> None:
    folder = tmp_path / "stages" / "grpo-1f"
    fence(folder)
    assert unfinished_folder(folder).name == "grpo-1f.part2" and unfinished_folder(folder).is_dir()


def test_of_several_folders_the_latest_counts(tmp_path: Path) -> None:
    folder = tmp_path / "grpo-1f"
    others = ["grpo-1f.part.old", "grpo-1f.partial", "grpo-1f.lock", "grpo-1f0.part30", "grpo-1f"]
    for name in ["grpo-1f.part", "grpo-1f.part9", "grpo-1f.part10", *others]:
        (tmp_path / name).mkdir()
    assert unfinished_folder(folder).name == "grpo-1f.part10"
    fence(folder)
    assert unfinished_folder(folder).name == "grpo-1f.part11"
    remove_unfinished(folder)
    assert names(tmp_path) == sorted(others)


def test_a_folder_of_stages_that_does_not_exist_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "stages" / "grpo-1f"
    assert unfinished_folder(folder).name == "grpo-1f.part"
    remove_unfinished(folder)
