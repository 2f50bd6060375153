from __future__ import annotations

import configparser
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from harness.composition import groups
from harness.composition.arguments import UsageError, asks_hydra, prepare, quote, readable
from harness.composition.components import make
from harness.study import planning
from harness.sweep import main
from harness.types import Metric

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "toy"


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process; returns exit code and what it printed to stderr."""
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def run(*words: str) -> tuple[int, str]:
        safe = ["--config-dir", str(TOY), f"outputs_dir={tmp_path / 'outputs'}", "reports_dir=null"]
        code = main([*safe, *words])
        assert not (tmp_path / "outputs" / "stages").exists()
        return code, capsys.readouterr().err

    return run


@pytest.fixture
def composed():
    """Composes the root configuration as a sweep does, with the overrides of the command line."""
    with initialize(version_base="1.3", config_path=None):
        yield lambda *overrides: compose("config", [*overrides], return_hydra_config=True)


# What an option needs beside it to be a cell; the files are those of `prompt_files`.
FROZEN = ["trainers=frozen"]
FILES = "${oc.env:T2I_COMPBENCH_DIR}"
GOT = [f"data.sources.lahr.shards={FILES}/got.json", f"data.sources.lahr.images={FILES}/pictures"]
NEEDS = {
    "policies=images": [
        *FROZEN,
        "benchmarks=t2i_compbench",
        f"policies.folder={FILES}/pictures",
        "evaluation.images_per_prompt=1",
    ],
    "policies=diffusers": [*FROZEN, "policies.pipeline=owner/name"],
    "grounder=mllm": ["judge=server"],
    "intervention=color_repair": [*FROZEN, "benchmarks=t2i_compbench"],
    "benchmarks=geneval": FROZEN,
    **{f"ratio={name}": ["grpo.inner_epochs=2"] for name in ("sequence", "cispo")},
    **{f"policies={name}": FROZEN for name in ("sd15", "sdxl", "sd3", "flux")},
    **dict.fromkeys(("data=got", "benchmarks=t2i_compbench", "preset=paper_1b", "preset=paper_7b"), GOT),
}
REAL = {"main_table"}  # studies of real checkpoints, which the miniature's settings do not fit
MINIATURE = {"judge_quality", "judge_reliability"}  # need experts of the miniature


pytestmark = pytest.mark.usefixtures("prompt_files")


def children_s() -> float:
    """Processor time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _options():
    return [(group, option) for group, options in groups.options().items() for option in options]


def test_help_lists_every_group_with_every_option_in_time_and_without_torch():
    begin = children_s()
    code = """
import sys
from harness.sweep import main
try:
    main(["--help"])
finally:
    print("torch" in sys.modules)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert children_s() - begin < 10  # seconds of the processor; it takes one
    for group, options in groups.options().items():
        assert f"{group}: {', '.join(sorted(options))}" in shown
    assert shown.rstrip().endswith("False")
    assert {
        "policies",
        "rewards",
        "ablations",
        "benchmarks",
        "cluster",
        "preset",
        "trainers",
        "judge",
    } <= set(groups.options())
    assert "arm.mine=" in shown and "seed=0,1,2" in shown


@pytest.mark.parametrize(
    ("group", "option"), [pair for pair in _options() if pair[0] not in ("ablations", "cluster")]
)
def test_every_configuration_file_composes_into_a_cell(composed, group, option, monkeypatch, request):
    if option == "geneval":
        monkeypatch.setenv("GENEVAL_DIR", str(request.getfixturevalue("data_dir") / "geneval"))
    arguments = [f"{group}={option}", *NEEDS.get(f"{group}={option}", [])]
    config = composed(*arguments)
    (line,) = planning.expand(config, arguments)
    planned = planning.plan(config, GlobalHydra.instance().config_loader(), [line])
    assert "scores" in [stage.name for stage in planned.cells[0].stages]


@pytest.mark.parametrize(
    ("locator", "name", "labels"),
    [
        ("owlv2", "OWLv2", ("detector=owlv2-base-patch16-ensemble", "threshold=0.1", "query=PHRASE")),
        ("rs200", "UniDet", ("detector=UniDet RS200", "classes=aliases")),
    ],
)
def test_the_locator_of_t2i_compbench_is_a_setting(composed, prompt_files, locator, name, labels):
    config = composed("benchmarks=t2i_compbench", f"benchmarks.scoring.locator={locator}")
    benchmark = make(OmegaConf.to_container(config.benchmarks, resolve=True))
    assert benchmark.locator == Metric(name=name, labels=labels)


@pytest.mark.parametrize("option", groups.options()["cluster"])
def test_every_cluster_composes(composed, option):
    assert composed(f"cluster={option}").cluster["_target_"].startswith("harness.launch.")


def _studies():
    pairs = [
        (ablation, preset)
        for ablation in groups.options()["ablations"]
        for preset in groups.options()["preset"]
    ]
    return [
        (ablation, preset)
        for ablation, preset in pairs
        if (preset.startswith("paper") and ablation not in MINIATURE)
        or (not preset.startswith("paper") and ablation not in REAL)
    ]


@pytest.mark.parametrize(("ablation", "preset"), _studies())
def test_every_arm_of_every_ablation_composes_into_a_cell(composed, ablation, preset):
    arguments = [f"ablations={ablation}", f"preset={preset}", *NEEDS.get(f"preset={preset}", [])]
    if ablation == "chain_preference" and preset.startswith("paper"):
        arguments.append("study.preference.more_judges=[]")  # else the exact judge of the miniature
    if ablation == "group_size" and preset.startswith("paper"):
        arguments.append("resources.processes=2")  # they divide the prompts of a step, at least 2
    config = composed(*arguments)
    lines = planning.expand(config, arguments)
    planned = planning.plan(config, GlobalHydra.instance().config_loader(), lines)
    cells = [cell for cell in planned.cells if cell.pair is None]
    assert len(cells) == len(planning.arms_of(config)) * len(config.study.seeds or [0])
    assert len({cell.id for cell in planned.cells}) == len(planned.cells)


def test_the_preset_comes_after_the_ablation_and_the_command_line_after_both(composed):
    assert composed("ablations=reward_components").study.name == "reward_components"
    assert composed("ablations=reward_components", "preset=smoke").study.name == "smoke"
    assert composed("ablations=reward_components", "preset=smoke", "study.name=mine").study.name == "mine"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["ablations=toyy"], ["unknown ablations option 'toyy'", "Did you mean 'toy'?", "reward_components"]),
        (["ablation=toy"], ["unknown setting 'ablation'", "Did you mean 'ablations'?"]),
        (["ablations=toy,reward_components"], ["several ablations", "one after the other"]),
        (
            ["ablations=toy", "arms=ful"],
            ["unknown arm 'ful'", "Did you mean 'full'?", "baseline, full, half"],
        ),
        (
            ["ablations=toy", "trainers.stepz=3"],
            ["unknown setting 'trainers.stepz'", "Did you mean 'trainers.steps'?"],
        ),
        (["intervention.margin=1"], ["intervention is null here", "intervention=NAME", "Known: bare, "]),
        (["ablations=toy", "trainers=a,b"], ["only seed and arms take several"]),
        (["ablations=toy", "seed=x"], ["seed=x: give a whole number"]),
        (["ablations=toy", "arm.full=trainers.steps=3"], ["arm 'full' is an arm of toy already"]),
        (["ablations=toy", "arm.a/b=trainers.steps=3"], ["arm 'a/b'", "starts with a letter"]),
        (["ablations=toy", "trainers.steps=["], ["'trainers.steps=['", "KEY=VALUE"]),
        (
            ["ablations=toy", "arm.mine=trainers.stepz=3"],
            ["in arm mine, seed 0", "Did you mean 'trainers.steps'?"],
        ),
        (
            ["ablations=toy", "arm.mine=rewards=nope"],
            ["in arm mine", "unknown rewards option 'nope'", "--config-dir"],
        ),
        (["ablations=toy", "arm.mine=steps"], ["arm mine", "KEY=VALUE"]),
        (
            ["ablations=toy", "policies.start=3"],
            ["in arm baseline, seed 0: policies.start=3: give a brightness from 0 to 1"],
        ),
        (["ablations=toy", "arm.mine=rewards.total=glow*(nope+1)"], ["in arm mine", "'nope'", "glow"]),
        (["ablations=toy", "arm.mine=rewards.total=glow/0"], ["in arm mine", "division by zero"]),
        (["ablations=toy", "+policies.stat=1"], ["in arm baseline", "'stat'"]),
        (["ablations=toy", "trainers._target_=toy_parts.Nope"], ["Nope"]),
        (["ablations=toy", "sft.steps=???"], ["sft.steps"]),
        (["ablations=toy", "study.name=../up"], ["study.name='../up'"]),
        (
            ["ablations=toy", "study.full=fall"],
            ["unknown arm as study.full 'fall'", "Did you mean 'full'?"],
        ),
        (["ablations=toy", "resources.threads=0"], ["resources.threads=0"]),
        (["ablations=toy", "--run"], ["leave out --run"]),
        (["ablations=toy", "--runs"], ["unknown flag '--runs'", "--config-dir FOLDER"]),
        (
            ["ablations=toy", "outputs_dir=/proc/nowhere"],
            ["cannot write /proc/nowhere", "outputs_dir=FOLDER"],
        ),
    ],
)
def test_a_mistake_is_answered_before_anything_runs(command, words, parts):
    code, message = command(*words)
    assert code == 2
    assert message.startswith("error: ") and "Traceback" not in message
    for part in parts:
        assert part in message


def test_a_users_file_that_ours_would_hide_is_refused(command, tmp_path):
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "got_r1.yaml").write_text("total: pi")
    code, message = command("--config-dir", str(tmp_path))
    assert code == 2
    assert "would be hidden" in message and "rename yours" in message


@pytest.mark.parametrize(
    "words", [["-m", "a=1", "b=2"], ["a=1", "-m", "b=2"], ["a=1", "b=2", "--multirun"], ["a=1", "b=2"]]
)
def test_multirun_may_stand_anywhere_or_be_forgotten(words):
    assert prepare(words) == ["a=1", "b=2"]


def test_other_commands_of_hydra_stay():
    assert prepare(["--cfg", "job", "a=1"]) == ["a=1", "--cfg", "job"]
    assert prepare(["-h"]) == ["-h"]
    assert [asks_hydra(words) for words in (["a=1", "--cfg=job"], ["-h"], ["a=1", "-m"])] == [
        True,
        True,
        False,
    ]


def test_hydra_prints_the_configuration_and_no_option_twice():
    words = [sys.executable, "-m", "harness", "sweep"]
    shown = subprocess.run(
        [*words, "--cfg", "job", "seed=7"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "\nseed: 7\n" in shown.stdout
    shown = subprocess.run([*words, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.count("cluster: local, slurm") == 1


@pytest.mark.parametrize("flag", ["--config-dir={}", "-cd {}"])
def test_hydra_prints_the_configuration_of_a_file_with_a_byte_order_mark(tmp_path, flag):
    (tmp_path / "rewards").mkdir()
    text = "# @package _global_\nadded: 7\n"
    (tmp_path / "rewards" / "marked.yaml").write_text(text, encoding="utf-8-sig")
    words = ["--cfg", "job", "rewards=marked", *flag.format(tmp_path).split()]
    shown = subprocess.run(
        [sys.executable, "-m", "harness", "sweep", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\nadded: 7\n" in shown.stdout


def test_a_folder_that_is_not_there_is_named_where_hydra_prints(tmp_path):
    words = ["--cfg", "job", "--config-dir", str(tmp_path / "gone")]
    shown = subprocess.run(
        [sys.executable, "-m", "harness", "sweep", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert shown.returncode == 2 and "gone: there is no such folder" in shown.stderr


def test_an_arm_is_given_by_one_word_for_each_of_its_overrides():
    words = [
        "arm.mine=rewards=my",
        "arm.mine=rewards.total=pi*(sem+spa)",
        "arm.other=[trainers=sft,rewards.total=pi+ri]",
    ]
    assert prepare(words)[:2] == [
        '+arm.mine=["rewards=my","rewards.total=pi*(sem+spa)"]',
        '+arm.other=["trainers=sft","rewards.total=pi+ri"]',
    ]
    with pytest.raises(UsageError, match=r"once for each"):
        prepare(["arm.mine=[a=1"])
    with pytest.raises(UsageError, match=r"arm\.mine= is empty: write arm\.mine=OVERRIDE"):
        prepare(["arm.mine="])


def test_arm_and_a_name_chooses_that_arm():
    assert prepare(["ablations=toy", "arm=full"]) == prepare(["ablations=toy", "arms=full"])
    assert prepare(["arm=[full,half]"])[0] == "arms=[full,half]"


@pytest.mark.parametrize(
    "total", ["pi*ri", "pi*(sem+spa)/2*ri", "max(pi,ri)", "min(pi, ri)*sem", "(pi)", "1-pi", '"pi"']
)
def test_a_total_needs_no_quotes_but_the_shells(total):
    override = OverridesParser.create().parse_override(readable(f"rewards.total={total}"))
    assert override.value() == total.strip('"')
    assert not override.is_sweep_override()


@pytest.mark.parametrize("text", ['a"b', "a\\", 'a\\"b', "a\\b", "it's", "", "${x}"])
def test_quoting_is_undone_by_hydra(text):
    assert OverridesParser.create().parse_override(f"key={quote(text)}").value() == text


def test_a_declared_plugin_package_joins_the_groups(tmp_path):
    """An installed distribution whose metadata names its package in the entry point group."""
    (tmp_path / "their_rewards" / "rewards").mkdir(parents=True)
    (tmp_path / "their_rewards" / "__init__.py").write_text("raise RuntimeError('imported while planning')")
    (tmp_path / "their_rewards" / "rewards" / "theirs.yaml").write_text("total: pi\n")
    metadata = tmp_path / "their_rewards-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rewards\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[got_r1.plugins]\ntheirs = their_rewards\n")
    code = "from harness.composition import groups; print(*groups.options()['rewards'])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    assert {"theirs", "got_r1"} <= set(shown.stdout.split())


def test_a_declared_package_that_is_not_there_is_named(tmp_path):
    metadata = tmp_path / "ghost-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ghost\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[got_r1.plugins]\nghost = ghost_package\n")
    code = "from harness.composition import groups; groups.options()"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    assert "'ghost' declares the package 'ghost_package'" in ended.stderr


@pytest.mark.slow
def test_it_works_from_a_wheel_in_a_folder_with_a_benchmarks_package_of_its_own(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    copy, wheels, site, elsewhere = (tmp_path / name for name in ("copy", "wheels", "site", "elsewhere"))
    for part in ("harness", "policies", "rewards", "ablations", "benchmarks", "hydra_plugins", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / part).write_text(
            (ROOT / part).read_text(encoding="utf-8") if (ROOT / part).exists() else "", encoding="utf-8"
        )
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(wheels),
        str(copy),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith("tests/")]
        archive.extractall(site)
    (elsewhere / "benchmarks").mkdir(parents=True)
    (elsewhere / "benchmarks" / "__init__.py").write_text("raise RuntimeError('the wrong benchmarks')")
    points = configparser.ConfigParser()
    points.read_string(next(site.glob("*.dist-info")).joinpath("entry_points.txt").read_text())
    assert dict(points["console_scripts"]) == {"got-r1": "harness.__main__:main"}
    code = "import sys; from harness.__main__ import main; sys.exit(main())"  # as the script that pip writes
    words = [
        "sweep",
        "ablations=toy",
        "--config-dir",
        str(TOY),
        f"outputs_dir={tmp_path / 'outputs'}",
        "reports_dir=null",
        "arms=baseline",
    ]
    environment = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "outputs" / "stages").glob("scores-*"))
    assert sorted(path.name for path in elsewhere.iterdir()) == ["benchmarks"]  # no clutter of Hydra's
