"""Compiled loops of a rollout step on a CPU: attention, norm, gate.

A step has one token per row, so plain operators spend its time on their number and on memory. These loops
read each number once. Everything is rounded where training rounds it: results of products, queries, keys,
weights, norms.

Shapes: R rows, P rows of a prefix (each seen by as many consecutive rows), S slots, G key-value heads,
Q query heads per key-value head, D head width, H hidden, I width of the MLP.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policies.janus.loops import ONE, compiled, exp, narrow, widen


@compiled(inline="always")
def normal_row(x: Any, weight: Any, epsilon: Any, out: Any) -> None:
    """Writes a row [H] divided by its root mean square, times the weight [H], to `out`."""
    total = np.float32(0)
    for i in range(len(weight)):
        total += widen(x[i]) * widen(x[i])
    factor = ONE / np.sqrt(total / np.float32(len(weight)) + epsilon)
    for i in range(len(weight)):
        normal = widen(narrow(widen(x[i]) * factor, x[0]))
        out[i] = narrow(normal * widen(weight[i]), out[0])


@compiled()
def normalize(x: Any, weight: Any, epsilon: Any, out: Any) -> None:
    """Writes rows [R, H] divided by their root mean square, times the weight [H], to `out`."""
    for row in range(len(x)):
        normal_row(x[row], weight, epsilon, out[row])


@compiled(inline="always")
def gate_row(gates: Any, ups: Any, out: Any) -> None:
    """Writes silu(gate) * up of one row [I] to `out`."""
    for i in range(len(out)):
        number = widen(gates[i])
        silu = widen(narrow(number / (ONE + exp(-number)), out[0]))
        out[i] = narrow(silu * widen(ups[i]), out[0])


@compiled()
def gate(gate_up: Any, out: Any) -> None:
    """Writes silu(gate) * up of rows of gates and ups [R, 2 I] to `out` [R, I]."""
    width = out.shape[1]
    for row in range(len(out)):
        gate_row(gate_up[row, :width], gate_up[row, width:], out[row])


@compiled()
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
        highest = widen(logits[row, 0])
        for i in range(count):
            highest = max(highest, widen(logits[row, i]))
        for i in range(count):
            weights[i] = exp((widen(logits[row, i]) - highest) / temperature)
        total = 0.0
        for i in range(count):
            total += np.float64(weights[i])
            cdf[i] = total
        drawn = min(np.searchsorted(cdf, uniforms[row] * total, side="right"), count - 1)
        ids[row] = drawn
        logprobs[row] = np.log(np.float64(weights[drawn])) - np.log(total)


@compiled()
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
            rotate(tokens[i, first : first + width], cos[i], sin[i], ONE, rotated)
            for d in range(width):
                keys[kv_head, row, slot, d] = narrow(rotated[d], keys[0, 0, 0, 0])
                values[kv_head, row, slot, d] = tokens[i, first + kv_heads * width + d]
            for head in range(kv_head * heads // kv_heads, (kv_head + 1) * heads // kv_heads):
                first = head * width
                rotate(tokens[i, first : first + width], cos[i], sin[i], scale, rotated)
                for d in range(width):
                    rotated[d] = widen(narrow(rotated[d], keys[0, 0, 0, 0]))
                    mixed[d] = np.float32(0)
                end = 0
                for number in range(len(prefixes)):
                    shared, counts = prefixes[number][0], filled[number]
                    begin, end = end, end + counts[row]
                    seen = shared[kv_head, row * shared.shape[1] // len(counts)]
                    _score(rotated, seen, scores[begin:end])
                _score(rotated, keys[kv_head, row], scores[end : end + slot + 1])
                _softmax(scores[: end + slot + 1], keys[0, 0, 0, 0])
                end = 0
                for number in range(len(prefixes)):
                    shared, counts = prefixes[number][1], filled[number]
                    begin, end = end, end + counts[row]
                    seen = shared[kv_head, row * shared.shape[1] // len(counts)]
                    _mix(scores[begin:end], seen, mixed)
                _mix(scores[end : end + slot + 1], values[kv_head, row], mixed)
                for d in range(width):
                    out[i, first + d] = narrow(mixed[d], out[0, 0])


@compiled(inline="always")
def rotate(head: Any, cos: Any, sin: Any, scale: Any, out: Any) -> None:
    """Writes a head [D] at its rotary position, times `scale`; the first half of `sin` is negated."""
    half = len(head) // 2
    for d in range(half):
        first, second = widen(head[d]), widen(head[half + d])
        out[d] = narrow(scale * (first * cos[d] + second * sin[d]), out[0])
        out[half + d] = narrow(scale * (second * cos[half + d] + first * sin[half + d]), out[0])


@compiled(inline="always")
def _score(query: Any, keys: Any, scores: Any) -> None:
    """Writes the scores of a query [D] with as many of the keys [S, D] as `scores` has room for."""
    for s in range(len(scores)):
        total = np.float32(0)
        for d in range(len(query)):
            total += query[d] * widen(keys[s, d])
        scores[s] = widen(narrow(total, keys[0, 0]))


@compiled(inline="always")
def _softmax(scores: Any, like: Any) -> None:
    """Turns scores into weights, rounded as numbers like `like` are stored."""
    highest = scores[0]
    for s in range(len(scores)):
        highest = max(highest, scores[s])
    total = np.float32(0)
    for s in range(len(scores)):
        scores[s] = exp(scores[s] - highest)
        total += scores[s]
    for s in range(len(scores)):
        scores[s] = widen(narrow(scores[s] / total, like))


@compiled(inline="always")
def _mix(weights: Any, values: Any, mixed: Any) -> None:
    """Adds the values [S, D], each with its weight, to `mixed` [D]."""
    fours = len(weights) // 4 * 4
    for s in range(0, fours, 4):
        a, b, c, e = weights[s], weights[s + 1], weights[s + 2], weights[s + 3]
        for d in range(len(mixed)):
            mixed[d] += (
                a * widen(values[s, d])
                + b * widen(values[s + 1, d])
                + c * widen(values[s + 2, d])
                + e * widen(values[s + 3, d])
            )
    for s in range(fours, len(weights)):
        for d in range(len(mixed)):
            mixed[d] += weights[s] * widen(values[s, d])


@compiled(inline="always")
def softmax_row(scores: Any, buffer: Any) -> None:
    """Turns scores [S] into weights. The buffer has room for as many float32."""
    highest = widen(scores[0])
    for s in range(len(scores)):
        highest = max(highest, widen(scores[s]))
    total = np.float32(0)
    for s in range(len(scores)):
        buffer[s] = exp(widen(scores[s]) - highest)
        total += buffer[s]
    factor = ONE / total
    for s in range(len(scores)):
        scores[s] = narrow(buffer[s] * factor, scores[0])
