"""The command line as people type it, made into what Hydra reads; and Hydra's errors made into advice.

`-m` may stand anywhere or be forgotten, `arm.NAME=OVERRIDE` adds an arm, `arm=NAME` is `arms=NAME`, `--config-dir` may hold Python
modules beside its YAML, and a value that Hydra's grammar refuses, such as `rewards.total=pi*(sem+spa)/2`,
is taken as text.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

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

MULTIRUN = ("-m", "--multirun")
OTHER_COMMANDS = {
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
VALUE_FLAGS = {
    "-p",
    "--package",
    "-c",
    "--cfg",
    "-i",
    "--info",
    "-cd",
    "--config-dir",
    "-cp",
    "--config-path",
    "-cn",
    "--config-name",
}
ARM = re.compile(r"\+?arm\.([^=]+)=(.*)", re.DOTALL)
ARM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class UsageError(ValueError):
    """The user's mistake, found before anything runs; the message says what is allowed and what to do."""


def prepare(argv: Sequence[str]) -> list[str]:
    """What Hydra is to read for the command line `argv` (without the program's name).

    Raises:
        UsageError: an arm or a configuration folder that cannot be.
    """
    if {"-r", "--run"} & set(argv):
        raise UsageError("a study is always a sweep: leave out --run")
    words = [word for word in argv if word not in MULTIRUN]
    flags: list[str] = []
    overrides: list[str] = []
    arms: dict[str, list[str]] = {}
    at = 0
    while at < len(words):
        word = words[at]
        if word.startswith("-"):
            flags.append(word)
            if word in VALUE_FLAGS and at + 1 < len(words):
                at += 1
                flags.append(words[at])
        elif arm := ARM.fullmatch(word):
            arms.setdefault(arm[1], []).extend(_arm_overrides(arm[1], arm[2]))
        else:
            overrides.append(readable(word.replace("arm=", "arms=", 1) if word.startswith("arm=") else word))
        at += 1
    _use_config_dir(flags)
    if not OTHER_COMMANDS & {flag.partition("=")[0] for flag in flags}:
        flags.append("--multirun")
    return [
        *overrides,
        *(f"+arm.{name}=[{','.join(quote(line) for line in lines)}]" for name, lines in arms.items()),
        *flags,
    ]


def check_arm_name(name: str) -> None:
    if not ARM_NAME.fullmatch(name):
        raise UsageError(
            f"arm {name!r}: a name starts with a letter or _ and goes on with letters, digits, _ and -"
        )


def readable(override: str) -> str:
    """The same override in Hydra's grammar: a value that the grammar refuses is quoted as text."""
    key, equals, value = override.partition("=")
    if not equals or value[:1] in ("[", "{", '"', "'"):
        return override
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return f"{key}={quote(value)}"
    return override


def quote(text: str) -> str:
    """A text as Hydra's grammar quotes it: only quotes, and backslashes before them, are escaped."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'


def known(kind: str, name: str, names: Iterable[str], hint: str = "") -> str:
    """The message for an unknown name: the known ones and the nearest."""
    names = sorted(names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    nearest = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{nearest} Known: {', '.join(names) or 'none'}.{hint}"


def explain(error: Exception) -> str:
    """What to tell the user about an error of Hydra or OmegaConf, with the nearest known name where one is unknown."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if group:
            hint = f" Your own {group} go into FOLDER/{group}/{option}.yaml with --config-dir FOLDER"
            return known(
                f"{group} option", option, {*groups.options().get(group, ()), *(error.options or ())}, hint
            )
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read: {error.message.splitlines()[0]}. Write KEY=VALUE, with quotes around special characters"
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, OmegaConfBaseException) and "not in struct" in str(link):
            return _unknown_key(link)
        if isinstance(link, InterpolationKeyError):
            return _nothing_there(link)
    if isinstance(error, InstantiationException) and len(chain) > 1:
        return (
            str(chain[-1])
            if isinstance(chain[-1], ValueError)
            else f"{type(chain[-1]).__name__}: {chain[-1]}"
        )
    texts = [text for text in dict.fromkeys(str(link).strip() for link in chain) if text]
    return "\n".join(texts) or type(error).__name__


def _unknown_key(error: OmegaConfBaseException) -> str:
    full = str(error.full_key or error.key)
    within = full.rpartition(".")[0]
    names = (
        {str(key) for key in error.parent_node if key != "hydra"}
        if isinstance(error.parent_node, DictConfig)
        else set()
    )
    names = {f"{within}.{key}" for key in names} if within else names | set(groups.options())
    return known("setting", full, names, f" A setting that is not there yet is added with +{full}=VALUE")


def _nothing_there(error: InterpolationKeyError) -> str:
    wanted = str(error).partition("'")[2].partition("'")[0]
    words = dict.fromkeys([*wanted.split("."), *str(error.full_key).split(".")])
    concerned = ", ".join(f"{word}=" for word in words if word in groups.options())
    return f"{error.full_key} refers to {wanted}, which is not there: the options chosen for {concerned} do not go together"


def _arm_overrides(name: str, value: str) -> list[str]:
    check_arm_name(name)
    if not value:
        raise UsageError(
            f"arm.{name}= is empty: write arm.{name}=OVERRIDE, such as arm.{name}=rewards=my_rewards"
        )
    if not value.startswith("["):
        return [value]
    try:
        lines = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(
            f"the overrides of arm.{name} cannot be read: {value!r}. Write arm.{name}=OVERRIDE, once for each"
        ) from error
    if not all(isinstance(line, str) for line in lines):
        raise UsageError(
            f"the overrides of arm.{name} are not KEY=VALUE texts: {json.dumps(lines)}. Write arm.{name}=OVERRIDE, once for each"
        )
    return list(lines)


def _use_config_dir(flags: Sequence[str]) -> None:
    """Lets Python find modules in the user's configuration folder, and refuses options that ours would hide."""
    named = [value for flag, value in pairwise(flags) if flag in ("-cd", "--config-dir")]
    named += [flag.partition("=")[2] for flag in flags if flag.startswith(("--config-dir=", "-cd="))]
    for folder in map(Path, named):
        for group, options in groups.options().items():
            for path in sorted((folder / group).glob("*.yaml")):
                if path.stem in options and path.resolve() != options[path.stem].resolve():
                    raise UsageError(
                        f"{path} would be hidden by {options[path.stem]}, which is {group}={path.stem} already: rename yours"
                    )
        sys.path.append(str(folder.resolve()))
