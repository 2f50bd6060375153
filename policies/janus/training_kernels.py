"""Compiled loops of a training step on a CPU: norm, gate, attention weights, and the layouts of attention.

What lies between matrix products takes as long as they do where each plain operator reads and writes its
numbers again. These loops read each number once, in the forward and in the backward pass.

Shapes: N tokens, H hidden, B sequences, T tokens of the longest, G query heads, K key-value heads, Q = G / K,
D head width. Attention's products have rows [B * K, T * Q, D]: all queries of a token that share a key
follow one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policies.janus.kernels import gate_row, normal_row, rotate, softmax_row
from policies.janus.loops import ONE, compiled, exp, narrow, widen


@compiled()
def add_normalize(x: Any, added: Any, weight: Any, epsilon: Any, total: Any, out: Any) -> None:
    """Writes the sums of rows [N, H] to `total`, and normalized to `out`."""
    for row in range(len(x)):
        one, other, both = x[row], added[row], total[row]
        for i in range(len(weight)):
            both[i] = narrow(widen(one[i]) + widen(other[i]), x[0, 0])
        normal_row(both, weight, epsilon, out[row])


@compiled()
def normalize_back(
    x: Any, weight: Any, epsilon: Any, gradient: Any, more: Any, of_x: Any, of_weight: Any
) -> None:
    """Writes the gradient of normalized rows [N, H] plus `more` to `of_x`, and adds that of the weight [H].

    Args:
        x: the rows.
        weight: of the norm.
        epsilon: of the norm.
        gradient: of the normalized rows.
        more: another gradient of the rows, or None.
        of_x: where their gradient goes.
        of_weight: where the gradient of the weight is added.
    """
    size = np.float32(len(weight))
    for row in range(len(x)):
        numbers, gradients, of_numbers = x[row], gradient[row], of_x[row]
        squares, projected = np.float32(0), np.float32(0)
        for i in range(len(weight)):
            number = widen(numbers[i])
            squares += number * number
            projected += number * widen(gradients[i]) * widen(weight[i])
        factor = ONE / np.sqrt(squares / size + epsilon)
        shrink = projected * factor * factor * factor / size
        for i in range(len(weight)):
            of_weight[i] += widen(numbers[i]) * factor * widen(gradients[i])
        if more is None:
            for i in range(len(weight)):
                one = factor * widen(gradients[i]) * widen(weight[i]) - shrink * widen(numbers[i])
                of_numbers[i] = narrow(one, of_x[0, 0])
        else:
            others = more[row]
            for i in range(len(weight)):
                one = factor * widen(gradients[i]) * widen(weight[i]) - shrink * widen(numbers[i])
                of_numbers[i] = narrow(one + widen(others[i]), of_x[0, 0])


@compiled()
def gate(gates: Any, ups: Any, out: Any) -> None:
    """Writes silu(gate) * up of rows [N, I] to `out`."""
    for row in range(len(out)):
        gate_row(gates[row], ups[row], out[row])


@compiled()
def gate_back(gates: Any, ups: Any, gradient: Any, of_gates: Any, of_ups: Any) -> None:
    """Writes the gradients of gates and ups, rows [N, I], from that of silu(gate) * up."""
    for row in range(len(gates)):
        gate_1, up_1, gradient_1 = gates[row], ups[row], gradient[row]
        of_gate_1, of_up_1 = of_gates[row], of_ups[row]
        for i in range(len(gate_1)):
            number, one = widen(gate_1[i]), widen(gradient_1[i])
            sigmoid = ONE / (ONE + exp(-number))
            silu = number * sigmoid
            of_up_1[i] = narrow(one * silu, of_ups[0, 0])
            slope = sigmoid + silu * (ONE - sigmoid)
            of_gate_1[i] = narrow(one * widen(up_1[i]) * slope, of_gates[0, 0])


@compiled()
def spread(tokens: Any, cos: Any, sin: Any, scale: Any, slots: Any, firsts: Any, out: Any) -> None:
    """Writes the heads of the tokens of sequences, rotated and scaled, to rows [B * K, T * Q, D].

    Args:
        tokens: heads of tokens [N, K * Q * D].
        cos: of their positions [N, D]; None: no rotation.
        sin: likewise, with the first half negated.
        scale: of the result.
        slots: the tokens of the sequences [B, T]; negative: padding, which is 0.
        firsts: how many tokens of each sequence [B] are 0, too, since an earlier one has them.
        out: the result.
    """
    width, groups = out.shape[2], out.shape[1] // slots.shape[1]
    kv_heads = len(out) // len(slots)
    for sequence in range(len(slots)):
        for t in range(slots.shape[1]):
            slot = slots[sequence, t]
            for number in range(kv_heads * groups):
                target = out[sequence * kv_heads + number // groups, t * groups + number % groups]
                if slot < 0 or t < firsts[sequence]:
                    for d in range(width):
                        target[d] = 0
                    continue
                source = tokens[slot, number * width : (number + 1) * width]
                if cos is None:
                    for d in range(width):
                        target[d] = source[d]
                else:
                    rotate(source, cos[slot], sin[slot], scale, target)


@compiled()
def join(rows: Any, cos: Any, sin: Any, scale: Any, slots: Any, firsts: Any, out: Any) -> None:
    """Writes rows [B * K, T * Q, D], rotated and scaled, to the heads of their tokens [N, K * Q * D].

    The inverse of `spread`, whose arguments it has. Rows of equal tokens after the first one are left out.
    """
    width, groups = rows.shape[2], rows.shape[1] // slots.shape[1]
    kv_heads = len(rows) // len(slots)
    for sequence in range(len(slots)):
        for t in range(firsts[sequence], slots.shape[1]):
            slot = slots[sequence, t]
            if slot < 0:
                break
            for number in range(kv_heads * groups):
                source = rows[sequence * kv_heads + number // groups, t * groups + number % groups]
                target = out[slot, number * width : (number + 1) * width]
                if cos is None:
                    for d in range(width):
                        target[d] = source[d]
                else:
                    rotate(source, cos[slot], sin[slot], scale, target)


@compiled()
def add(rows: Any, cos: Any, sin: Any, slots: Any, out: Any) -> None:
    """Adds rows [B * K, T, D], rotated, to the heads of their tokens [N, K * D] in float32.

    The tokens of many sequences may share a key; its gradient is a sum over them.
    """
    width, kv_heads = rows.shape[2], len(rows) // len(slots)
    head = np.empty(width, np.float32)
    for sequence in range(len(slots)):
        for t in range(slots.shape[1]):
            slot = slots[sequence, t]
            if slot < 0:
                break
            for number in range(kv_heads):
                source = rows[sequence * kv_heads + number, t]
                target = out[slot, number * width : (number + 1) * width]
                if cos is None:
                    for d in range(width):
                        target[d] += widen(source[d])
                else:
                    rotate(source, cos[slot], sin[slot], ONE, head)
                    for d in range(width):
                        target[d] += head[d]


@compiled()
def weigh(scores: Any, first: Any, groups: Any) -> None:
    """Turns scores [B * K, queries * Q, keys] into weights: the softmax over the keys that a query sees.

    Args:
        scores: of queries that follow one another.
        first: the token of the first query.
        groups: Q.
    """
    buffer = np.empty(scores.shape[2], np.float32)
    for number in range(len(scores)):
        for query in range(scores.shape[1]):
            row = scores[number, query]
            seen = first + query // groups + 1
            softmax_row(row[:seen], buffer)
            row[seen:] = 0


@compiled()
def weigh_back(weights: Any, gradient: Any, first: Any, groups: Any) -> None:
    """Turns the gradient of weights into that of scores; the arguments are those of `weigh`."""
    for number in range(len(weights)):
        for query in range(weights.shape[1]):
            row, of_row = weights[number, query], gradient[number, query]
            seen = first + query // groups + 1
            projected = np.float32(0)
            for s in range(seen):
                projected += widen(row[s]) * widen(of_row[s])
            for s in range(seen):
                of_row[s] = narrow(widen(row[s]) * (widen(of_row[s]) - projected), gradient[0, 0, 0])
            of_row[seen:] = 0


@compiled()
def choose(logits: Any, temperature: Any, ids: Any, logprobs: Any, entropies: Any, certainties: Any) -> None:
    """Writes log-probs of chosen ids under softmax(logits / temperature), and measures of its distributions.

    Args:
        logits: of the ids [N, V].
        temperature: above 0.
        ids: the chosen ones [N].
        logprobs: where their log-probs go [N].
        entropies: where the entropies go [N].
        certainties: where the divergences of the uniform distribution go [N].
    """
    size = np.float32(logits.shape[1])
    scale, log_size = ONE / temperature, np.log(size)
    for i in range(len(logits)):
        row = logits[i]
        highest = widen(row[0])
        for v in range(len(row)):
            highest = max(highest, widen(row[v]))
        total, weighted, plain = np.float32(0), np.float32(0), np.float32(0)
        for v in range(len(row)):
            number = (widen(row[v]) - highest) * scale
            weight = exp(number)
            total += weight
            weighted += weight * number
            plain += number
        log_total = np.log(total)
        logprobs[i] = (widen(row[ids[i]]) - highest) * scale - log_total
        entropies[i] = log_total - weighted / total
        certainties[i] = log_total - plain / size - log_size


@compiled()
def choose_back(
    logits: Any, temperature: Any, ids: Any, logprobs: Any, gradient: Any, of_logits: Any
) -> None:
    """Writes the gradient of logits [N, V] from that of log-probs [N]; the rest is as in `choose`."""
    scale = ONE / temperature
    for i in range(len(logits)):
        row, of_row = logits[i], of_logits[i]
        chosen, factor = widen(row[ids[i]]), gradient[i] * scale
        for v in range(len(row)):
            probability = exp((widen(row[v]) - chosen) * scale + logprobs[i])
            of_row[v] = narrow(-factor * probability, of_logits[0, 0])
        of_row[ids[i]] = narrow(factor * (ONE - np.exp(logprobs[i])), of_logits[0, 0])
