"""The layering of docs/architecture.md, read from the imports: floors, plugins, torch on demand."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PLUGINS = ("policies", "rewards", "benchmarks", "ablations")
NOUNS = (
    "harness.types",
    "harness.protocols",
    "harness.chain",
    "harness.devices",
    "harness.files",
    "harness.names",
    "harness.paths",
    "harness.planned",
    "harness.processes",
    "harness.plugin_values",
    "harness.relations",
    "harness.samples",
    "harness.settings",
    "harness.team",
)
OFFERED = (*NOUNS, "harness.composition.components", "harness.experts")  # to plugins
FLOORS = (  # of the rooms of harness/, lowest first; a room imports only rooms of the floors below its own
    ("devices", "names", "processes", "secrets", "seeds", "team", "types"),
    ("chain", "files", "paths", "plugin_values", "protocols", "relations", "settings"),
    (
        "chain_rows",
        "experts",
        "interventions",
        "plan_rows",
        "planned",
        "prompts",
        "reward",
        "samples",
        "stages",
        "votes",
    ),
    ("analysis", "composition"),
    ("data", "evaluation", "report"),
    ("preference",),
    ("study",),
    ("launch", "trainers"),
    ("command",),
    ("gpu", "races", "real_size"),
    ("__main__", "bench", "doctor", "fetch", "generate", "status", "sweep"),
    ("cancel", "score"),
)
LIGHT = [
    "harness.types",
    "harness.protocols",
    "harness.settings",
    "harness.chain",
    "harness.interventions.case",
    "harness.reward.total",
    "harness.reward.function",
    "harness.experts.judge.answers",
]
HEAVY = ("torch", "transformers", "accelerate", "peft", "matplotlib", "pandas")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, typing: bool = True) -> Iterator[str]:
    """Every module that a file imports anywhere; `from a import b` is `a.b` if we have that module, else `a`.

    Args:
        path: the file.
        typing: imports for type checkers too.
    """
    yield from imports_of(ast.parse(path.read_text(encoding="utf-8")), typing)


def imports_of(node: ast.AST, typing: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module is not None, "relative import: write the module in full"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if is_ours(inner) else node.module
    elif isinstance(node, ast.If) and not typing and ast.unparse(node.test) == "TYPE_CHECKING":
        for child in node.orelse:
            yield from imports_of(child, typing)
    else:
        for child in ast.iter_child_nodes(node):
            yield from imports_of(child, typing)


def is_ours(dotted: str) -> bool:
    place = ROOT.joinpath(*dotted.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def below(module: str, *tops: str) -> bool:
    return any(module == top or module.startswith(f"{top}.") for top in tops)


def named(paths: list[Path]) -> list:
    return [pytest.param(path, id=module_of(path)) for path in paths]


@pytest.mark.parametrize(
    "path", named([path for path in sources("harness") if below(module_of(path), *NOUNS)])
)
def test_the_nouns_import_only_each_other(path):
    first_party = {module for module in imports(path) if below(module, "harness", *PLUGINS)}
    assert not {module for module in first_party if not below(module, *NOUNS)}


@pytest.mark.parametrize("path", named(sources(*PLUGINS)))
def test_a_plugin_imports_what_the_harness_offers_and_itself(path):
    own = path.relative_to(ROOT).parts[0]
    first_party = {module for module in imports(path) if below(module, "harness", *PLUGINS)}
    assert not {module for module in first_party if not below(module, own, *OFFERED)}


def room(module: str) -> str:
    """The folder or file of harness/ that a module belongs to."""
    return module.split(".")[1]


@pytest.mark.parametrize("path", named([path for path in sources("harness") if module_of(path) != "harness"]))
def test_a_room_imports_only_rooms_below_it(path):
    floors = {name: height for height, names in enumerate(FLOORS) for name in names}
    own = room(module_of(path))
    assert own in floors, f"harness/{own} is new: say in FLOORS which rooms it may import"
    for module in imports(path, typing=False):
        if below(module, "harness") and room(module) != own:
            assert floors[room(module)] < floors[own], f"{module} is not below {own}"


def test_modules_import_each_other_in_no_circle():
    """Neither when they are loaded nor later, within a function."""
    paths = {module_of(path): path for path in sources("harness", *PLUGINS)}
    graph = {
        module: {name for name in imports(path, typing=False) if name in paths}
        for module, path in paths.items()
    }
    reached = {module: reachable(module, graph) for module in graph}
    circles = []
    for module in graph:
        circle = {other for other in reached[module] if module in reached[other]}
        if circle and circle not in circles:
            circles.append(circle)
    assert circles == []


def reachable(module: str, graph: dict[str, set[str]]) -> set[str]:
    """The modules that a module imports, directly or not; itself only through a circle."""
    found: set[str] = set()
    ends = [module]
    while ends:
        for name in graph[ends.pop()] - found:
            found.add(name)
            ends.append(name)
    return found


@pytest.mark.parametrize("path", named(sources("harness")))
def test_the_harness_names_no_plugin(path):
    assert not {module for module in imports(path) if below(module, *PLUGINS)}
    texts = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    dotted = {
        text
        for text in texts
        if isinstance(text, str) and re.fullmatch(r"\w+(\.\w+)+", text) and below(text, *PLUGINS)
    }
    assert not {
        text
        for text in dotted
        if is_ours(text) or ((parent := text.rpartition(".")[0]) not in PLUGINS and is_ours(parent))
    }


def test_there_is_a_harness_and_there_are_plugins_to_look_at():
    assert len(sources("harness")) > 5 and len(sources(*PLUGINS)) > 5


def targets() -> list[str]:
    """Every `_target_` of every YAML file in the tree."""

    def walk(node) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("_target_"), str):
                yield node["_target_"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    files = [path for folder in ("harness", *PLUGINS) for path in (ROOT / folder).rglob("*.yaml")]
    return sorted(
        {target for path in files for target in walk(yaml.safe_load(path.read_text(encoding="utf-8")))}
    )


def loaded_by(statements: str) -> set[str]:
    """The heavy packages that a fresh interpreter holds after running the statements."""
    code = f"import sys\n{statements}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_classes_named_in_yaml_are_found_without_torch():
    found = targets()
    assert "rewards.chain_image.ChainImage" in found
    lines = [
        f"import {target.rpartition('.')[0]} as module; module.{target.rpartition('.')[2]}"
        for target in found
    ]
    assert loaded_by("\n".join(lines)) == set()


@pytest.mark.parametrize("module", [*LIGHT, "harness.sweep", "harness.status"])
def test_what_a_login_node_runs_needs_no_torch(module):
    assert is_ours(module), f"{module} is gone; say here what a login node runs instead"
    assert loaded_by(f"import {module}") == set()
