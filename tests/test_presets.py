"""`preset=paper_1b` and `preset=paper_7b` are the paper's setting in one word, and leave the others
as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness import command
from harness.composition.arguments import UsageError
from harness.types import Cell, Stage

LAYERS = {"self_attn": "qkvo", "mlp": ("gate", "up", "down")}


pytestmark = pytest.mark.usefixtures("prompt_files")


FILES = "${oc.env:T2I_COMPBENCH_DIR}"
GOT = (f"data.sources.lahr.shards={FILES}/got.json", f"data.sources.lahr.images={FILES}/pictures")


def planned(*words: str) -> Cell:
    return command.choose(list(words)).cell


def stage(cell: Cell, name: str) -> Stage:
    return next(one for one in cell.stages if one.name == name)


def within(settings: Any, expected: Any) -> None:
    """Every expected number is there; what is not expected may be anything."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            within(settings[name], value)
    else:
        assert settings == expected


PAPER = {
    "grpo": {
        "steps": 1000,
        "prompts": 8,
        "samples": 16,
        "learning_rate": 1e-5,
        "lora": {"rank": 32, "alpha": 32},
    },
    "sft": {"steps": 70000, "records": None},
    "rollout": {"text_temperature": 1.0, "image_temperature": 1.0, "max_chain_tokens": 600},
    "evaluation": {
        "split": "val",
        "rollout": {"guidance": 5.0, "text_temperature": 1.0, "max_chain_tokens": 600},
    },
}


@pytest.mark.parametrize(("size", "rows"), [("1b", 24), ("7b", 30)])
def test_a_study_with_the_papers_preset_is_the_papers_setting(size: str, rows: int) -> None:
    cell = planned("ablations=reward_components", f"preset=paper_{size}", "arm=full", *GOT)
    within(cell.config, PAPER)
    assert [one.name for one in cell.stages] == ["checkpoint", "tokens", "sft", "grpo", "samples", "scores"]
    assert stage(cell, "samples").settings["evaluation"]["images_per_prompt"] == 10
    assert stage(cell, "checkpoint").settings["repository"] == f"deepseek-ai/Janus-Pro-{size.upper()}"
    grpo = stage(cell, "grpo").settings
    assert grpo["benchmark"]["categories"] == [
        "color",
        "shape",
        "texture",
        "2D-spatial",
        "non-spatial",
        "complex",
    ]
    assert grpo["rewards"]["total"] == "pi * (sem + spa) / 2 * ri"
    assert grpo["policy"]["recompute"] is True
    judge = grpo["rewards"]["components"]["pi"]["judge"]
    assert judge == grpo["rewards"]["components"]["ri"]["grounder"]["model"]
    assert judge["model"] == "Qwen/Qwen2.5-VL-7B-Instruct" and judge["_target_"].endswith("ServerJudge")
    targets = re.compile(grpo["grpo"]["lora"]["targets"])
    names = [
        f"model.language_model.layers.{row}.{part}.{one}_proj"
        for row in range(rows)
        for part, ones in LAYERS.items()
        for one in ones
    ]
    assert all(map(targets.fullmatch, names))
    others = (
        "lm_head",
        "model.vision_model.encoder.layers.0.self_attn.q_proj",
        "model.aligner.fc1",
        "model.generation_head.vision_head",
    )
    assert not any(map(targets.fullmatch, others))


def test_the_command_line_and_the_arms_win() -> None:
    cell = planned(
        "ablations=reward_components",
        "preset=paper_1b",
        "arms=baseline",
        "evaluation.images_per_prompt=2",
        "judge=qwen2_5_vl",
        *GOT,
    )
    assert cell.config["evaluation"]["images_per_prompt"] == 2
    assert [one.name for one in cell.stages] == ["checkpoint", "tokens", "sft", "samples", "scores"]
    assert cell.config["rewards"]["components"]["pi"]["judge"]["_target_"].endswith("MllmJudge")
    ours = planned("preset=paper_1b", "benchmarks=shapes", "judge=oracle", "grounder=oracle", "sft.steps=0")
    assert ours.config["rewards"]["components"]["ri"]["grounder"] == {
        "_target_": "benchmarks.shapes.oracle.OracleGrounder"
    }
    assert ours.config["grpo"]["samples"] == 16


@pytest.mark.parametrize("word", ["trainers=grpo", "sft.steps=0"])
def test_grpo_may_start_from_a_checkpoint_that_writes_chains(word: str) -> None:
    cell = planned("preset=paper_7b", "policies=got_r1_7b", word)
    assert [one.name for one in cell.stages] == ["checkpoint", "grpo", "samples", "scores"]
    assert stage(cell, "grpo").inputs == {"start": stage(cell, "checkpoint")}


def test_the_miniature_and_its_experts_stay() -> None:
    for preset in ("miniature", "smoke"):
        config = planned(f"preset={preset}").config
        assert config["policies"]["_target_"] == "policies.janus.recipe.TinyJanus"
        assert config["benchmarks"]["_target_"] == "benchmarks.shapes.benchmark.Shapes"
        components = config["rewards"]["components"]
        assert components["pi"]["judge"]["_target_"] == "benchmarks.shapes.simulated.SimulatedJudge"
        assert components["ri"]["grounder"] == {"_target_": "benchmarks.shapes.oracle.OracleGrounder"}
        assert config["grpo"]["lora"] is None and config["evaluation"]["rollout"]["guidance"] == 1.0


def test_exact_experts_are_one_word_away() -> None:
    config = planned("rewards=conventional", "judge=oracle", "clip=oracle", "phrase_grounder=oracle").config
    components = config["rewards"]["components"]
    assert components["sem"]["judge"] == {"_target_": "benchmarks.shapes.oracle.OracleJudge"}
    assert components["clip"]["similarity"] == {"_target_": "benchmarks.shapes.oracle.OracleSimilarity"}
    assert components["ri"]["grounder"] == {"_target_": "benchmarks.shapes.oracle.OracleGrounder"}


def test_an_error_of_the_judge_retrains_what_it_judges_and_nothing_else() -> None:
    usual, other = planned(), planned("benchmarks.simulated.judge.picture_spread=1")
    for name in ("tokenizer", "tokens", "sft"):
        assert stage(usual, name) == stage(other, name)
    assert stage(usual, "grpo") != stage(other, "grpo")
    with pytest.raises(UsageError, match=r"judge\.picture_attributes=2: give a share from 0 to 1"):
        planned("benchmarks.simulated.judge.picture_attributes=2")


def test_a_benchmark_without_exact_experts_names_real_ones() -> None:
    judge = planned("benchmarks=t2i_compbench", "rewards.total=pi", "trainers=grpo").config["rewards"][
        "components"
    ]["pi"]["judge"]
    assert judge["_target_"].endswith("ServerJudge")
    with pytest.raises(
        UsageError,
        match=r"refers to benchmarks\.oracle\.judge, which does not exist: .*judge=.* do not fit together",
    ):
        planned("benchmarks=t2i_compbench", "judge=oracle", "trainers=grpo")


def test_with_the_papers_preset_too_geneval_has_four_images_a_prompt(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.setenv("GENEVAL_DIR", str(data_dir / "geneval"))
    cell = planned("preset=paper_1b", "benchmarks=geneval", "trainers=frozen")
    assert stage(cell, "samples").settings["evaluation"]["images_per_prompt"] == 4
    with pytest.raises(UsageError, match=r"GenEval has no split 'train', only val"):
        planned("preset=paper_1b", "benchmarks=geneval", "trainers=grpo")


def test_without_the_prompts_the_message_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("T2I_COMPBENCH_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing fetched"))
    with pytest.raises(
        UsageError,
        match=r"in arm full, seed 0: .*fetch it with .*harness\.fetch t2i_compbench.*set "
        r"T2I_COMPBENCH_DIR to",
    ):
        planned("ablations=reward_components", "preset=paper_1b", "arms=full")


def test_without_got_data_the_message_says_what_to_name() -> None:
    with pytest.raises(
        UsageError, match=r"data=got reads files and none are named: give data\.sources\.lahr\.shards"
    ):
        planned("ablations=reward_components", "preset=paper_1b", "arms=full")


def test_with_the_published_prompts_there_are_as_many_as_in_the_paper(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    from harness.composition.components import make

    monkeypatch.setenv("T2I_COMPBENCH_DIR", str(data_dir / "t2i_compbench"))
    benchmark = make(
        planned("ablations=reward_components", "preset=paper_1b", "arms=full", "sft.steps=0").config[
            "benchmarks"
        ]
    )
    assert len(benchmark.prompts("val")) == 6 * 300
    assert len(benchmark.prompts("dev")) == 6 * 60
    assert len({prompt.text for split in ("train", "dev") for prompt in benchmark.prompts(split)}) > 6 * 670


@pytest.mark.parametrize("policy", ["sd15", "sdxl", "sd3", "flux"])
def test_a_policy_that_cannot_be_trained_is_refused_unless_frozen(policy: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be trained.*Use trainers=frozen"):
        planned("preset=paper_1b", f"policies={policy}")
    assert [
        one.name for one in planned("preset=paper_1b", f"policies={policy}", "trainers=frozen").stages
    ] == [
        "pipeline",
        "samples",
        "scores",
    ]


def test_systems_of_the_main_table_are_drawn_as_they_are() -> None:
    arms = {"flux": None, "janus_pro_7b": False, "got_r1_1b": True}
    cells = {arm: planned("ablations=main_table", "preset=paper_1b", f"arms={arm}") for arm in arms}
    assert {arm: cell.config["policies"].get("plans") for arm, cell in cells.items()} == arms
    assert {len(cell.stages) for cell in cells.values()} == {3}
