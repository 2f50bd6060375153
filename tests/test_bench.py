from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from mini_world import REWARDS, grpo_settings

from harness import bench
from harness.composition import groups
from harness.composition.arguments import UsageError
from harness.protocols import Benchmark, Race
from harness.stages import provenance
from harness.trainers import bench as steps
from harness.trainers import frozen_start
from harness.trainers.grpo import Grpo
from harness.types import Score, Stage

TOY = Path(__file__).resolve().parent / "toy"
sys.path.append(str(TOY))
from toy_parts import ToyBenchmark, ToyPolicy  # noqa: E402


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Measures the toy world, with no benchmark beside it; returns exit code, lines of stdout, stderr."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(groups, "classes", lambda group: {})

    def run(*words: str) -> tuple[int, list[str], str]:
        code = bench.main(
            [*words, "--config-dir", str(TOY), "ablations=toy", f"outputs_dir={tmp_path / 'outputs'}"]
        )
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_every_figure_names_machine_threads_precision_and_batch(command):
    code, lines, _ = command()
    assert code == 0
    assert [line.split("  ")[0] for line in lines] == [
        "rollout",
        "rollout, chains",
        "rollout, images",
        "climb",
        "score",
        "reward",
    ]
    for line in lines:
        for part in ("batch", "5 repeats", "1 thread, precision of the checkpoint", provenance.hardware()):
            assert part in line


def test_rollouts_are_raced_against_other_systems(command, monkeypatch):
    begun = []

    def races():
        for samples in (8, 32):
            yield Race(
                work="a middling model",
                setting=f"{samples} samples",
                amount=samples,
                unit="samples",
                counts={"chain": 100, "image": 300},
                count_unit="tokens",
                systems={
                    "theirs": lambda: begun.append("theirs") or {"chain": 10.0, "image": 30.0},
                    "ours": lambda: begun.append("ours") or {"chain": 4.0, "image": 12.0},
                },
                floor_s=lambda: 8.0,
            )

    module = ModuleType("raced")
    module.races = races
    monkeypatch.setitem(sys.modules, "raced", module)
    monkeypatch.setattr(ToyPolicy, "races", "raced.races")
    code, lines, _ = command("rollout")
    assert code == 0 and begun == ["theirs", "ours"] * 2
    work, theirs, ours, *_ = lines[3:]
    assert work.startswith("a middling model; 1 thread; ") and len(lines) == 3 + 1 + 4
    assert theirs.split(";")[0].split() == [
        "8",
        "samples",
        "theirs",
        "0.200",
        "samples/s",
        "1.00",
        "x",
        "theirs",
    ]
    assert ours.split(";")[:3] == [
        "8 samples            ours        0.500 samples/s  2.50 x theirs",
        " chain 25 tokens/s, image 25 tokens/s",
        " 16.0 s, 50 % of what the device allows",
    ]
    assert ours.split("peak ")[1].endswith(" MB")


class Racing(Benchmark):
    """A benchmark of the group that would refuse to be constructed."""

    def __init__(self) -> None:
        raise ValueError("a folder is missing")

    races = "mini_races.races"


class Silent(Racing):
    races = None


def test_scoring_is_raced_by_every_benchmark_that_has_races(command, monkeypatch):
    seen = []
    benchmarks = {"racing": Racing, "again": Racing, "silent": Silent, "toy": ToyBenchmark}
    monkeypatch.setattr(groups, "classes", lambda group: seen.append(group) or benchmarks)
    code, lines, _ = command("score")
    assert code == 0 and seen == ["benchmarks"]
    assert [line.split("  ")[0] for line in lines[:2]] == ["score", "reward"]
    questions, *laps, rules, alone = lines[2:]
    assert questions.startswith("questions; 1 thread; ") and rules.startswith("rules; 1 thread; ")
    assert [lap.split("; peak")[0] for lap in laps] == [
        "20 images            official         1.667 images/s  1.00 x official; 13 answers/s; 12.0 s",
        "20 images            image once       5.000 images/s  3.00 x official; 40 answers/s; 4.00 s",
        "20 images            blanks skipped   3.333 images/s  2.00 x official; 27 answers/s; 6.00 s",
        "20 images            ours            10.000 images/s  6.00 x official; 80 answers/s; 2.00 s",
    ]
    assert alone.startswith(
        "3000 images          rules      12,000 images/s; match 36,000 boxes/s; 0.25 s; peak "
    )


def test_the_chosen_benchmark_races_too(command, monkeypatch):
    monkeypatch.setattr(ToyBenchmark, "races", Racing.races)
    _, lines, _ = command("score")
    assert len(lines) == 2 + 5 + 2


def test_steps_are_timed_in_a_folder_that_is_thrown_away(command, tmp_path):
    code, (line,), _ = command("grpo", "trainers.pause_s=0.02")
    assert code == 0
    rate, unit = line.split()[1:3]
    assert unit == "steps/min" and 60 / 0.2 < float(rate.replace(",", "")) < 60 / 0.02
    assert sorted(path.name.rpartition("-")[0] for path in (tmp_path / "outputs" / "stages").iterdir()) == [
        "base",
        "warm",
    ]


def test_too_few_steps_are_no_measurement(command):
    code, lines, err = command("grpo", "trainers.steps=1")
    assert (code, lines) == (2, [])
    assert "too few steps to be timed" in err


def test_a_figure_is_the_median():
    figure = bench.Figure(name="x", amount=10, unit="things/s", seconds=[4.0, 2.0, 100.0], setting="batch 2")
    assert str(figure).split() == [
        "x",
        "2.50",
        "things/s",
        "4",
        "s",
        "(2",
        "to",
        "100,",
        "3",
        "repeats);",
        "batch",
        "2",
    ]


def test_names_come_first_and_are_known():
    assert bench.read_words(["score", "rollout", "score", "seed=1"]) == (["score", "rollout"], ["seed=1"])
    assert bench.read_words(["preset=smoke"]) == (["rollout", "grpo", "score"], ["preset=smoke"])
    with pytest.raises(UsageError, match=r"unknown bench 'rolout'\. Did you mean 'rollout'\?"):
        bench.read_words(["rolout"])


def test_variants_are_of_grpo_alone(command):
    code, lines, err = command("variants")
    assert (code, lines) == (2, [])
    assert "the bench variants is of GRPO, and the stage climb runs toy_parts.train" in err
    assert "use trainers=sft_grpo or trainers=grpo" in err


@pytest.fixture
def variants(monkeypatch, janus_folder, capsys):
    """Measures the variants of GRPO on a tiny Janus, in two rounds; returns lines of stdout and stderr."""
    monkeypatch.setattr(steps, "ROUNDS", 2)
    monkeypatch.setattr(bench.command, "obtain", lambda stage, store: janus_folder.parent)
    brief = ModuleType("brief")
    brief.Brief = Brief
    monkeypatch.setitem(sys.modules, "brief", brief)

    def run(rollout: dict, components: dict) -> tuple[list[str], list[str]]:
        settings = {
            **grpo_settings(rollout),
            "rewards": {"total": " * ".join(components), "components": components},
        }
        start = Stage(name="sft", program="harness.trainers.sft.train", settings={})
        stage = Stage(name="grpo", program=bench.GRPO, settings=settings, inputs={"start": start})
        lines = list(bench.variants(SimpleNamespace(trained=stage, store=None)))
        return lines, capsys.readouterr().err.splitlines()

    return run


class Brief:
    """1 for a chain of one token, less for longer ones."""

    name = "brief"
    scope = "chain"

    def __call__(self, samples):
        return [Score(value=1 / len(sample.tokens.chain)) for sample in samples]


BRIEF = {"brief": {"_target_": "brief.Brief"}}
ALL = [
    "unchanged",
    "unchanged, again",
    "advantage=gdpo",
    "grpo.credit=causal",
    "grpo.credit=split",
    "grpo.aggregate=stage",
    "grpo.token_weights=guidance",
    "grpo.kl_weight=0",
]


def test_every_variant_is_measured_beside_the_step_unchanged(variants):
    lines, _ = variants({"guidance": 3.0}, REWARDS["components"] | BRIEF)
    assert [line.split("  ")[0] for line in lines] == ALL
    for line in lines:
        assert "x unchanged (" in line and ", 2 rounds); prompts 3, samples 3, inner_epochs 1" in line
    assert "1.000 x unchanged (1.000 to 1.000, 2 rounds)" in lines[0]


def test_variants_that_cannot_act_are_left_out_with_the_reason(variants):
    lines, err = variants({}, REWARDS["components"])
    left_out = [line.partition(" is left out: ") for line in err if " is left out: " in line]
    assert [name for name, _, _ in left_out] == ["grpo.credit=causal", "grpo.token_weights=guidance"]
    assert "names no component of scope chain" in left_out[0][2]
    assert "no effect with rollout.guidance=1.0" in left_out[1][2]
    assert [line.split("  ")[0] for line in lines] == [
        name for name in ALL if name not in {one[0] for one in left_out}
    ]


def test_the_steps_of_a_measurement_leave_the_weights_as_they_are(variants, monkeypatch):
    kept, drawn = [], []

    def load(*args):
        policy, reference = frozen_start.load(*args)
        kept.append(
            (policy.module, {name: value.clone() for name, value in policy.module.state_dict().items()})
        )
        return policy, reference

    class Watched(Grpo):
        def step(self, prompts, step):
            metrics = super().step(prompts, step)
            drawn.append((step, metrics["reward"], metrics["grad_norm"] > 0))
            return metrics

    monkeypatch.setattr(steps, "load", load)
    monkeypatch.setattr(steps, "Grpo", Watched)
    variants({}, REWARDS["components"] | BRIEF)
    ((module, before),) = kept
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())
    assert len(drawn) == (1 + 2) * 7 and len(set(drawn)) == 1
    assert drawn[0][2], "there is a gradient that would move them"


def test_a_ratio_is_the_median_of_the_ratios_of_rounds():
    cost = steps.Cost(
        variant="grpo.credit=split",
        seconds=[2.0, 9.0, 3.3],
        base=steps.UNCHANGED,
        base_seconds=[1.0, 10.0, 3.0],
    )
    assert str(cost) == "grpo.credit=split               3.3 s  1.100 x unchanged (0.900 to 2.000, 3 rounds)"


@pytest.fixture
def waiting(monkeypatch, janus_folder):
    """Measures a step of nine samples whose judge sleeps; returns the lines, and what the runs reported."""
    reported = []
    step = Grpo.step

    def watched(run, prompts, number):
        metrics = step(run, prompts, number)
        reported.append({**metrics, "seconds": 0})
        return metrics

    monkeypatch.setattr(steps, "ROUNDS", 2)
    monkeypatch.setattr(steps, "LATENCY_S", 0.05)
    monkeypatch.setattr(Grpo, "step", watched)
    monkeypatch.setattr(bench.command, "obtain", lambda stage, store: janus_folder.parent)

    def run(**changes):
        start = Stage(name="sft", program="harness.trainers.sft.train", settings={})
        settings = grpo_settings(**changes)
        stage = Stage(name="grpo", program=bench.GRPO, settings=settings, inputs={"start": start})
        return list(bench.waiting(SimpleNamespace(trained=stage, store=None))), reported

    return run


def test_rewards_beside_the_drawing_are_measured_against_rewards_afterwards(waiting):
    (afterwards, beside), reported = waiting()
    assert afterwards.startswith("rewards afterwards ") and beside.startswith("rewards beside drawing ")
    assert "1.000 x rewards afterwards (1.000 to 1.000, 2 rounds)" in afterwards
    assert " x rewards afterwards (" in beside
    for line in (afterwards, beside):
        assert "a judge that sleeps 0.05 s per 16 samples; prompts 3, samples 3" in line
        assert line.endswith("rollout_batch 2")
    assert len(reported) == (1 + 2) * 2 and all(one == reported[0] for one in reported)
    assert reported[0]["zero_spread_groups"] < 3, "the scripted judge teaches something"


def test_a_step_of_one_part_has_nothing_to_wait_beside(waiting):
    with pytest.raises(UsageError, match=r"grpo\.rollout_batch=9 must be below the 9 samples"):
        waiting(rollout_batch=9)


def test_every_round_begins_with_another_run(monkeypatch):
    monkeypatch.setattr(steps, "ROUNDS", 3)
    calls = []
    runs = {
        name: SimpleNamespace(step=lambda prompts, step, name=name: calls.append((name, step)))
        for name in "ab"
    }
    seconds = steps._by_turns(runs, [])
    assert calls == [(name, 0) for name in "abbaabba"]
    assert {name: len(own) for name, own in seconds.items()} == {"a": 3, "b": 3}
