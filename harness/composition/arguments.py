"""The command line as people type it, made into overrides; and Hydra's errors made into advice.

`arm.NAME=OVERRIDE` adds an arm, `arm=NAME` is `arms=NAME`, `-m` is allowed and changes nothing,
`--config-dir` may hold Python modules beside its YAML. A value that Hydra's grammar refuses, such as
`rewards.total=pi*(sem+spa)/2`, is read as text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from harness.composition import groups
from harness.names import unknown
from harness.paths import user_path

MULTIRUN = ("-m", "--multirun")  # what Hydra asks for; a study is always a sweep
HYDRA_PRINTS = {
    "-h",
    "--help",
    "--hydra-help",
    "--version",
    "-c",
    "--cfg",
    "-i",
    "--info",
    "-sc",
    "--shell-completion",
}
VALUE_FLAGS = {"-c", "--cfg", "-p", "--package", "-i", "--info", "-cd", "--config-dir"}
ARM = re.compile(r"\+?arm\.([^=]+)=(.*)", re.DOTALL)
TEXTS = {
    "study.name",
    "study.arm",
    "study.baseline",
    "study.full",
    "outputs_dir",
    "reports_dir",
}  # also 2026_11_27
ARMS = re.compile(r"[\w\-@., \[\]]*")  # ARM@LEVEL is an arm at a level of a factor
QUOTES = re.compile(r"[\"']")
HOME = re.compile(r"(?<=[\[,: ])~[^\s,\[\]{}]*")  # a path within a list or mapping, which the grammar refuses
CONFIG_DIR = ("-cd", "--config-dir")
ARM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class UsageError(ValueError):
    """The user's mistake, found before anything runs; the message says what is allowed and what to do."""


def asks_hydra(words: Sequence[str]) -> bool:
    """Whether the words ask Hydra to print something, such as its help, instead of running a study."""
    return any(word.partition("=")[0] in HYDRA_PRINTS for word in words)


def prepare(argv: Sequence[str]) -> list[str]:
    """The overrides of a command line (without the program's name) in Hydra's grammar, then its flags.

    The configuration folder that a flag names joins `sys.path`.

    Raises:
        UsageError: an arm or a configuration folder that is not allowed.
    """
    if {"-r", "--run"} & set(argv):
        raise UsageError("a study is always a sweep: leave out --run")
    flags: list[str] = []
    overrides: list[str] = []
    arms: dict[str, list[str]] = {}
    words = iter(word for word in argv if word not in MULTIRUN)
    for word in words:
        arm = ARM.fullmatch(word)
        if word.startswith("-"):
            flag, _, value = word.partition("=")
            is_folder = flag in CONFIG_DIR
            flags.append(f"{flag}={user_path(value)}" if is_folder and value else word)
            if word in VALUE_FLAGS:
                flags += (str(user_path(value)) if is_folder else value for value in islice(words, 1))
        elif arm:
            arms.setdefault(arm[1], []).extend(_arm_overrides(arm[1], arm[2]))
        else:
            overrides.append(readable(re.sub(r"^arm=", "arms=", word)))
    _use_config_dir(flags)
    for name, lines in arms.items():
        overrides.append(f"+arm.{name}=[{','.join(map(quote, lines))}]")
    return [*overrides, *flags]


def check_arm_name(name: str) -> None:
    if not ARM_NAME.fullmatch(name):
        raise UsageError(
            f"arm {name!r}: a name starts with a letter or _, followed by letters, digits, _ and -"
        )


def check_arm(name: Any, overrides: Any) -> None:
    """Checks the name and the overrides of an arm that a YAML file declares.

    Raises:
        UsageError: the name is no text or has characters that are not allowed, or the overrides are no list.
    """
    if not isinstance(name, str):
        raise UsageError(f"an arm is {name!r} in its YAML, and no text: put its name in quotes there")
    check_arm_name(name)
    check_overrides(f"arm {name}", overrides)


def check_overrides(owner: str, overrides: Any) -> None:
    if not isinstance(overrides, list) or not all(
        isinstance(line, str) and "=" in line for line in overrides
    ):
        raise UsageError(f"{owner} is {overrides!r}: write it as a list of overrides, [KEY=VALUE, ...]")


def readable(override: str) -> str:
    """The same override in Hydra's grammar: names, and a value that the grammar refuses, are quoted."""
    key, equals, value = override.partition("=")
    if key.lstrip("+") == "arms" and ARMS.fullmatch(value):  # names, also such as true
        return f"{key}=" + re.sub(
            r"[\w@.-]+", lambda name: name[0] if name[0] == "null" else _text(name[0]), value
        )
    if value[:1] in ("[", "{") and not QUOTES.search(value):
        return f"{key}=" + HOME.sub(lambda path: quote(path[0]), value)
    if not equals or value[:1] in ("[", "{", '"', "'"):
        return override
    if key.lstrip("+") in TEXTS and (value != "null" or key.endswith("study.name")):
        return f"{key}={_text(value)}"
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return f"{key}={quote(value)}"
    return override


def _text(value: str) -> str:
    """The value, in quotes where Hydra would read it as a number, a truth value or several values."""
    try:
        read = OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        read = None
    return value if read == value or not value else quote(value)


def quote(text: str) -> str:
    """The text in quotes of Hydra's grammar, where only quotes, and backslashes before them, are escaped."""

    def escaped(match: re.Match[str]) -> str:
        backslashes, mark = match.groups()
        return backslashes * 2 + ('\\"' if mark else "")

    return '"' + re.sub(r'(\\*)("|$)', escaped, text) + '"'


def explain(error: Exception) -> str:
    """The message for an error of Hydra or OmegaConf, with the nearest known name where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if group:
            hint = f" Your own {group} belong in FOLDER/{group}/{option}.yaml with --config-dir FOLDER"
            names = {*groups.options().get(group, ()), *(error.options or ())}
            return unknown(f"{group} option", option, names, hint)
    if isinstance(error, OverrideParseException):
        problem = error.message.splitlines()[0]
        return (
            f"{error.override!r} cannot be read: {problem}. "
            "Write KEY=VALUE, with quotes around special characters"
        )
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, OmegaConfBaseException) and "not in struct" in str(cause):
            return _unknown_key(cause)
        if isinstance(cause, InterpolationKeyError):
            return _broken_reference(cause)
    first = causes[-1]
    if isinstance(error, InstantiationException) and first is not error:
        return str(first) if isinstance(first, ValueError) else f"{type(first).__name__}: {first}"
    texts = dict.fromkeys(str(cause).strip() for cause in causes)
    return "\n".join(filter(None, texts)) or type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes


def _unknown_key(error: OmegaConfBaseException) -> str:
    full = str(error.full_key or error.key)
    within = full.rpartition(".")[0]
    node = error.parent_node
    keys = {str(key) for key in node if key != "hydra"} if isinstance(node, DictConfig) else set()
    options = groups.options().get(full)
    if options and full not in keys:
        known = ", ".join(sorted(options))
        return (
            f"{full} is null here, so it has no settings: choose an option first, {full}=NAME. Known: {known}"
        )
    names = {f"{within}.{key}" for key in keys} if within else keys | set(groups.options())
    return unknown("setting", full, names, f" To add a setting, write +{full}=VALUE")


def _broken_reference(error: InterpolationKeyError) -> str:
    """The message for a reference without a target: names the groups whose options do not fit together."""
    target = str(error).partition("'")[2].partition("'")[0]
    words = dict.fromkeys([*target.split("."), *str(error.full_key).split(".")])
    concerned = ", ".join(f"{word}=" for word in words if word in groups.options())
    return (
        f"{error.full_key} refers to {target}, which does not exist: "
        f"the options chosen for {concerned} do not fit together"
    )


def _arm_overrides(name: str, value: str) -> list[str]:
    """The overrides that `arm.NAME=VALUE` adds: VALUE itself, or each of a list."""
    check_arm_name(name)
    if not value:
        raise UsageError(
            f"arm.{name}= is empty: write arm.{name}=OVERRIDE, such as arm.{name}=rewards=my_rewards"
        )
    if not value.startswith("["):
        return [value]
    advice = f"Write arm.{name}=OVERRIDE, once for each"
    try:
        lines = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"the overrides of arm.{name} cannot be read: {value!r}. {advice}") from error
    if not all(isinstance(line, str) for line in lines):
        raise UsageError(
            f"the overrides of arm.{name} are not KEY=VALUE texts: {json.dumps(lines)}. {advice}"
        )
    return list(lines)


def _use_config_dir(flags: Sequence[str]) -> None:
    """Adds the user's configuration folder to `sys.path`.

    Raises:
        UsageError: one of its options has the name of one of ours, which would hide it.
    """
    folders = [value for flag, value in pairwise(flags) if flag in CONFIG_DIR]
    folders += [flag.partition("=")[2] for flag in flags if flag.startswith(("--config-dir=", "-cd="))]
    for folder in map(Path, folders):
        for group, options in groups.options().items():
            for path in sorted((folder / group).glob("*.yaml")):
                ours = options.get(path.stem, path)
                if path.resolve() != ours.resolve():
                    raise UsageError(
                        f"{path} would be hidden by {ours}, which is {group}={path.stem} already: "
                        "rename yours"
                    )
        sys.path.append(str(folder.resolve()))
