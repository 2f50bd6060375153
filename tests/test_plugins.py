"""docs/plugins.md is true: its files install, join `rewards=` and `advantage=`, and run in a sweep."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from harness.command import composed
from harness.study import planning
from harness.types import Grade

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tests" / "plugin_package"
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^python -m harness\.sweep (.*)$", PAGE, re.MULTILINE)
TINY = (
    "policies.vq.steps=1 sft.steps=1 sft.records=16 grpo.steps=1 grpo.prompts=1 grpo.samples=2"
    " benchmarks.n_prompts=1"
)

PLAN = """
import json, shlex, sys
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from harness import command
from harness.study import planning
from harness.composition.arguments import prepare
planned = []
for words in json.loads(sys.argv[1]):
    arguments, folder = command.without_flags(prepare(shlex.split(words)))
    search = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []
    with initialize(version_base="1.3", config_path=None):
        common = [word for word in arguments if not word.startswith(("seed=", "arms="))]
        config = compose("config", [*search, *common], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        cells = planning.plan(config, loader, planning.expand(config, arguments)).cells
    rewards = [(cell.arm, cell.config["rewards"]) for cell in cells]
    planned.append([(arm, reward["total"], reward["components"].get("apart")) for arm, reward in rewards])
print(json.dumps({"planned": planned, "torch": "torch" in sys.modules}))
"""


def install(site: Path) -> None:
    """Installs the package as pip does: its files, and metadata that names its entry points."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(
        PACKAGE / "got_r1_apart", site / "got_r1_apart", ignore=shutil.ignore_patterns("__pycache__")
    )
    metadata = site / "got_r1_apart-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    (metadata / "entry_points.txt").write_text(
        "".join(f"[{group}]\n{_lines(points)}\n" for group, points in groups)
    )


def _lines(points: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in points.items())


@pytest.fixture
def installed(tmp_path) -> dict[str, str]:
    """The environment of an interpreter in which the package is installed."""
    install(tmp_path / "site")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'site'}", "OMP_NUM_THREADS": "1"}


def run(words: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def plan(commands: list[str], folder: Path, environment: dict[str, str]) -> list[list[list]]:
    """Plans the commands in a fresh interpreter; per command and cell: arm, total, settings of `apart`."""
    done = run(["-c", PLAN, json.dumps(commands)], folder, environment)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["torch"] is False
    return answer["planned"]


def test_the_page_shows_the_files_of_the_package_and_no_others():
    files = {
        path.relative_to(PACKAGE).as_posix(): path
        for path in PACKAGE.rglob("*.*")
        if path.suffix in (".py", ".yaml", ".toml")
    }
    del files["conftest.py"]  # for this repository's own test run
    assert {name: text for name, text in SHOWN.items() if name != "judge/mine.yaml"} == {
        name: path.read_text(encoding="utf-8") for name, path in files.items()
    }


@pytest.mark.parametrize("name", ["got_r1_apart/__init__.py", "mine/against_median.py"])
def test_a_plugin_takes_about_twenty_lines(name):
    code = [line for line in SHOWN[name].splitlines() if line.strip()]
    assert len(code) <= 20


def test_an_installed_package_joins_the_rewards(installed, tmp_path):
    commands = [words for words in COMMANDS if "--config-dir" not in words]
    assert len(commands) == 3
    beside, strict, alone = plan(commands, tmp_path, installed)
    product = "pi * (sem + spa) / 2 * ri"
    assert [(arm, total) for arm, total, _ in beside[1:]] == [
        ("full", "pi*(sem+spa)/2*ri"),
        ("mine", f"{product} * apart"),
    ]
    assert beside[2][2] == {"_target_": "got_r1_apart.Apart", "tolerance": 0.1}
    assert strict[1][2]["tolerance"] == 0
    assert [total for _, total, _ in alone] == ["pi*apart"]


def test_the_same_files_in_a_folder_need_no_installation(tmp_path):
    for name, place in (
        ("got_r1_apart/__init__.py", "got_r1_apart/__init__.py"),
        ("got_r1_apart/rewards/apart.yaml", "rewards/apart.yaml"),
    ):
        (tmp_path / "mine" / place).parent.mkdir(parents=True)
        (tmp_path / "mine" / place).write_text(SHOWN[name], encoding="utf-8")
    (words,) = [words for words in COMMANDS if "--config-dir" in words and "rewards=" in words]
    (cells,) = plan([words], tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert [arm for arm, _, _ in cells] == ["baseline", "full", "mine"]
    assert cells[2][2]["_target_"] == "got_r1_apart.Apart"


def test_the_advantage_of_a_folder_joins_the_built_in_ones():
    (words,) = [words for words in COMMANDS if "advantage=median" in words]
    with composed(
        shlex.split(words.replace("--config-dir mine", f"--config-dir {PACKAGE / 'mine'}"))
    ) as root:
        lines = planning.expand(root.config, root.overrides)
        cells = planning.plan(root.config, GlobalHydra.instance().config_loader(), lines).cells
    settings = {cell.arm: cell.config["grpo"]["advantage"]["_target_"] for cell in cells}
    assert list(settings) == ["baseline", "product", "median"]
    assert settings["median"] == "against_median.AgainstMedian"
    assert settings["product"] == "harness.trainers.advantage.Group"


@pytest.fixture
def against_median(monkeypatch):
    """The class of the page's advantage."""
    monkeypatch.syspath_prepend(PACKAGE / "mine")
    return importlib.import_module("against_median").AgainstMedian


def graded(*totals: float) -> list[Grade]:
    return [Grade(total=total, components={}) for total in totals]


def test_the_advantage_is_robust_against_one_outlier(against_median):
    wild, equal, single, empty = against_median(bound=3.0)(
        [graded(0.1, 0.2, 0.3, 0.4, 1.0), graded(0.5, 0.5), graded(0.7), graded()]
    )
    assert wild == pytest.approx([-0.2 / 0.22, -0.1 / 0.22, 0, 0.1 / 0.22, 3.0])
    assert (equal, single, empty) == ([0.0, 0.0], [0.0], [])
    with pytest.raises(ValueError, match="bound=0: give a number above 0"):
        against_median(bound=0)


def test_an_edit_of_the_package_makes_only_its_own_arms_anew(installed, tmp_path):
    code = "import sys; from harness.stages import sources; print(sources.digest(sys.argv[1:]))"

    def digests() -> list[str]:
        return [
            run(["-c", code, root], tmp_path, installed).stdout
            for root in ("got_r1_apart.Apart", "rewards.chain_image.ChainImage")
        ]

    before, module = digests(), tmp_path / "site" / "got_r1_apart" / "__init__.py"
    assert all(before)
    module.write_text(module.read_text(encoding="utf-8") + "\n# a remark\n", encoding="utf-8")
    assert digests() == before
    module.write_text(module.read_text(encoding="utf-8").replace("min(1.0", "min(0.9"), encoding="utf-8")
    after = digests()
    assert after[0] != before[0] and after[1] == before[1]


def test_pip_installs_the_same_files(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    shutil.copytree(PACKAGE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    words = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--wheel-dir",
        ".",
        "./source",
    ]
    built = run(words, tmp_path, dict(os.environ))
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    install(tmp_path / "site")
    contents = [
        {
            path.relative_to(site).as_posix(): path.read_text(encoding="utf-8").split()
            for path in site.rglob("*")
            if _counts(path)
        }
        for site in (tmp_path / "wheel", tmp_path / "site")
    ]
    assert contents[0] == contents[1] and len(contents[0]) == 3


def _counts(path: Path) -> bool:
    return path.is_file() and ("dist-info" not in str(path) or path.name == "entry_points.txt")


@pytest.mark.slow
def test_reward_and_advantage_run_in_a_sweep_next_to_built_in_ones(installed, tmp_path):
    halved = "arm.halved=rewards.total=pi arm.halved=advantage=median arm.halved=advantage.bound=0.5"
    arms = f"arm.mine=rewards=apart {halved} arms=w_PI,mine,halved --config-dir {PACKAGE / 'mine'}"
    words = f"ablations=reward_components preset=smoke {arms} reports_dir=null {TINY}"
    done = run(
        ["-m", "harness.sweep", *shlex.split(words), f"outputs_dir={tmp_path / 'outputs'}"],
        tmp_path,
        installed,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads(
        (tmp_path / "outputs" / "studies" / "smoke" / "plan.json").read_text(encoding="utf-8")
    )["cells"]
    logged = {}
    for cell in cells:
        folders = {stage["name"]: tmp_path / "outputs" / stage["folder"] for stage in cell["stages"]}
        assert (folders["scores"] / "scores.jsonl").read_text(encoding="utf-8").count("\n") == 6
        logged[cell["arm"]] = json.loads(
            (folders["grpo"] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0]
        )
    assert set(logged) == {"w_PI", "mine", "halved"}
    assert logged["halved"]["reward"] == logged["w_PI"]["reward"]  # the same samples
    assert 0 < logged["halved"]["grad_norm"] == pytest.approx(logged["w_PI"]["grad_norm"] / 2, rel=1e-3)
    assert {name for name in logged["mine"] if name.startswith("component/")} == {
        f"component/{name}" for name in ("pi", "sem", "spa", "ri", "apart")
    }
    assert 0 <= logged["mine"]["component/apart"] <= 1 and "component/apart" not in logged["w_PI"]
