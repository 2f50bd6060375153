"""The stages of interventions and of cells that draw nothing: shared, and refused where senseless."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra

from harness.composition.arguments import UsageError
from harness.stages.keys import facts, key
from harness.study import planning
from harness.types import Cell, Stage

Plan = Callable[..., dict[str, Cell]]


@pytest.fixture
def planned(tmp_path: Path) -> Iterator[Plan]:
    """`planned(WORD, ...)`: the cells by arm."""
    with initialize(version_base="1.3", config_path=None):

        def plan(*words: str) -> dict[str, Cell]:
            arguments = [f"outputs_dir={tmp_path}", *words]
            config = compose("config", arguments, return_hydra_config=True)
            cells = planning.expand(config, arguments)
            study = planning.plan(config, GlobalHydra.instance().config_loader(), cells)
            return {cell.arm: cell for cell in study.cells}

        yield plan


def stages(cell: Cell) -> dict[str, Stage]:
    return {stage.name: stage for stage in cell.stages}


def keys(cell: Cell, *names: str) -> set[str]:
    return {key(stage) for stage in cell.stages if stage.name in names}


def test_arms_of_one_checkpoint_share_it_and_its_chains(planned: Plan) -> None:
    cells = planned("ablations=plan_interventions")
    trained = keys(cells["own"], "tokenizer", "tokens", "sft", "grpo", "chains")
    assert len(trained) == 5
    for arm, cell in cells.items():
        if not arm.startswith("sft_"):
            assert trained <= keys(cell, "tokenizer", "tokens", "sft", "grpo", "chains"), arm
    assert keys(cells["sft_own"], "sft") == keys(cells["own"], "sft")
    assert keys(cells["verify_2"], "chains-1") == keys(cells["verify_5"], "chains-1")
    assert keys(cells["fresh"], "chains-1") == keys(cells["verify_5"], "chains-1")
    assert len(keys(cells["verify_5"], "chains-1", "chains-2", "chains-3", "chains-4")) == 4
    assert key(stages(cells["swap"])["samples"].inputs["own"]) == key(stages(cells["own"])["samples"])


def test_an_intervention_leaves_training_and_plain_samples_as_they_are(planned: Plan) -> None:
    plain = planned("ablations=reward_components", "arms=full")["full"]
    chosen = planned("ablations=plan_interventions", "arms=own")["own"]
    assert keys(plain, "sft", "grpo") == keys(chosen, "sft", "grpo")
    read = planned("ablations=reward_components", "arms=full", "evaluation.reading.roles=order")["full"]
    assert keys(plain, "samples", "scores") == keys(read, "samples", "scores")
    some = planned("ablations=reward_components", "arms=full", "evaluation.categories=[color]")["full"]
    assert keys(plain, "sft", "grpo") == keys(some, "sft", "grpo")
    assert keys(plain, "samples") != keys(some, "samples")


def test_the_code_of_an_intervention_counts_in_the_samples_of_its_arms_alone(planned: Plan) -> None:
    cells = planned("ablations=plan_interventions", "arms=[swap,margin_50]")

    def interventions(arm: str, stage: str) -> set[str]:
        files = facts(stages(cells[arm])[stage])["sources"]
        return {Path(file).stem for file in files if file.startswith("harness/interventions/")}

    assert "swap" in interventions("swap", "samples") and "margin" in interventions("margin_50", "samples")
    assert "margin" not in interventions("swap", "samples")
    for stage in ("grpo", "chains", "scores"):
        assert {"swap", "margin"}.isdisjoint(interventions("swap", stage)), stage


def test_a_cell_that_draws_nothing_ends_at_its_chains(planned: Plan) -> None:
    full = planned("ablations=reward_components", "arms=full", "evaluation.draw=false")["full"]
    assert full.stages[-1].name == "chains"
    assert {"samples", "scores"}.isdisjoint(stages(full))


def test_captions_count_by_content(planned: Plan, tmp_path: Path) -> None:
    def chains(name: str, text: str) -> set[str]:
        (tmp_path / name).write_text(text)
        words = ("evaluation.draw=false", f"evaluation.captions={tmp_path / name}")
        return keys(planned("ablations=reward_components", "arms=full", *words)["full"], "chains")

    assert chains("one.txt", "a boat") == chains("two.txt", "a boat") != chains("three.txt", "a lake")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["policies=sd15", "trainers=frozen", "intervention=swap"], "draws from the prompt alone, and"),
        (["policies=sd15", "trainers=frozen", "evaluation.draw=false"], "draws from the prompt alone, and"),
        (
            ["policies=janus_pro_1b_plain", "trainers=frozen", "intervention=boxless"],
            r"writes no chain \(policies\.plans=false\)",
        ),
        (["intervention=margin", "intervention.margin=1.2"], r"intervention\.margin=1\.2: give a share"),
        (["intervention=verify", "intervention.candidates=0"], r"intervention\.candidates=0: give a whole"),
        (["intervention=fresh", "evaluation.rollout.text_temperature=0"], "all candidates are equal"),
        (["intervention=own", "evaluation.draw=false"], r"evaluation\.draw=false draws nothing"),
        (["intervention=own", "evaluation.reading.rule=left"], "allowed are own and center"),
        (["evaluation.draw=0"], r"evaluation\.draw=0: give true or false"),
        (["evaluation.captions=file.txt"], r"evaluation\.captions=file\.txt"),
        (["evaluation.categories=[colour]"], r"colour.*color"),
        (["evaluation.prompts_per_category=0"], r"prompts_per_category=0: give a whole number"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_at_planning(planned: Plan, words: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        planned(*words)


def test_an_unknown_intervention_is_named_with_the_nearest(planned: Plan) -> None:
    from harness.sweep import main

    assert main(["intervention=margn", "-m"]) != 0
