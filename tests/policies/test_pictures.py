"""Pictures made elsewhere as a policy: the right picture for every prompt and number, and every fault told at the start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from mini_compbench import write_pictures, write_prompts
from mini_world import GRPO, ROLLOUT, FakeWorkspace
from PIL import Image

from harness import evaluation
from harness.cell import plan_stages
from harness.keys import key
from harness.protocols import Sampling
from harness.samples import SampleFolder
from harness.types import Plan, Prompt, Sample, Tokens
from policies.pictures.gather import gather
from policies.pictures.recipe import Pictures

COLOR = [f"val color number {number}" for number in range(3)]
SHAPE = [f"val shape number {number}" for number in range(3)]


def config(root: Path, folder: Path | str, *, images: int = 2, batch_size: int = 3, **benchmark: Any) -> dict[str, Any]:
    return {
        "policies": {"_target_": "policies.pictures.recipe.Pictures", "folder": str(folder)},
        "trainers": {"_target_": "harness.trainers.recipes.Frozen"},
        "benchmarks": {
            "_target_": "benchmarks.t2i_compbench.benchmark.T2ICompBench",
            "root": str(root / "dataset"),
            "categories": ["color", "shape"],
            "dev_per_category": 1,
            "n_prompts": None,
            "captions": [],
            **benchmark,
        },
        "rewards": {"total": "low", "components": {"low": {"_target_": "mini_world.LowCodes"}}},
        "evaluation": {"split": "val", "images_per_prompt": images, "batch_size": batch_size, "rollout": ROLLOUT},
        "rollout": ROLLOUT,
        "seed": 0,
        "sft_seed": 0,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_prompts(tmp_path / "dataset")
    return tmp_path


def draw(place: Path, cell: dict[str, Any], *, rows_done: int = 0) -> list[Sample]:
    """The stages of the cell up to `samples`; with `rows_done`, as gone on with after a kill."""
    start, samples, _ = plan_stages(cell)
    shutil.rmtree(place, ignore_errors=True)
    gather(FakeWorkspace(place / "pictures"), dict(start.settings), {})
    work = FakeWorkspace(place / "samples")
    evaluation.sample(work, dict(samples.settings), {"policy": place / "pictures"})
    if rows_done:
        SampleFolder(work.folder).keep(rows_done)
        evaluation.sample(work, dict(samples.settings), {"policy": place / "pictures"})
    return list(SampleFolder(work.folder).read())


def reds(samples: list[Sample]) -> list[tuple[str, int]]:
    """Prompt and the number that the picture carries."""
    return [(sample.prompt.text, sample.image.getpixel((0, 0))[0]) for sample in samples]  # type: ignore[index]


def expected(*lists: list[str], each: int, first: int = 0, take: int = 2) -> list[tuple[str, int]]:
    texts = [text for one in lists for text in one]
    return [(text, first + place * each + number) for place, text in enumerate(texts) for number in range(take)]


def test_pictures_of_all_categories_in_one_folder(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=4)
    samples = draw(root / "work", config(root, root / "made"))
    assert reds(samples) == expected(COLOR, SHAPE, each=4)
    assert {sample.plan for sample in samples} == {Plan(text="", objects=(), bare_text="")}


def test_pictures_of_each_category_in_a_folder_of_its_own(root: Path) -> None:
    write_pictures(root / "made" / "color", COLOR, each=2)
    write_pictures(root / "made" / "shape", SHAPE, each=3, first=100)
    samples = draw(root / "work", config(root, root / "made"))
    assert reds(samples) == [*expected(COLOR, each=2), *expected(SHAPE, each=3, first=100)]


@pytest.mark.parametrize(("batch_size", "rows_done"), [(1, 5), (3, 4), (5, 11), (100, 7)])
def test_neither_the_batch_nor_a_kill_changes_which_picture_is_taken(root: Path, batch_size: int, rows_done: int) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    samples = draw(root / "work", config(root, root / "made", batch_size=batch_size), rows_done=rows_done)
    assert reds(samples) == expected(COLOR, SHAPE, each=2)


def test_numbers_are_sorted_as_numbers_and_may_start_anywhere(root: Path) -> None:
    (root / "made" / "samples").mkdir(parents=True)
    for text in (*COLOR, *SHAPE):
        for red, name in ((9, "9"), (10, "000010"), (111, "111")):
            Image.new("RGB", (1, 1), (red, 0, 0)).save(root / "made" / "samples" / f"{text}_{name}.png")
    (root / "made" / "samples" / "Thumbs.db").write_text("no picture")
    assert [red for _, red in reds(draw(root / "work", config(root, root / "made")))] == [9, 10] * 6


def test_prompts_of_the_same_text_take_their_own_pictures(root: Path) -> None:
    """As five prompts of color_val.txt stood twice before September 2025."""
    (root / "dataset" / "color_val.txt").write_text("a dog\na cat\na dog\n")
    write_pictures(root / "made", ["a dog", "a cat", "a dog"], each=3)
    samples = draw(root / "work", config(root, root / "made", categories=["color"]))
    assert reds(samples) == [("a dog", 0), ("a dog", 1), ("a cat", 3), ("a cat", 4), ("a dog", 6), ("a dog", 7)]
    (root / "made" / "samples" / "a dog_000001.png").unlink()
    with pytest.raises(ValueError, match=r"color/0000 'a dog': 5 of 4 for 2 prompts of this text"):
        plan_stages(config(root, root / "made", categories=["color"]))


def test_odd_prompts_are_found_by_their_whole_text(root: Path) -> None:
    odd = ["a snake_case sign_7", "a café: red. ", "A."]
    (root / "dataset" / "color_val.txt").write_text("\n".join(odd), encoding="utf-8")
    write_pictures(root / "made", odd, each=2)
    assert reds(draw(root / "work", config(root, root / "made", categories=["color"]))) == expected(odd, each=2)


def test_chains_beside_the_pictures_are_read(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    (root / "made" / "chains").mkdir()
    chain = "A <|obj_start|>cup<|obj_end|> <|box_start|>(1,2),(3,4)<|box_end|>.<begin_of_image>"
    for path in sorted((root / "made" / "samples").iterdir()):
        (root / "made" / "chains" / f"{path.stem}.txt").write_text(f"{path.stem} {chain}\n", encoding="utf-8")
    samples = draw(root / "work", config(root, root / "made"))
    assert [sample.plan.text for sample in samples] == [f"{text}_{red:06d} {chain}" for text, red in reds(samples)]
    assert all([thing.name for thing in sample.plan.objects] == ["cup"] and not sample.plan.faults for sample in samples)
    (root / "made" / "chains" / f"{SHAPE[1]}_000008.txt").unlink()
    with pytest.raises(ValueError, match=rf"1 of 12 chains are missing .*\n  .*{SHAPE[1]}_000008\.txt"):
        plan_stages(config(root, root / "made"))


def test_a_samples_folder_of_ours_is_taken_with_its_chains(root: Path) -> None:
    """Also prompts that no file can be named after."""
    texts = ["a dog/cat", "a very long prompt " * 20]
    (root / "dataset" / "color_val.txt").write_text("\n".join(texts))
    ours = SampleFolder(root / "ours")
    ours.folder.mkdir()
    wanted = [(text, number) for number, text in enumerate([*texts, *texts])]
    ours.append(0, [_sample(text, number) for text, number in wanted])
    samples = draw(root / "work", config(root, root / "ours", categories=["color"]))
    texts = [text.rstrip("\n") for text in texts]
    assert reds(samples) == [(texts[0], 0), (texts[0], 2), (texts[1], 1), (texts[1], 3)]
    assert [sample.plan.text for sample in samples] == [f"chain {number}<begin_of_image>" for number in (0, 2, 1, 3)]


def _sample(text: str, number: int) -> Sample:
    chain = f"chain {number}<begin_of_image>"
    return Sample(
        prompt=Prompt(id="prompt", text=text, category="generated"),
        plan=Plan(text=chain, objects=(), bare_text=""),
        image=Image.new("RGB", (2, 2), (number, 0, 0)),
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=number,
    )


def test_what_is_missing_is_told_when_the_cell_is_planned(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, SHAPE[0], "val shape number 1,"], each=2)
    (root / "made" / "samples" / f"{COLOR[1]}_000003.png").unlink()
    with pytest.raises(ValueError) as caught:
        plan_stages(config(root, root / "made"))
    assert str(caught.value).splitlines() == [
        f"policies.folder={root / 'made'}: 3 of 6 prompts lack pictures; there are",
        "  color/0001 'val color number 1': 1 of 2",
        "  shape/0001 'val shape number 1': 0 of 2",
        "  shape/0002 'val shape number 2': 0 of 2",
        "and pictures of 1 other prompts, such as 'val shape number 1,'",
    ]


def test_the_first_ten_of_many_are_named_and_what_cannot_be_a_file_name(root: Path) -> None:
    (root / "dataset" / "color_val.txt").write_text("\n".join(["a dog/cat", "x" * 250, *(f"a {number}" for number in range(20))]))
    write_pictures(root / "made", ["a 0"], each=1)
    with pytest.raises(ValueError) as caught:
        plan_stages(config(root, root / "made", images=1, categories=["color"]))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 10 + 1 and lines[-1] == "  ..."
    assert lines[0].endswith("21 of 22 prompts lack pictures; there are")
    assert [line.endswith("(no file can be named so: give it in samples.jsonl)") for line in lines[1:5]] == [True, True, False, False]


def test_two_pictures_of_one_number_are_refused(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    shutil.copy(root / "made" / "samples" / f"{COLOR[0]}_000001.png", root / "made" / "samples" / f"{COLOR[0]}_1.PNG")
    with pytest.raises(ValueError, match=rf"_1\.PNG are both picture 1 of '{COLOR[0]}': keep one"):
        plan_stages(config(root, root / "made"))


def test_unreadable_pictures_and_chains_are_all_named_before_the_samples(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    broken = [root / "made" / "samples" / f"{COLOR[1]}_000002.png", root / "made" / "samples" / f"{SHAPE[2]}_000010.png"]
    broken[0].write_bytes(broken[0].read_bytes()[:40])
    broken[1].write_bytes(b"<html>not found</html>")
    (root / "made" / "chains").mkdir()
    for path in (root / "made" / "samples").iterdir():
        (root / "made" / "chains" / f"{path.stem}.txt").write_bytes(b"A caf\xe9" if path.stem.endswith("11") else b"A cup.")
    start, *_ = plan_stages(config(root, root / "made"))
    with pytest.raises(ValueError) as caught:
        gather(FakeWorkspace(root / "work"), dict(start.settings), {})
    first, *rest = str(caught.value).splitlines()
    assert first == "3 of 12 pictures or chains cannot be read, the first are:"
    assert [str(path) in line for path, line in zip(broken, rest, strict=False)] == [True, True]
    assert "is not UTF-8 text" in rest[2]
    assert not (root / "work" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, r"policies=images needs policies\.folder=FOLDER"),
        ("nowhere", r"policies\.folder=.*nowhere: there is no such folder: give one that holds samples/PROMPT_000000\.png"),
        ("empty", r"policies\.folder=.*empty: there are no color pictures, neither color/samples/ nor samples/"),
        ("half", r"policies\.folder=.*half: there are no shape pictures, neither shape/samples/ nor samples/"),
        ("bad", r"line 2 of .*samples\.jsonl is no row with prompt, image and chain: 'chain'"),
    ],
)
def test_a_folder_that_holds_no_pictures(root: Path, made: str | None, message: str) -> None:
    (root / "empty").mkdir()
    write_pictures(root / "half" / "color", COLOR, each=2)
    (root / "bad").mkdir()
    row = {"prompt": "x", "image": "x.png", "chain": ""}
    (root / "bad" / "samples.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps({'prompt': 'x', 'image': 'x.png'})}\n")
    with pytest.raises((ValueError, InstantiationException), match=message):
        plan_stages(config(root, root / made if made else ""))


def test_contents_count_and_what_lies_beside_them_does_not(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    before = key(plan_stages(config(root, root / "made"))[0])
    (root / "made" / "annotation_blip").mkdir()
    (root / "made" / "annotation_blip" / "vqa_result.json").write_text("[]")  # as the official scorers leave behind
    assert key(plan_stages(config(root, root / "made"))[0]) == before
    Image.new("RGB", (3, 3)).save(root / "made" / "samples" / f"{COLOR[0]}_000000.png")
    assert key(plan_stages(config(root, root / "made"))[0]) != before


def test_a_trainer_that_trains_refuses_them(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    trained = {**config(root, root / "made"), "trainers": {"_target_": "harness.trainers.recipes.Grpo", "grpo": GRPO}}
    with pytest.raises(ValueError, match=r"cannot be trained.*use trainers=frozen"):
        plan_stages(trained)


def test_a_prompt_it_has_no_picture_of(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    cell = config(root, root / "made")
    gather(FakeWorkspace(root / "work"), dict(plan_stages(cell)[0].settings), {})
    policy = Pictures(folder=str(root / "made")).load(root / "work" / "checkpoint")
    with pytest.raises(ValueError, match=r"picture 0 \(from 0\) of 'a cup' is asked for, and policies=images has 0"):
        policy.rollout([Prompt(id="prompt", text="a cup", category="generated")], [1], Sampling())


def test_modes_other_than_rgb_become_rgb(root: Path) -> None:
    write_pictures(root / "made", [*COLOR, *SHAPE], each=2)
    for path in (root / "made" / "samples").iterdir():
        with Image.open(path) as image:
            image.convert("P").save(path)
    assert {sample.image.mode for sample in draw(root / "work", config(root, root / "made"))} == {"RGB"}
