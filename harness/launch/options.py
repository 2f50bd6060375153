"""sbatch options as sites write them, checked when a study is planned."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.names import nearest
from harness.settings import Problems

DAYS, WEEK_MIN, HOUR_S = 24 * 60, 7 * 24 * 60, 3600
TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d{1,4}))?(?::(\d{1,4}))?", re.ASCII)
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
# of submitit, not of sbatch
OF_SUBMITIT = ("setup", "teardown", "srun_args", "signal_delay_s", "stderr_to_stdout", "use_srun")
LISTS = ("setup", "teardown", "srun_args")
OURS = {  # option -> the setting to use instead; None where a job needs the value that it has
    "cpus_per_task": "resources.threads",
    "nodes": "resources.nodes",
    **dict.fromkeys(("ntasks", "ntasks_per_node", "tasks_per_node"), "resources.processes"),
    "mem_gb": "resources.memory_gb",
    "timeout_min": "resources.timeout_min",
    **dict.fromkeys(("export", "export_file", "get_user_env")),  # jobs get the whole environment
    **dict.fromkeys(("array", "error", "job_name", "name", "open_mode", "output", "parsable", "signal")),
    **dict.fromkeys(("test_only", "wait", "wrap")),
}
MEMORY = ("mem", "mem_per_cpu", "mem_per_gpu")  # sbatch takes one of them
DURATIONS = ("delay_boot", "time", "time_min")
CLOCKS = ("begin", "deadline", "extra_node_info")  # written with colons too
TEXTS = {
    *("account", "comment", "constraint", "dependency", "exclude", "gres", "mail_type", "mail_user"),
    *("nodelist", "partition", "qos", "reservation", "wckey", *DURATIONS, *CLOCKS),
}
# other options of sbatch 22.05 to 24.11: they tell a slip of the pen from an option that is new
OTHERS = {
    *("acctg_freq", "batch", "bb", "bbf", "chdir", "cluster_constraint", "clusters", "container"),
    *("container_id", "contiguous", "core_spec", "cores_per_socket", "cpu_freq", "cpus_per_gpu"),
    *("distribution", "exclusive", "gid", "gpu_bind", "gpu_freq"),
    *("gpus", "gpus_per_node", "gpus_per_socket", "gpus_per_task", "gres_flags", "hint", "hold"),
    *("ignore_pbs", "input", "kill_on_invalid_dep", "licenses", "mcs_label", "mem_bind", "mincpus"),
    *("network", "nice", "no_kill", "no_requeue", "nodefile", "ntasks_per_core", "ntasks_per_gpu"),
    *("ntasks_per_socket", "oom_kill_step", "overcommit", "oversubscribe", "power", "prefer", "priority"),
    *("profile", "propagate", "quiet", "reboot", "requeue", "resv_ports", "segment", "sockets_per_node"),
    *("spread_job", "stepmgr", "switches", "thread_spec", "threads_per_core", "tmp", "tres_bind"),
    *("tres_per_task", "uid", "use_min_nodes", "verbose", "wait_all_nodes"),
}
NAMES = {*OF_SUBMITIT, *OURS, *MEMORY, *TEXTS, *OTHERS}


def minutes(name: str, value: Any) -> int:
    """A time limit in whole minutes, from a number of minutes or a text of Slurm's forms.

    The forms are `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M` and `D-H:M:S`. YAML reads an unquoted 24:00:00 as the
    number 86400, so numbers that look like that are refused.

    Raises:
        ValueError: the value is neither, or is below one minute.
    """
    if isinstance(value, str):
        return _text_minutes(name, value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r}: give whole minutes from 1, or a text such as '24:00:00'")
    if value > WEEK_MIN or value % HOUR_S == 0:
        text = f"{value // DAYS}-{value % DAYS // 60:02}:{value % 60:02}:00"
        raise ValueError(f"{name}={value}: {_quote_it(value)}, or '{text}' for {value} minutes")
    return value


def _text_minutes(name: str, text: str) -> int:
    found = TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{name}={text!r}: give a time such as '90' (minutes), '24:00:00' or '2-12:00:00'. "
            "Words such as UNLIMITED are not allowed"
        )
    numbers = [int(part or 0) for part in found.groups()[1:]]
    if found[1] is None and found[4] is None:
        numbers = [0, *numbers[:2]]  # M or M:S
    hours, mins, seconds = numbers
    whole = int(found[1] or 0) * DAYS + hours * 60 + mins + -(-seconds // 60)
    if whole < 1:
        raise ValueError(f"{name}={text!r}: give at least a minute")
    return whole


def _quote_it(number: int) -> str:
    clock = f"{number // HOUR_S}:{number % HOUR_S // 60:02}:{number % 60:02}" if number >= 60 else str(number)
    return f"YAML reads {clock} without quotes as this number. Write '{clock}' in quotes"


def parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of submitit's AutoExecutor for sbatch options; null and false leave an option out.

    Options go to sbatch by their own names, also those that submitit does not know. `time` becomes
    `timeout_min`, which submitit must know to resume a job at its limit. Durations are texts with a colon or
    with days: a bare number may be minutes, or the seconds that YAML makes of a clock.

    Raises:
        ValueError: options have no such name, are set by the harness, or have a value that sbatch would not
            read as it was written. The message says all of them.
    """
    given = {**options}
    more = given.pop("additional_parameters", None) or {}
    if not isinstance(more, Mapping):
        raise ValueError(f"cluster.options.additional_parameters={more!r}: give a mapping of sbatch options")
    chosen: dict[str, Any] = {}
    problems = Problems()
    for written, value in [*given.items(), *more.items()]:
        name, setting = str(written).replace("-", "_"), f"cluster.options.{written}"
        if value is None or (value is False and name not in OF_SUBMITIT):
            continue
        with problems.noted():
            _check_name(setting, name, value)
            if name in chosen:
                raise ValueError(f"{setting} is given twice: give it once")
            chosen[name] = _checked(setting, name, value)
    problems.check()
    if len(memory := [name for name in MEMORY if name in chosen]) > 1:
        raise ValueError(f"cluster.options: {' and '.join(memory)} exclude each other. Give one of them")
    taken: dict[str, Any] = {f"slurm_{name}": chosen.pop(name) for name in OF_SUBMITIT if name in chosen}
    if "time" in chosen:
        taken["timeout_min"] = chosen.pop("time")
    if memory:
        taken["mem_gb"] = None
    if chosen:
        taken["slurm_additional_parameters"] = chosen
    return taken


def _check_name(setting: str, name: str, value: Any) -> None:
    if not NAME.fullmatch(name) or len(name) == 1:
        raise ValueError(f"{setting}: give the long name of an sbatch option, without dashes before it")
    if name in OURS:
        instead = f"Set {OURS[name]} instead" if OURS[name] else "Remove it"
        raise ValueError(f"{setting}={value!r}: the harness sets this option itself. {instead}")
    if name not in NAMES and (near := nearest(name, NAMES, cutoff=0.85)):
        raise ValueError(f"{setting}: sbatch has no such option. Did you mean {near}?")


def _checked(setting: str, name: str, value: Any) -> Any:
    """The value of an option as submitit writes it.

    Raises:
        ValueError: sbatch would not read it as it was written.
    """
    if name in LISTS:
        lines = [value] if isinstance(value, str) else value
        if not isinstance(lines, Sequence) or not all(isinstance(line, str) for line in lines):
            raise ValueError(f"{setting}={value!r}: give a list of texts")
        return list(lines)
    if name == "signal_delay_s" and (type(value) is not int or value < 1):
        raise ValueError(f"{setting}={value!r}: give whole seconds from 1")
    if name in DURATIONS:
        _check_duration(setting, name, value)
    if name in CLOCKS and type(value) is int:
        raise ValueError(f"{setting}={value}: {_quote_it(value)}")
    if name == "time":
        return minutes(setting, value)
    if isinstance(value, bool) and name in TEXTS:
        raise ValueError(f"{setting}={value}: give a text. In YAML, put on, off, yes and no in quotes")
    if not isinstance(value, str | int):
        raise ValueError(f"{setting}={value!r}: give a text, in quotes, or a whole number")
    if isinstance(value, str) and (not value.strip() or not value.isprintable()):
        raise ValueError(f"{setting}={value!r}: give a text on one line, or null to leave the option out")
    if isinstance(value, str) and "\\" in value:
        raise ValueError(f"{setting}={value!r}: sbatch drops backslashes. Give a text without")
    return value


def _check_duration(setting: str, name: str, value: Any) -> None:
    """Refuses a bare number: YAML reads 1:30:00 without quotes as 5400, which may be minutes too.

    Raises:
        ValueError: the value is a number, or a text without a colon and without days.
    """
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().isdecimal()):
        return
    if not isinstance(value, str | int | float):
        return
    forms = "give a text with a colon or with days, in quotes, such as '1:30:00' or '1-12'"
    yaml = f". {_quote_it(value)}" if type(value) is int else ""
    instead = ". For minutes, set resources.timeout_min" if name == "time" else ""
    raise ValueError(f"{setting}={value!r}: {forms}{instead}{yaml}")
