"""T2I-CompBench's prompt files: read as its generator reads them, split, counted by content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from mini_compbench import write_prompts
from mini_world import CHOSEN, READ, ROLLOUT

from benchmarks.t2i_compbench.benchmark import T2ICompBench
from harness.stages.keys import key
from harness.study.cell import plan_stages
from harness.types import Prompt

PAPER = ["color", "shape", "texture", "2D-spatial", "non-spatial", "complex"]
ALL = [*PAPER, "3D-spatial", "numeracy"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_prompts(tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def official(data_dir: Path) -> Path:
    return data_dir / "t2i_compbench"


def bench(root: Path | str, **changes: Any) -> T2ICompBench:
    settings: dict[str, Any] = {
        "categories": PAPER,
        "color_val": None,
        "dev_per_category": 4,
        "n_prompts": None,
        "captions": [],
        "annotations": None,
    }
    return T2ICompBench(root=str(root), **{**settings, **changes})


def as_the_generator_reads(file: Path) -> list[str]:
    """Text mode, whatever Python takes for a line end, nothing behind a tab."""
    return [line.partition("\t")[0] for line in file.open(encoding="utf-8").read().splitlines()]


def test_the_official_val_prompts_are_all_there_in_order(official: Path) -> None:
    prompts = bench(official, categories=ALL).prompts("val")
    assert len(prompts) == 8 * 300
    assert [prompt.category for prompt in prompts[::300]] == ALL
    assert (prompts[0].id, prompts[0].text) == ("color/0000", "a green bench and a blue bowl")
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    stems = ("color", "shape", "texture", "spatial", "non_spatial", "complex", "3d_spatial", "numeracy")
    texts = [text for stem in stems for text in as_the_generator_reads(official / f"{stem}_val.txt")]
    assert [prompt.text for prompt in prompts] == texts
    assert all(text == text.strip() and "\r" not in text and text.isascii() for text in texts)


def test_the_official_train_prompts_are_dev_and_train(official: Path) -> None:
    for count in (60, 0):
        benchmark = bench(official, dev_per_category=count)
        train, dev = benchmark.prompts("train"), benchmark.prompts("dev")
        assert len(dev) == 6 * count == len({prompt.text for prompt in dev})
        assert not {prompt.text for prompt in dev} & {prompt.text for prompt in train}
        whole = [
            text
            for stem in ("color", "spatial")
            for text in as_the_generator_reads(official / f"{stem}_train.txt")
        ]
        parts = {prompt.text for prompt in (*train, *dev) if prompt.category in ("color", "2D-spatial")}
        assert parts == set(whole)
        if not count:
            assert len(train) == 6 * 700, "repeated prompts stay, as in the official file"
    assert {
        "a conical birthday hat and a spherical piñata",
        "A person is wearing sunglasses and people-watching at a café.",
    } <= {prompt.text for prompt in train}


def test_lines_are_read_as_the_generator_reads_them(root: Path) -> None:
    (root / "color_val.txt").write_bytes(
        "a dog \r\n  a cat\tcat\t2\r\na café\x0ba  cup\ra dog \u2028last".encode()
    )
    prompts = [prompt.text for prompt in bench(root, categories=["color"]).prompts("val")]
    assert prompts == as_the_generator_reads(root / "color_val.txt")
    assert prompts == ["a dog ", "  a cat", "a café", "a  cup", "a dog ", "last"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a dog\r\n\r\na cat", r"line 2 of .*color_val\.txt holds no prompt: take the line out"),
        (b"a dog\n\tnote\n", r"line 2 of .*color_val\.txt holds no prompt"),
        (b"", r"color_val\.txt is empty: take the file as it was published"),
        (b"a caf\xe9", r"color_val\.txt is not UTF-8 text .*: convert it"),
    ],
)
def test_a_damaged_file_is_named(root: Path, content: bytes, message: str) -> None:
    (root / "color_val.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        bench(root).prompts("val")


def test_ids_stay_when_less_is_asked_for(root: Path) -> None:
    few, all_ = bench(root, n_prompts=2), bench(root)
    for split in ("val", "dev", "train"):
        chosen = few.prompts(split)
        assert len(chosen) == 2 * 6
        assert set(map(repr, chosen)) <= set(map(repr, all_.prompts(split)))
    assert [prompt.id for prompt in few.prompts("val")][2:4] == ["shape/0000", "shape/0001"]


def test_dev_lies_evenly_over_the_train_file_and_holds_no_text_of_train(root: Path) -> None:
    texts = [*(f"prompt {number}" for number in range(10)), "prompt 0", "prompt 3", "prompt 3"]
    (root / "color_train.txt").write_text("\n".join(texts))
    benchmark = bench(root, categories=["color"], dev_per_category=3)
    assert [(prompt.id, prompt.text) for prompt in benchmark.prompts("dev")] == [
        (f"color/train/{line:04d}", f"prompt {line}") for line in (0, 3, 6)
    ]
    assert [prompt.text for prompt in benchmark.prompts("train")] == [
        f"prompt {number}" for number in (1, 2, 4, 5, 7, 8, 9)
    ]
    with pytest.raises(
        ValueError, match=r"dev_per_category=10 leaves no color prompt to train on: 10 are distinct"
    ):
        bench(root, categories=["color"], dev_per_category=10).prompts("train")


def test_caption_lists_join_the_train_prompts_only(root: Path, tmp_path: Path) -> None:
    (tmp_path / "laion.txt").write_text("a castle \n\n by the sea\r\nfog\n")
    benchmark = bench(root, captions=[str(tmp_path / "laion.txt")], dev_per_category=0)
    added = benchmark.prompts("train")[6 * 12 :]
    assert added == [
        Prompt(id=f"laion/{line:06d}", text=text, category="laion")
        for line, text in enumerate(("a castle", "by the sea", "fog"))
    ]
    assert {prompt.category for split in ("val", "dev") for prompt in benchmark.prompts(split)} == set(PAPER)
    assert benchmark.categories == tuple(PAPER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"root": "/nowhere"},
            "T2I-CompBench's prompts are not here, benchmarks.root=/nowhere is no folder: fetch "
            "it with `python -m",
        ),
        ({"annotations": "/nowhere"}, "benchmarks.annotations=/nowhere: there is no such file"),
        ({"color_val": "2024"}, "benchmarks.color_val=2024: give 2025-09-03, 2023, or null"),
        ({"categories": ["colour"]}, "benchmarks.categories=['colour']: give one or more of color, shape,"),
        ({"categories": []}, "benchmarks.categories=[]"),
        ({"dev_per_category": -1}, "benchmarks.dev_per_category=-1: give a whole number from 0"),
        ({"n_prompts": 0}, "benchmarks.n_prompts=0: give a whole number from 1"),
        (
            {"captions": "laion.txt"},
            "benchmarks.captions='laion.txt': give a list of text files, [FILE, ...]",
        ),
        ({"captions": ["/nowhere/laion.txt"]}, "benchmarks.captions: /nowhere/laion.txt is no file"),
        (
            {"captions": ["a/laion.txt", "b/laion.txt"]},
            "benchmarks.captions=['a/laion.txt', 'b/laion.txt']: two files have one name",
        ),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        bench(**{"root": root, **changes})
    assert str(caught.value).startswith(message)


def test_missing_files_are_named(root: Path) -> None:
    (root / "spatial_val.txt").unlink()
    (root / "complex_train.txt").unlink()
    with pytest.raises(
        ValueError,
        match=r"lacks spatial_val\.txt, complex_train\.txt: fetch it .*set T2I_COMPBENCH_DIR to examples",
    ):
        bench(root)
    assert bench(root, categories=["color"]).prompts("val")


def test_annotations_become_facts(root: Path, tmp_path: Path) -> None:
    text = "train color number 3"
    row = {"task_type": "color", "prompt": text, "nouns": ["number"], "attr_nouns": ["color number"]}
    (tmp_path / "annotations.json").write_text(json.dumps(row) + "\n")
    prompts = bench(root, annotations=str(tmp_path / "annotations.json"), dev_per_category=0).prompts("train")
    assert {prompt.text: prompt.facts for prompt in prompts if prompt.facts} == {
        text: {"nouns": ["number"], "attributes": ["color number"]}
    }


def test_it_knows_every_text_of_a_category_and_the_protocol(root: Path) -> None:
    few = bench(root, n_prompts=1)
    assert few.texts("color") == {f"val color number {n}" for n in range(3)} | {
        f"train color number {n}" for n in range(12)
    }
    assert (few.images_per_prompt, few.first_seed) == (10, 42)


def test_there_is_nothing_to_imitate(root: Path) -> None:
    with pytest.raises(ValueError, match=r"no chains and images to imitate: train on GoT data with data=got"):
        bench(root).records(0, 10)


def cell(root: Path, captions: list[str] | None = None) -> dict[str, str]:
    """Stage -> key of a frozen toy policy on the benchmark."""
    config = {
        "policies": {"_target_": "mini_compbench.Nothing"},
        "trainers": {"_target_": "harness.trainers.recipes.Frozen"},
        "benchmarks": {
            "_target_": "benchmarks.t2i_compbench.benchmark.T2ICompBench",
            "root": str(root),
            "categories": ["color"],
            "color_val": None,
            "dev_per_category": 1,
            "n_prompts": None,
            "captions": captions or [],
            "annotations": None,
        },
        "rewards": {"total": "low", "components": {"low": {"_target_": "mini_world.LowCodes"}}},
        "evaluation": {**CHOSEN, **READ, "images_per_prompt": 1, "batch_size": 1, "rollout": ROLLOUT},
        "rollout": ROLLOUT,
        "seed": 0,
        "sft_seed": 0,
    }
    return {stage.name: key(stage) for stage in plan_stages(config)}


def test_the_files_count_by_content_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    write_prompts(tmp_path / "elsewhere")
    before = cell(root)
    assert cell(tmp_path / "elsewhere") == before
    (root / "color_val.txt").write_text("another prompt")
    after = cell(root)
    assert after["start"] == before["start"]
    assert after["samples"] != before["samples"] and after["scores"] != before["scores"]
    (tmp_path / "captions.txt").write_text("a castle")
    with_captions = cell(root, [str(tmp_path / "captions.txt")])
    (tmp_path / "captions.txt").write_text("a tower")
    assert (
        len(
            {keys["samples"] for keys in (after, with_captions, cell(root, [str(tmp_path / "captions.txt")]))}
        )
        == 3
    )


def test_no_prompt_file_is_in_the_project(official: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    published = {hashlib.sha256(path.read_bytes()).hexdigest() for path in official.rglob("*_*.txt")}
    ours = [
        path
        for top in ("benchmarks", "harness", "tests", "policies", "rewards")
        for path in (root / top).rglob("*.txt")
    ]
    assert not [path for path in ours if hashlib.sha256(path.read_bytes()).hexdigest() in published]
