from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate
from PIL import Image

from benchmarks.shapes.benchmark import SPLITS, Shapes
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.oracle import OracleGrounder, OracleJudge
from benchmarks.shapes.prompts import CATEGORIES
from benchmarks.shapes.vocabulary import UNSEEN_COLORS, UNSEEN_TEXTURES, read_attributes
from harness.chain import parse
from harness.types import Prompt, Record, Sample, Tokens

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load((ROOT / "benchmarks" / "shapes.yaml").read_text())


def make(**changes) -> Shapes:
    return instantiate({**CONFIG, **changes})


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return make()


@pytest.fixture(scope="module")
def records(shapes) -> list[Record]:
    return list(shapes.records(0, 4000))


def sample(prompt: Prompt, image: Image.Image, chain: str = "") -> Sample:
    return Sample(
        prompt=prompt,
        chain=parse(chain),
        image=image,
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=0,
    )


def scores(shapes: Shapes, records: list[Record]) -> list[float | None]:
    return [
        score.value
        for score in shapes.score([sample(record.prompt, record.image, record.chain) for record in records])
    ]


def test_splits_are_disjoint_unique_and_of_the_stated_sizes(shapes):
    texts = {split: [prompt.text for prompt in shapes.prompts(split)] for split in SPLITS}
    assert {split: len(texts[split]) for split in SPLITS} == {"train": 2400, "dev": 360, "val": 3840}
    assert len({text for split in SPLITS for text in texts[split]}) == 2400 + 360 + 3840
    val = [prompt for prompt in shapes.prompts("val") if prompt.category == "shape"]
    assert [prompt.id for prompt in val] == [f"shape-val-{index:04d}" for index in range(640)]
    assert shapes.categories == CATEGORIES


def test_unseen_pairs_are_in_a_quarter_of_val_and_in_no_other_prompt(shapes, records):
    for category in CATEGORIES:
        val = [prompt for prompt in shapes.prompts("val") if prompt.category == category]
        assert sum(prompt.facts["unseen"] for prompt in val) == 160
    assert not any(prompt.facts["unseen"] for split in ("train", "dev") for prompt in shapes.prompts(split))
    shown = [read_attributes(thing.name) for record in records for thing in parse(record.chain).objects]
    assert {(look.color, look.shape) for look in shown} >= UNSEEN_COLORS, "the records are to show every pair"
    assert {(look.texture, look.shape) for look in shown} >= UNSEEN_TEXTURES


def test_prompts_are_fixed_by_the_seed_in_any_process(shapes):
    program = "import sys, yaml; from hydra.utils import instantiate; " + (
        "print([p.text for s in ('val', 'train') for p in "
        "instantiate(yaml.safe_load(open('benchmarks/shapes.yaml'))).prompts(s)])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "123"},
        capture_output=True,
        check=True,
    )
    assert out.stdout.decode().strip() == str(
        [prompt.text for split in ("val", "train") for prompt in shapes.prompts(split)]
    )
    assert [prompt.text for prompt in make(prompt_seed=1).prompts("val")] != [
        prompt.text for prompt in shapes.prompts("val")
    ]


def test_n_prompts_takes_the_first_of_each_category_and_val_ignores_the_other_sizes(shapes):
    few = make(n_prompts=3, train_per_category=5, categories=["2D-spatial", "color"])
    assert [prompt.id for prompt in few.prompts("val")] == [
        f"{category}-val-{index:04d}" for category in ("2D-spatial", "color") for index in range(3)
    ]
    texts = {prompt.id: prompt.text for prompt in shapes.prompts("val")}
    assert all(texts[prompt.id] == prompt.text for prompt in few.prompts("val"))


def test_records_are_a_stream_fixed_by_its_seed(shapes, records):
    again = list(islice(shapes.records(0, 10**9), 50))
    assert [(r.prompt, r.chain, r.image.tobytes()) for r in again] == [
        (r.prompt, r.chain, r.image.tobytes()) for r in records[:50]
    ]
    assert [r.chain for r in shapes.records(1, 50)] != [r.chain for r in again]
    held_out = {prompt.text for split in ("dev", "val") for prompt in shapes.prompts(split)}
    assert not any(record.prompt.text in held_out for record in records)


def test_faithful_records_score_one_and_unfaithful_ones_less(shapes, records):
    for record, value in zip(records, scores(shapes, records), strict=True):
        assert (value == 1) == record.faithful, (record.prompt.text, record.chain)


def test_the_share_of_unfaithful_records_is_as_stated(records):
    assert sum(not record.faithful for record in records) / len(records) == pytest.approx(0.3, abs=0.03)
    assert all(record.faithful for record in make(unfaithful_share=0.0).records(0, 200))
    assert not any(record.faithful for record in make(unfaithful_share=1.0).records(0, 200))


def test_chain_and_picture_of_every_record_agree(records):
    grounder = OracleGrounder()
    for record in records[:1000]:
        plan = parse(record.chain)
        assert not plan.faults and plan.objects
        found = grounder.locate([record.image] * len(plan.objects), [thing.name for thing in plan.objects])
        assert all(thing.box in boxes for thing, boxes in zip(plan.objects, found, strict=True))


def test_chains_are_short():
    record = next(
        record
        for record in make(unfaithful_share=0.0).records(0, 50)
        if record.prompt.category == "2D-spatial"
    )
    assert record.chain.endswith(".<begin_of_image>") and len(parse(record.chain).bare_text.split()) <= 14


def test_a_prompt_of_another_world_is_unscored(shapes):
    blank = Image.new("RGB", (24, 24), "white")
    own = shapes.prompts("val")[0]
    typed, foreign, empty = shapes.score(
        [
            sample(Prompt(id="typed", text="a cat", category="color"), blank),
            sample(Prompt(id="foreign", text="a cat", category="numeracy", facts=own.facts), blank),
            sample(own, blank),
        ]
    )
    assert typed.value is None and "typed" in typed.unscored and foreign.value is None
    assert empty.value == 0


def test_evidence_and_facts_are_plain_json(shapes, records):
    for score in shapes.score([sample(record.prompt, record.image) for record in records[:100]]):
        assert json.loads(json.dumps(score.evidence)) == score.evidence
    for prompt in shapes.prompts("val"):
        assert json.loads(json.dumps(prompt.facts)) == prompt.facts
        assert Facts.read(prompt.facts).plain() == prompt.facts


def test_the_oracle_is_made_with_the_benchmark(shapes):
    assert isinstance(shapes.oracle["judge"], OracleJudge) and isinstance(
        shapes.oracle["grounder"], OracleGrounder
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": ["colour"]}, r"\['colour'\]; give one or more of color, shape"),
        ({"categories": []}, "give one or more of"),
        ({"categories": ["color", "color"]}, "each once"),
        ({"val_per_category": 0}, "val_per_category=0: give a whole number from 1"),
        ({"n_prompts": 0}, "n_prompts=0: give a whole number from 1, or null for all prompts"),
        ({"unfaithful_share": 1.5}, "unfaithful_share=1.5: give a share from 0 to 1"),
    ],
)
def test_wrong_settings_say_what_is_allowed(changes, message):
    arguments = {key: value for key, value in {**CONFIG, **changes}.items() if key != "_target_"}
    with pytest.raises(ValueError, match=message):
        Shapes(**arguments)


def test_unknown_split(shapes):
    with pytest.raises(ValueError, match="no split 'test'; it has train, dev and val"):
        shapes.prompts("test")


def test_too_many_prompts_asked_for():
    with pytest.raises(ValueError, match=r"too few different prompts.*lower benchmarks"):
        make(categories=["2D-spatial"], val_per_category=20_000, unseen_share=0.0).prompts("val")


def test_making_it_imports_neither_torch_nor_scipy():
    program = (
        "import sys, yaml; from hydra.utils import instantiate; "
        "instantiate(yaml.safe_load(open('benchmarks/shapes.yaml'))); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
