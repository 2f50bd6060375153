"""The classes that a group's YAML files name. `test_hydra` tests what the groups contain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.composition import groups
from harness.stages import sources

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
class Weighing:
    fetches = {"weights": "weighing.fetch"}

    def __init__(self):
        raise RuntimeError("constructed")

def make(): ...
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """`plugin(**options)` writes the benchmarks of an installed package `weighing_plugin`, option -> YAML."""
    package = tmp_path / "weighing_plugin"
    (package / "benchmarks").mkdir(parents=True)
    (package / "__init__.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sources, "plugin_packages", lambda: {"weighing": "weighing_plugin"})
    monkeypatch.setattr(sources, "locate", {"weighing_plugin": package / "__init__.py"}.get)
    groups.options.cache_clear()

    def write(**options: str) -> None:
        for name, text in options.items():
            (package / "benchmarks" / f"{name}.yaml").write_text(text)

    yield write
    sys.modules.pop("weighing_plugin", None)
    groups.options.cache_clear()


def test_classes_are_imported_and_not_constructed_those_of_other_packages_too(plugin):
    plugin(
        weighing="_target_: weighing_plugin.Weighing\nroot: ${oc.env:NOT_SET}\n",
        made="_target_: weighing_plugin.make\n",
        bare="n: 1\n",
        empty="",
    )
    found = groups.classes("benchmarks")
    assert {"geneval", "shapes", "t2i_compbench", "weighing"} == set(found)
    assert found["weighing"].__name__ == "Weighing" and found["weighing"].fetches


@pytest.mark.parametrize(
    "target", ["weighing_plugin.Missing", "weighing_plugin.no_module.Thing", "no_such_package_at_all.Thing"]
)
def test_one_that_cannot_be_imported_is_named(plugin, target):
    plugin(broken=f"_target_: {target}\n")
    with pytest.raises(
        ValueError, match=rf"benchmarks=broken: {target} cannot be imported .*correct .*broken\.yaml"
    ):
        groups.classes("benchmarks")


def test_looking_needs_no_torch():
    code = """
import sys
from harness.composition.groups import classes
classes("benchmarks")
print({"torch", "spacy", "transformers"} & set(sys.modules))
"""
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )
