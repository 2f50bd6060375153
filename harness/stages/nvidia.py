"""The CUDA devices of this machine, from nvidia-smi and CUDA_VISIBLE_DEVICES.

Of the other modules only `harness.devices` looks at these, for whether there is a driver at all.

nvidia-smi may be missing, hang, fail, or answer `[N/A]`. What it does not tell is None, never a guess.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.devices import NO_GPU, VARIABLE
from harness.processes import TIMEOUT_S, ask

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU of the kernel's driver
INDEX = re.compile(r"\+?[0-9]{1,4}")
FORMS = (INDEX, re.compile(r"GPU-[0-9A-Fa-f-]+"), re.compile(r"MIG-[0-9A-Za-z/-]+"))
LINE = re.compile(r"\s*([0-9]{1,4})\s*,(.*)")
MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?MiB")
SHOWN = 80  # characters of an answer, in messages
ADVICE = f"Set {VARIABLE} to indices or UUIDs that `nvidia-smi -L` lists, or to -1 to use no GPU"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A CUDA device. `name` is what CUDA_VISIBLE_DEVICES calls it, `index` its number in nvidia-smi.

    `index` is None for a MIG slice and where nvidia-smi does not tell; `model` where it does not tell.
    """

    name: int | str
    index: int | None
    model: str | None


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices that this process may use.

    `unknown` says in one line each what could not be found out. `refused` says why the value of
    CUDA_VISIBLE_DEVICES cannot be used; there are no devices then.
    """

    gpus: tuple[Gpu, ...]
    unknown: tuple[str, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of nvidia-smi: index -> text; None if it gave no answer. `problem` says what was not read."""

    values: dict[int, str] | None
    problem: str | None = None


def read(text: str) -> Column:
    """Reads lines such as `0, NVIDIA H200`. The first line of another form is the problem."""
    values, strange = {}, []
    for line in filter(None, map(str.strip, text.splitlines())):
        if found := LINE.fullmatch(line):
            values[int(found[1])] = found[2].strip()
        elif not line.lower().startswith("no devices were found"):
            strange.append(line)
    problem = f"nvidia-smi answers {strange[0][:SHOWN]!r}" if strange else None
    return Column(values=None if strange and not values else values, problem=problem)


def read_memory_gb(text: str) -> float | None:
    """The GB (2**30 bytes) of an answer such as `143771 MiB`; None for any other, such as `[N/A]`."""
    found = MEMORY.fullmatch(text.strip())
    return float(found[1]) / 1024 or None if found else None


def devices() -> Devices:
    """The CUDA devices that this process may use."""
    models = _column("name")
    if models.values is None:
        listed = _driver_models()
        if shutil.which("nvidia-smi") is None:
            problem = "nvidia-smi is not installed, though there is an NVIDIA driver" if listed else None
            models = Column(values=listed, problem=problem)
        elif listed:
            models = Column(values=listed, problem=models.problem)
    return choose(os.environ.get(VARIABLE), models)


def memory() -> tuple[float | None, str | None]:
    """Memory in GB (2**30 bytes) of the smallest of `devices`, and a line on what could not be found out.

    The memory is None without devices, and if that of one of them is not known: an integrated GPU, a MIG
    slice, a device that nvidia-smi does not list.
    """
    gpus = devices().gpus
    if not gpus:
        return None, None
    totals, modes = _column("memory.total").values or {}, _column("mig.mode.current").values or {}
    known, unknown = [], []
    for gpu in gpus:
        text = "" if gpu.index is None else totals.get(gpu.index, "")
        if gpu.index is not None and modes.get(gpu.index) == "Enabled":
            text = "MIG is enabled, and a process gets a slice"
        gb = read_memory_gb(text)
        if gb is None:
            unknown.append(f"{gpu.name} ({text[:SHOWN]})" if text else str(gpu.name))
        else:
            known.append(gb)
    if unknown:
        return None, f"the memory of GPU {', '.join(unknown)}: set resources.gpu_memory_gb"
    return min(known), None


def job_value(gpus: Sequence[int | str]) -> str:
    """CUDA_VISIBLE_DEVICES of a job that uses these devices.

    Without devices it is the value of this process, which is passed on as it is: it selects nothing that we
    know of. Empty, hence no device, where that is not set.
    """
    return ",".join(map(str, gpus)) or os.environ.get(VARIABLE, "")


def choose(variable: str | None, models: Column) -> Devices:
    """The devices that a value of CUDA_VISIBLE_DEVICES selects, in its order.

    As in CUDA, a negative index ends the list, and so does an index that no device has. Names that select
    nothing are refused, because CUDA would then use no GPU without saying so. Where the devices are not
    known, names of the right form are taken as they are.

    Args:
        variable: the value; None if it is not set.
        models: index -> model.
    """
    cards, unknown = models.values, [models.problem] if models.problem else []
    if variable is None:
        if cards is None:
            unknown.append(f"which GPUs there are: jobs use none, unless {VARIABLE}=0,1,... names them")
        gpus = [Gpu(name=index, index=index, model=_known(text)) for index, text in (cards or {}).items()]
        return Devices(gpus=tuple(gpus), unknown=tuple(unknown))
    try:
        gpus, ignored = _select(_words(variable), cards)
    except ValueError as error:
        return Devices(gpus=(), unknown=tuple(unknown), refused=f"{VARIABLE}={variable}: {error}. {ADVICE}")
    if ignored:
        unknown.append(f"{VARIABLE}={variable}: {ignored}")
    if gpus and cards is None:
        unknown.append(f"{VARIABLE}={variable}: nothing lists the GPUs, so these names are not checked")
    return Devices(gpus=tuple(gpus), unknown=tuple(unknown))


def _words(variable: str) -> list[str]:
    """The names in a value of CUDA_VISIBLE_DEVICES, up to the first negative index.

    Raises:
        ValueError: a name is of no known form or given twice, or the names are of several forms.
    """
    if variable.strip() in NO_GPU:
        return []
    words: list[str] = []
    for word in map(str.strip, variable.strip().removesuffix(",").split(",")):
        if re.fullmatch(r"-[0-9]+", word):
            break
        if not any(form.fullmatch(word) for form in FORMS):
            raise ValueError(f"{word!r} is neither an index nor a UUID (GPU-..., MIG-...)")
        words.append(str(int(word)) if INDEX.fullmatch(word) else word)
    if len({word[:4] if word[0] in "GM" else "" for word in words}) > 1:
        raise ValueError("CUDA reads only one form of names at a time")
    if twice := [word for word in words if words.count(word) > 1]:
        raise ValueError(f"{twice[0]} is given twice, and CUDA would then use no GPU")
    return words


def _select(words: Sequence[str], cards: Mapping[int, str] | None) -> tuple[list[Gpu], str | None]:
    """The devices that the words name, and a line on words that name none.

    Raises:
        ValueError: a word names no device or several, although there are devices, or two words name one.
    """
    if words and cards is not None and not cards:
        return [], "this machine has no NVIDIA GPU"
    uuids = _uuids() if words and words[0].startswith("GPU-") and cards else None
    gpus: list[Gpu] = []
    for word in words:
        index = int(word) if INDEX.fullmatch(word) else _index_of(word, uuids) if uuids else None
        if index is not None and cards is not None and index not in cards:
            if not gpus:
                raise ValueError(f"the GPUs of this machine are {', '.join(map(str, cards))}")
            return gpus, f"there is no GPU {word}. CUDA ignores it and the names after it"
        if index is not None and any(gpu.index == index for gpu in gpus):
            raise ValueError(f"{word} is given twice, and CUDA would then use no GPU")
        model = "MIG slice" if word.startswith("MIG-") else None
        if index is not None and cards is not None:
            model = _known(cards[index])
        gpus.append(Gpu(name=int(word) if word.isdigit() else word, index=index, model=model))
    return gpus, None


def _index_of(word: str, uuids: Mapping[int, str]) -> int:
    """The index of the only device whose UUID is the word or begins with it.

    Raises:
        ValueError: none or several do.
    """
    found = [index for index, uuid in uuids.items() if uuid.startswith(word)]
    if len(found) != 1:
        problem = "several UUIDs begin" if found else "no UUID begins"
        raise ValueError(f"{problem} with {word}; there are {', '.join(uuids.values())}")
    return found[0]


def _uuids() -> dict[int, str] | None:
    """Index -> UUID; None if not all are known."""
    values = _column("uuid").values
    return values if values and all(uuid.startswith("GPU-") for uuid in values.values()) else None


def _known(text: str) -> str | None:
    return text if text and not text.startswith("[") and text != "N/A" else None


def _driver_models() -> dict[int, str]:
    """Index -> model as the kernel's driver lists them; empty without its list."""
    models = {}
    for index, folder in enumerate(sorted(DRIVER.glob("*"))):
        try:
            text = (folder / "information").read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        found = re.search(r"^Model:[ \t]*(.*)$", text, re.MULTILINE)
        models[index] = found[1].strip() if found else ""
    return models


def _column(field: str) -> Column:
    """A field of every device. Where the names have no answer, nothing more is asked."""
    program = shutil.which("nvidia-smi")
    if program is None or (field != "name" and _ask(program, "name").values is None):
        return Column(values=None)
    return _ask(program, field)


@lru_cache
def _ask(program: str, field: str) -> Column:
    answer = ask([program, f"--query-gpu=index,{field}", "--format=csv,noheader"])
    if answer is None:
        return Column(values=None, problem=f"nvidia-smi gives no answer within {TIMEOUT_S:.0f} s")
    if answer.code != 0:
        said = " ".join((answer.output + answer.errors).split())[:SHOWN]
        return Column(values=None, problem=f"nvidia-smi fails with code {answer.code}: {said!r}")
    return read(answer.output)
