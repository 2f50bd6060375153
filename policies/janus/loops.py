"""What compiled loops share: how they are compiled, the numbers that they read and write, and e^x.

bfloat16 is read and written as its bits, since NumPy has no such type.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray
from torch import Tensor

INVERSE_LN2, LN2 = np.float32(1 / math.log(2)), np.float32(math.log(2))
LARGEST = np.float32(87)  # beyond, e^x is no normal float32
ONE, HALF = np.float32(1), np.float32(0.5)
T3, T4, T5, T6, T7 = (np.float32(1 / math.factorial(order)) for order in range(3, 8))
SOURCES = ("loops.py", "kernels.py", "training_kernels.py")


def _machine_code(folder: Path, sources: Sequence[Path]) -> Path:
    """The folder in `folder` for the machine code of these sources.

    Numba compiles a loop again if its own file has changed, but not if a loop of another file that it calls
    has. So each version of the sources has a folder of its own.
    """
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    return folder / f"loops-{digest.hexdigest()[:12]}"


_package = Path(str(resources.files("policies.janus")))
_parent = Path(numba.config.CACHE_DIR or _package / "__pycache__")  # type: ignore[attr-defined]
numba.config.CACHE_DIR = str(  # type: ignore[attr-defined]
    _machine_code(_parent, [_package / name for name in SOURCES])
)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compiles at the first call, and keeps the machine code on disk where a folder for it can be written.

    A loop that others call must be compiled into each of them (`inline="always"`). Else the optimizer would
    see its code in the process that compiles both, but not where it is read from disk, and sums would differ.
    """
    options |= {"nogil": True, "fastmath": True, "error_model": "numpy"}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no such folder
            return njit(**options)(function)

    return decorate


def _reinterpret(from_type: Any, to_type: Any, to_ir: ir.Type) -> Any:
    """A function of compiled loops that returns the number with the same 32 bits in another type."""

    def typed(typing: Any, number: Any) -> Any:
        del typing, number
        return to_type(from_type), lambda _, builder, __, values: builder.bitcast(values[0], to_ir)

    return intrinsic(typed)


_float_of = _reinterpret(types.uint32, types.float32, ir.FloatType())
_bits_of = _reinterpret(types.float32, types.uint32, ir.IntType(32))


def widen(stored: Any) -> Any:
    """The float32 of a stored number: float32, or the bits of a bfloat16."""


@overload(widen, inline="always")
def _(stored: Any) -> Any:
    def bfloat16(stored: Any) -> Any:
        return _float_of(np.uint32(np.uint32(stored) << 16))

    def float32(stored: Any) -> Any:
        return stored

    return bfloat16 if stored == types.uint16 else float32


def narrow(number: Any, like: Any) -> Any:
    """A float32 as numbers like `like` are stored: rounded to the nearest, halves to even."""


@overload(narrow, inline="always")
def _(number: Any, like: Any) -> Any:
    def bfloat16(number: Any, like: Any) -> Any:
        bits = _bits_of(number)
        return np.uint16(np.uint32(bits + np.uint32(0x7FFF + ((bits >> 16) & 1))) >> 16)

    def float32(number: Any, like: Any) -> Any:
        return number

    return bfloat16 if like == types.uint16 else float32


@compiled(inline="always")
def exp(number: Any) -> Any:
    """e^x of a float32: 2^n e^r with |r| <= ln 2 / 2, whose Taylor series has eight terms."""
    number = min(max(number, -LARGEST), LARGEST)
    power = np.floor(number * INVERSE_LN2 + HALF)
    r = number - power * LN2
    series = ((((((T7 * r + T6) * r + T5) * r + T4) * r + T3) * r + HALF) * r + ONE) * r + ONE
    return series * _float_of(np.uint32(np.uint32(np.int32(power) + 127) << 23))


def array(x: Tensor) -> NDArray[Any]:
    """The numbers of a tensor on a CPU, in its memory, as loops read them."""
    x = x.detach()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
