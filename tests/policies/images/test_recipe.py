"""Images made elsewhere as samples: the right image for every prompt and number, listed where it lies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from mini_compbench import write_pictures
from mini_pictures import COLOR, SHAPE, config, made, planned, protocol, samples
from mini_world import GRPO, ROLLOUT, FakeWorkspace, Interrupted
from PIL import Image

from harness.files import read_rows
from harness.samples import SampleFolder
from harness.stages.keys import key
from harness.study.cell import plan_stages
from harness.types import Chain, Prompt, Sample, Tokens
from policies.images.listing import KEYS, list_images


def reds(drawn: list[Sample]) -> list[tuple[str, int]]:
    """Prompt and the number that the image carries."""
    return [(sample.prompt.text, sample.image.getpixel((0, 0))[0]) for sample in drawn]  # type: ignore[index]


def expected(*lists: list[str], each: int, first: int = 0, take: int = 2) -> list[tuple[str, int]]:
    texts = [text for one in lists for text in one]
    return [
        (text, first + place * each + number) for place, text in enumerate(texts) for number in range(take)
    ]


def test_images_of_all_categories_in_one_folder(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    drawn = samples(tmp_path / "work", config(tmp_path / "made"))
    assert reds(drawn) == expected(COLOR, SHAPE, each=2)
    assert {sample.chain for sample in drawn} == {Chain(text="", objects=(), bare_text="")}


def test_images_of_each_category_in_a_folder_of_its_own(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made" / "color", COLOR, each=3)
    write_pictures(tmp_path / "made" / "shape", SHAPE, each=3, first=100)
    drawn = samples(tmp_path / "work", config(tmp_path / "made", images=3))
    assert reds(drawn) == [*expected(COLOR, each=3, take=3), *expected(SHAPE, each=3, first=100, take=3)]


def test_a_row_is_what_the_harness_writes_and_names_the_original(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", COLOR, each=2)
    folder = made(tmp_path / "work", config(tmp_path / "made", {"color": COLOR}))
    rows = read_rows(folder / "samples.jsonl")
    assert rows[3] == {
        "index": 3,
        "prompt_id": "color/0001",
        "prompt": COLOR[1],
        "category": "color",
        "facts": {"place": 1},
        "number": 1,
        "seed": None,
        "chain": "",
        "faults": [],
        "truncated": False,
        "image": str(tmp_path / "made" / "samples" / f"{COLOR[1]}_000003.png"),
    }
    assert list(rows[3]) == list(KEYS)
    assert [(row["index"], row["number"]) for row in rows] == [(index, index % 2) for index in range(6)]
    ours = SampleFolder(tmp_path / "ours")
    ours.append(0, [_sample(COLOR[0], 0)])
    assert set(read_rows(ours.index)[0]) == set(rows[0])
    assert sorted(path.name for path in folder.iterdir()) == ["lint.txt", "protocol.json", "samples.jsonl"]
    assert (folder / "lint.txt").read_text() == "nothing was found\n"


def test_a_relative_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    monkeypatch.chdir(tmp_path)
    rows = SampleFolder(made(tmp_path / "work", config("made"))).rows()
    assert all(Path(row.image).is_absolute() and Path(row.image).is_file() for row in rows)


def test_a_folder_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_pictures(folder, [*COLOR, *SHAPE], each=2)
    assert reds(samples(tmp_path / "work", config(folder))) == expected(COLOR, SHAPE, each=2)


def test_a_killed_check_begins_again(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    settings = dict(planned(config(tmp_path / "made")).settings)
    with pytest.raises(Interrupted):
        list_images(FakeWorkspace(tmp_path / "work", stop_at=5), settings, {})
    assert not (tmp_path / "work" / "samples.jsonl").exists()
    work = FakeWorkspace(tmp_path / "work")
    list_images(work, settings, {})
    assert reds(list(SampleFolder(work.folder).read())) == expected(COLOR, SHAPE, each=2)
    assert [(line["step"], line["total"]) for line in work.lines] == [(step, 12) for step in range(1, 13)]


def test_numbers_are_sorted_as_numbers_and_may_start_anywhere(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2, first=9)
    for path in (tmp_path / "made" / "samples").iterdir():
        text, _, number = path.stem.rpartition("_")
        path.rename(path.with_name(f"{text}_{int(number)}.png"))
    drawn = samples(tmp_path / "work", config(tmp_path / "made"))
    assert reds(drawn) == expected(COLOR, SHAPE, each=2, first=9)
    assert (tmp_path / "work" / "lint.txt").read_text() == "nothing was found\n"


def test_prompts_of_the_same_text_take_their_own_images(tmp_path: Path) -> None:
    """As five prompts of color_val.txt stood twice before September 2025."""
    given = {"color": ["a dog", "a cat", "a dog"]}
    write_pictures(tmp_path / "made", given["color"], each=2)
    drawn = samples(tmp_path / "work", config(tmp_path / "made", given))
    assert reds(drawn) == [("a dog", 0), ("a dog", 1), ("a cat", 2), ("a cat", 3), ("a dog", 4), ("a dog", 5)]
    assert [sample.prompt.id for sample in drawn[::2]] == ["color/0000", "color/0001", "color/0002"]
    write_pictures(tmp_path / "made", ["a dog"], each=1, first=9)
    with pytest.raises(ValueError, match=r"color/0000 'a dog': 5 of 4 for 2 prompts of this text"):
        planned(config(tmp_path / "made", given))


def test_prompts_of_the_same_text_may_have_equal_images(tmp_path: Path) -> None:
    """The official seeds are the same ten for every prompt."""
    given = {"color": ["a dog", "a dog"], "shape": ["a dog"]}
    for name, prompts in (("color", 2), ("shape", 1)):
        write_pictures(tmp_path / "made" / name, ["a dog"], each=2)
        for number in range(2, 2 * prompts):
            own = tmp_path / "made" / name / "samples"
            shutil.copy(own / f"a dog_{number - 2:06d}.png", own / f"a dog_{number:06d}.png")
    assert (
        reds(samples(tmp_path / "work", config(tmp_path / "made", given))) == [("a dog", 0), ("a dog", 1)] * 3
    )


def test_odd_prompts_are_found_by_their_whole_text(tmp_path: Path) -> None:
    odd = [
        "a snake_case sign_7",
        "a café: red. ",
        "A.",
        'a "quoted" word\'s sign',
        "一只红色的猫",
        "קאַץ",
        "w" * 240,
    ]
    write_pictures(tmp_path / "made", odd, each=2)
    assert reds(samples(tmp_path / "work", config(tmp_path / "made", {"color": odd}))) == expected(
        odd, each=2
    )


def test_accents_may_be_taken_apart_from_their_letters_as_some_file_systems_do(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", ["a cafe\u0301"], each=2)
    (sample, _) = samples(tmp_path / "work", config(tmp_path / "made", {"color": ["a caf\u00e9"]}))
    assert sample.prompt.text == "a caf\u00e9"


def test_chains_beside_the_images_are_read(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    (tmp_path / "made" / "chains").mkdir()
    chain = "A <|obj_start|>cup<|obj_end|> <|box_start|>(1,2),(3,4)<|box_end|>."
    for path in sorted((tmp_path / "made" / "samples").iterdir()):
        end = "" if path.stem.endswith("3") else "<begin_of_image>"
        (tmp_path / "made" / "chains" / f"{path.stem}.txt").write_text(
            f"{path.stem} {chain}{end}\n", encoding="utf-8"
        )
    drawn = samples(tmp_path / "work", config(tmp_path / "made"))
    ends = ["" if red == 3 else "<begin_of_image>" for _, red in reds(drawn)]
    assert [sample.chain.text for sample in drawn] == [
        f"{text}_{red:06d} {chain}{end}" for (text, red), end in zip(reds(drawn), ends, strict=True)
    ]
    assert all([thing.name for thing in sample.chain.objects] == ["cup"] for sample in drawn)
    assert [bool(sample.chain.faults) for sample in drawn] == [not end for end in ends]


def test_a_samples_folder_of_ours_is_taken_with_its_chains_and_seeds(tmp_path: Path) -> None:
    """Also prompts that no file can be named after."""
    texts = ["a dog/cat", "a very long prompt " * 20]
    ours = SampleFolder(tmp_path / "ours")
    wanted = [(text, number) for number, text in enumerate([*texts, *texts])]
    ours.append(0, [_sample(text, number) for text, number in wanted])
    drawn = samples(tmp_path / "work", config(tmp_path / "ours", {"color": texts}))
    assert reds(drawn) == [(texts[0], 0), (texts[0], 2), (texts[1], 1), (texts[1], 3)]
    assert [sample.chain.text for sample in drawn] == [
        f"chain {number}<begin_of_image>" for number in (0, 2, 1, 3)
    ]
    assert [sample.seed for sample in drawn] == [0, 2, 1, 3]


def test_a_stage_of_these_images_is_such_a_folder_whatever_the_order_of_its_rows(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", ["a dog", "a cat", "a dog"], each=2)
    cell = config(tmp_path / "made", {"color": ["a dog", "a cat", "a dog"]})
    first = made(tmp_path / "first", cell)
    rows = (first / "samples.jsonl").read_text().splitlines()
    (first / "samples.jsonl").write_text("\n".join(reversed(rows)) + "\n")
    second = SampleFolder(
        made(tmp_path / "second", {**cell, "policies": {**cell["policies"], "folder": str(first)}})
    )
    assert read_rows(second.index) == [json.loads(row) for row in rows]


def test_rows_without_prompt_id_and_number_are_taken_in_their_order(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", COLOR, each=2)
    rows = [
        {"prompt": text, "image": f"samples/{text}_{place * 2 + number:06d}.png", "chain": ""}
        for place, text in enumerate(COLOR)
        for number in (0, 1)
    ]
    (tmp_path / "made" / "samples.jsonl").write_text(
        "".join(f"{json.dumps(row)}\n" for row in reversed(rows))
    )
    drawn = samples(tmp_path / "work", config(tmp_path / "made", {"color": COLOR}))
    assert [red for _, red in reds(drawn)] == [1, 0, 3, 2, 5, 4]


def _sample(text: str, number: int) -> Sample:
    chain = f"chain {number}<begin_of_image>"
    return Sample(
        prompt=Prompt(id="prompt", text=text, category="generated"),
        chain=Chain(text=chain, objects=(), bare_text=""),
        image=Image.new("RGB", (32, 32), (number, 0, 0)),
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=number,
    )


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (None, r"policies=images needs policies\.folder=FOLDER"),
        (
            "nowhere",
            r"policies\.folder=.*nowhere: there is no such folder: give one that holds"
            r" samples/PROMPT_000000\.png",
        ),
        (
            "empty",
            r"policies\.folder=.*empty: there are no color and no shape images, neither color/samples/ nor"
            r" samples/",
        ),
        (
            "half",
            r"policies\.folder=.*half: there are no shape images, neither shape/samples/ nor samples/"
            r".*benchmarks\.categories=\[color\]",
        ),
        ("half/color/samples", r"there are no color and .* Give the folder above samples/"),
        ("bad", r"line 2 of .*samples\.jsonl is not a row with prompt, image and chain: it has no 'chain'"),
    ],
)
def test_a_folder_that_holds_no_images(tmp_path: Path, folder: str | None, message: str) -> None:
    (tmp_path / "empty").mkdir()
    write_pictures(tmp_path / "half" / "color", COLOR, each=2)
    (tmp_path / "bad").mkdir()
    row = {"prompt": "x", "image": "x.png", "chain": ""}
    (tmp_path / "bad" / "samples.jsonl").write_text(
        f"{json.dumps(row)}\n{json.dumps({'prompt': 'x', 'image': 'x.png'})}\n"
    )
    with pytest.raises((ValueError, InstantiationException), match=message):
        planned(config(tmp_path / folder if folder else ""))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"allow_partial": "yes"}, r"policies\.allow_partial='yes': give true or false"),
        ({"mixed_sizes": 1}, r"policies\.mixed_sizes=1: give true or false"),
        ({"guidance": True}, r"policies\.guidance=True: give a number, or null"),
        ({"guidance": "five"}, r"policies\.guidance='five': give a number, or null"),
        ({"guidance": float("nan")}, r"policies\.guidance=nan: give a number, or null"),
        ({"rewriting": False}, r"policies\.rewriting=False: give a text such as none or gpt-4o"),
        ({"rewriting": " "}, r"policies\.rewriting=' ': give a text"),
    ],
)
def test_settings_that_are_none_of_those_allowed(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InstantiationException, match=message):
        planned(config(tmp_path, **settings))


@pytest.mark.parametrize(
    ("settings", "notes"),
    [
        ({}, ["guidance not recorded", "prompt rewriting not recorded"]),
        (
            {"guidance": 7.5, "rewriting": "gpt-4o prompts"},
            ["guidance 7.5", "prompt rewriting gpt-4o prompts"],
        ),
        ({"guidance": 0, "rewriting": "none"}, ["guidance 0", "prompt rewriting none"]),
    ],
)
def test_how_they_were_made_is_recorded(tmp_path: Path, settings: dict[str, Any], notes: list[str]) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    assert protocol(made(tmp_path / "work", config(tmp_path / "made", **settings))) == {
        "labels": {},
        "notes": notes,
    }


def test_contents_count_and_what_lies_beside_them_does_not(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    before = key(planned(config(tmp_path / "made")))
    (tmp_path / "made" / "annotation_blip").mkdir()
    (tmp_path / "made" / "annotation_blip" / "vqa_result.json").write_text(
        "[]"
    )  # as the official scorers leave behind
    assert key(planned(config(tmp_path / "made"))) == before
    Image.new("RGB", (33, 33)).save(tmp_path / "made" / "samples" / f"{COLOR[0]}_000000.png")
    assert key(planned(config(tmp_path / "made"))) != before


def test_a_moved_folder_is_another_one_since_its_files_are_named_in_full(tmp_path: Path) -> None:
    """Also where the images lie in the folder itself, whose content is then no stand-in for its name."""
    place = tmp_path / "made"
    place.mkdir()
    rows = []
    for red in range(2):
        Image.new("RGB", (32, 32), (red, 0, 0)).save(place / f"{red}.png")
        rows.append(json.dumps({"prompt": "a dog", "image": f"{red}.png", "chain": ""}))
    (place / "samples.jsonl").write_text("\n".join(rows))
    before = key(planned(config(place, {"color": ["a dog"]})))
    place.rename(tmp_path / "moved")
    assert key(planned(config(tmp_path / "moved", {"color": ["a dog"]}))) != before


def cell_of(folder: Path, trainer: dict[str, Any]) -> dict[str, Any]:
    cell = config(folder)
    return {
        **cell,
        "trainers": trainer,
        "rewards": {"total": "low", "components": {"low": {"_target_": "mini_world.LowCodes"}}},
        "evaluation": {**cell["evaluation"], "batch_size": 3, "rollout": ROLLOUT},
        "rollout": ROLLOUT,
        "seed": 0,
        "sft_seed": 0,
    }


def test_a_cell_scores_them_as_they_are(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    stages = plan_stages(cell_of(tmp_path / "made", {"_target_": "harness.trainers.recipes.Frozen"}))
    assert [(stage.name, stage.program) for stage in stages] == [
        ("samples", "policies.images.listing.list_images"),
        ("scores", "harness.evaluation.score.score"),
    ]


def test_a_trainer_that_trains_refuses_them(tmp_path: Path) -> None:
    write_pictures(tmp_path / "made", [*COLOR, *SHAPE], each=2)
    with pytest.raises(ValueError, match=r"cannot be trained.*Use trainers=frozen"):
        trainer = {"_target_": "harness.trainers.recipes.Grpo", "_recursive_": False, "grpo": GRPO}
        plan_stages(cell_of(tmp_path / "made", trainer))
