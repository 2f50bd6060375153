"""Compiled loops of a rollout step on a CPU: attention, norm, gate.

A step has one token per row, so plain operators spend its time on their number and on memory. These loops
read each number once. bfloat16 is read and written as its bits, since NumPy has no such type, and everything
is rounded where training rounds it: results of products, queries, keys, weights, norms.

Shapes: R rows, P rows of a prefix (each seen by as many consecutive rows), S slots, G key-value heads,
Q query heads per key-value head, D head width, H hidden, I width of the MLP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

INVERSE_LN2, LN2 = np.float32(1 / math.log(2)), np.float32(math.log(2))
LARGEST = np.float32(87)  # beyond, e^x is no normal float32
ONE, HALF = np.float32(1), np.float32(0.5)
T3, T4, T5, T6, T7 = (np.float32(1 / math.factorial(order)) for order in range(3, 8))


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compiles at the first call, and keeps the machine code on disk where a folder for it can be written."""
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


def _widen(stored: Any) -> Any:
    """The float32 of a stored number: float32, or the bits of a bfloat16."""


@overload(_widen, inline="always")
def _(stored: Any) -> Any:
    def bfloat16(stored: Any) -> Any:
        return _float_of(np.uint32(np.uint32(stored) << 16))

    def float32(stored: Any) -> Any:
        return stored

    return bfloat16 if stored == types.uint16 else float32


def _narrow(number: Any, like: Any) -> Any:
    """A float32 as numbers like `like` are stored: rounded to the nearest, halves to even."""


@overload(_narrow, inline="always")
def _(number: Any, like: Any) -> Any:
    def bfloat16(number: Any, like: Any) -> Any:
        bits = _bits_of(number)
        return np.uint16(np.uint32(bits + np.uint32(0x7FFF + ((bits >> 16) & 1))) >> 16)

    def float32(number: Any, like: Any) -> Any:
        return number

    return bfloat16 if like == types.uint16 else float32


@_compiled(inline="always")
def _exp(number: Any) -> Any:
    """e^x of a float32: 2^n e^r with |r| <= ln 2 / 2, whose Taylor series has eight terms."""
    number = min(max(number, -LARGEST), LARGEST)
    power = np.floor(number * INVERSE_LN2 + HALF)
    r = number - power * LN2
    series = ((((((T7 * r + T6) * r + T5) * r + T4) * r + T3) * r + HALF) * r + ONE) * r + ONE
    return series * _float_of(np.uint32(np.uint32(np.int32(power) + 127) << 23))


@_compiled()
def normalize(x: Any, weight: Any, epsilon: Any, out: Any) -> None:
    """Writes rows [R, H] divided by their root mean square, times the weight [H], to `out`."""
    for row in range(len(x)):
        total = np.float32(0)
        for i in range(len(weight)):
            total += _widen(x[row, i]) * _widen(x[row, i])
        factor = ONE / np.sqrt(total / np.float32(len(weight)) + epsilon)
        for i in range(len(weight)):
            normal = _widen(_narrow(_widen(x[row, i]) * factor, x[0, 0]))
            out[row, i] = _narrow(normal * _widen(weight[i]), out[0, 0])


@_compiled()
def gate(gate_up: Any, out: Any) -> None:
    """Writes silu(gate) * up of rows of gates and ups [R, 2 I] to `out` [R, I]."""
    width = out.shape[1]
    for row in range(len(out)):
        gates, ups, gated = gate_up[row, :width], gate_up[row, width:], out[row]
        for i in range(width):
            number = _widen(gates[i])
            silu = _widen(_narrow(number / (ONE + _exp(-number)), out[0, 0]))
            gated[i] = _narrow(silu * _widen(ups[i]), out[0, 0])


@_compiled()
def draw(logits: Any, temperature: Any, uniforms: Any, ids: Any, logprobs: Any) -> None:
    """Draws an id for each row of logits [R, V] by the inverse CDF of softmax(logits / temperature).

    Args:
        logits: of the ids.
        temperature: above 0.
        uniforms: in [0, 1), float64 [R].
        ids: where the ids go [R].
        logprobs: where their log-probs go [R].
    """
    count = logits.shape[1]
    weights, cdf = np.empty(count, np.float32), np.empty(count, np.float64)
    for row in range(len(logits)):
        highest = _widen(logits[row, 0])
        for i in range(count):
            highest = max(highest, _widen(logits[row, i]))
        for i in range(count):
            weights[i] = _exp((_widen(logits[row, i]) - highest) / temperature)
        total = 0.0
        for i in range(count):
            total += np.float64(weights[i])
            cdf[i] = total
        drawn = min(np.searchsorted(cdf, uniforms[row] * total, side="right"), count - 1)
        ids[row] = drawn
        logprobs[row] = np.log(np.float64(weights[drawn])) - np.log(total)


@_compiled()
def attend(
    tokens: Any,
    cos: Any,
    sin: Any,
    scale: Any,
    rows: Any,
    slot: Any,
    tail: Any,
    prefixes: Any,
    filled: Any,
    out: Any,
) -> None:
    """Attends from one token of each row to its prefixes and its tail, which the token joins.

    Args:
        tokens: projected tokens [R, (G * Q + 2 * G) * D].
        cos: of their positions [R, D].
        sin: likewise, with the first half negated.
        scale: of queries.
        rows: their rows in the cache [R].
        slot: the slot of the tails that is written; with the ones before it, it is read.
        tail: keys and values [G, rows, S, D].
        prefixes: keys and values [G, P, S, D] of each prefix.
        filled: of each prefix: the number of slots that every row of the cache sees.
        out: the result [R, G * Q * D].
    """
    keys, values = tail
    kv_heads, _, _, width = keys.shape
    heads = out.shape[1] // width
    slots = slot + 1
    for prefix_keys, _ in prefixes:
        slots += prefix_keys.shape[2]
    scores = np.empty(slots, np.float32)
    rotated, mixed = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(len(rows)):
        row = rows[i]
        for kv_head in range(kv_heads):
            first = (heads + kv_head) * width
            _rotate(tokens[i, first : first + width], cos[i], sin[i], ONE, rotated)
            for d in range(width):
                keys[kv_head, row, slot, d] = _narrow(rotated[d], keys[0, 0, 0, 0])
                values[kv_head, row, slot, d] = tokens[i, first + kv_heads * width + d]
            for head in range(kv_head * heads // kv_heads, (kv_head + 1) * heads // kv_heads):
                first = head * width
                _rotate(tokens[i, first : first + width], cos[i], sin[i], scale, rotated)
                for d in range(width):
                    rotated[d] = _widen(_narrow(rotated[d], keys[0, 0, 0, 0]))
                    mixed[d] = np.float32(0)
                end = 0
                for number in range(len(prefixes)):
                    shared = prefixes[number][0][
                        kv_head, row // (len(filled[number]) // prefixes[number][0].shape[1])
                    ]
                    begin, end = end, end + filled[number][row]
                    _score(rotated, shared, scores[begin:end])
                _score(rotated, keys[kv_head, row], scores[end : end + slot + 1])
                _softmax(scores[: end + slot + 1], keys[0, 0, 0, 0])
                end = 0
                for number in range(len(prefixes)):
                    shared = prefixes[number][1][
                        kv_head, row // (len(filled[number]) // prefixes[number][0].shape[1])
                    ]
                    begin, end = end, end + filled[number][row]
                    _mix(scores[begin:end], shared, mixed)
                _mix(scores[end : end + slot + 1], values[kv_head, row], mixed)
                for d in range(width):
                    out[i, first + d] = _narrow(mixed[d], out[0, 0])


@_compiled()
def _rotate(head: Any, cos: Any, sin: Any, scale: Any, rotated: Any) -> None:
    """Writes a head [D] at its rotary position, times `scale`; the first half of `sin` is negated."""
    half = len(head) // 2
    for d in range(half):
        first, second = _widen(head[d]), _widen(head[half + d])
        rotated[d] = scale * (first * cos[d] + second * sin[d])
        rotated[half + d] = scale * (second * cos[half + d] + first * sin[half + d])


@_compiled()
def _score(query: Any, keys: Any, scores: Any) -> None:
    """Writes the scores of a query [D] with as many of the keys [S, D] as `scores` has room for."""
    for s in range(len(scores)):
        total = np.float32(0)
        for d in range(len(query)):
            total += query[d] * _widen(keys[s, d])
        scores[s] = _widen(_narrow(total, keys[0, 0]))


@_compiled()
def _softmax(scores: Any, like: Any) -> None:
    """Turns scores into weights, rounded as numbers like `like` are stored."""
    highest = scores[0]
    for s in range(len(scores)):
        highest = max(highest, scores[s])
    total = np.float32(0)
    for s in range(len(scores)):
        scores[s] = _exp(scores[s] - highest)
        total += scores[s]
    for s in range(len(scores)):
        scores[s] = _widen(_narrow(scores[s] / total, like))


@_compiled()
def _mix(weights: Any, values: Any, mixed: Any) -> None:
    """Adds the values [S, D], each with its weight, to `mixed` [D]."""
    fours = len(weights) // 4 * 4
    for s in range(0, fours, 4):
        a, b, c, e = weights[s], weights[s + 1], weights[s + 2], weights[s + 3]
        for d in range(len(mixed)):
            mixed[d] += (
                a * _widen(values[s, d])
                + b * _widen(values[s + 1, d])
                + c * _widen(values[s + 2, d])
                + e * _widen(values[s + 3, d])
            )
    for s in range(fours, len(weights)):
        for d in range(len(mixed)):
            mixed[d] += weights[s] * _widen(values[s, d])
