"""The total of a reward as an expression over component names, such as `pi * (sem + spa) / 2 * ri`.

Offered: numbers, names, + - * / with constant divisors, parentheses, and min, max, mean of several values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from harness.names import nearest

QUOTING = """On a command line quote the whole setting: 'rewards.total="pi*ri"'"""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|//|\S))",
    re.ASCII,
)
_CALLS: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
}
_LONGEST = 200  # numbers, names and signs
_DEEPEST = 50  # nested parentheses


@dataclass(frozen=True)
class _Node:
    """`kind` is number, name, call or one of + - * /; `text` is how it is written, `binding` how tightly it binds."""

    kind: str
    text: str
    binding: int
    parts: tuple[_Node, ...] = ()

    def value(self, values: Mapping[str, float]) -> float:
        if self.kind == "number":
            return float(self.text)
        if self.kind == "name":
            return float(values[self.text])
        parts = [part.value(values) for part in self.parts]
        if self.kind in _CALLS:
            return _CALLS[self.kind](parts)
        if len(parts) == 1:
            return -parts[0]
        left, right = parts
        return (
            {"+": left + right, "-": left - right, "*": left * right}[self.kind]
            if self.kind != "/"
            else left / right
        )

    def names(self) -> frozenset[str]:
        if self.kind == "name":
            return frozenset([self.text])
        return frozenset().union(*(part.names() for part in self.parts))


@dataclass(frozen=True)
class Total:
    """A parsed expression. `text` is its canonical spelling: two spellings of one expression have the same."""

    text: str
    names: frozenset[str]
    _root: _Node

    @classmethod
    def parse(cls, expression: str) -> Total:
        """Reads an expression.

        Raises:
            ValueError: it is no expression of the offered kind; the text says what was found and what is allowed.
        """
        if not isinstance(expression, str):
            raise ValueError(
                f"rewards.total must be an expression over component names, got {expression!r}. {QUOTING}"
            )
        root = _Parser(expression).parse()
        if not root.names():
            raise ValueError(
                f"rewards.total {expression!r} names no component, so all samples would be equal: name one, such as 'pi'"
            )
        return cls(root.text, root.names(), root)

    def check(self, known: Iterable[str]) -> None:
        """Raises ValueError for the first name that is not `known`, with the known ones and the nearest of them."""
        known = sorted(known)
        for name in sorted(self.names - set(known)):
            near = nearest(name, known, cutoff=0.5)  # the names are short
            hint = f" Did you mean {near!r}?" if near else ""
            raise ValueError(
                f"rewards.total {self.text!r} names {name!r}, which is no component. Known components: {', '.join(known) or 'none'}.{hint} "
                "Change the total, or add the component under rewards.components."
            )

    def evaluate(self, values: Mapping[str, float]) -> float:
        """The total for one sample's component values.

        Raises:
            ValueError: a named component has no value.
        """
        self.check(values)
        return self._root.value(values)


class _Parser:
    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = [
            (match.lastgroup or "", match.group(match.lastgroup or 0))
            for match in _TOKEN.finditer(expression)
        ]
        self.at = 0
        self.depth = 0

    def parse(self) -> _Node:
        if len(self.tokens) > _LONGEST:
            self.fail(f"it has more than {_LONGEST} numbers, names and signs")
        root = self.sum()
        if self.at < len(self.tokens):
            self.fail(f"unexpected {self.peek()!r}")
        return root

    def fail(self, problem: str) -> NoReturn:
        raise ValueError(
            f"rewards.total {self.expression!r}: {problem}. Allowed: numbers, component names, + - * / ( ), min(a, b), max(a, b), "
            f"mean(a, b). {QUOTING}"
        )

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token if it is one of the wanted ones, else the empty text."""
        found = self.peek()
        if found not in wanted or not found:
            return ""
        self.at += 1
        return found

    def sum(self) -> _Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"parentheses are nested more than {_DEEPEST} deep")
        left = self.product()
        while sign := self.take("+", "-"):
            left = _pair(sign, 1, left, self.product())
        self.depth -= 1
        return left

    def product(self) -> _Node:
        left = self.signed()
        while sign := self.take("*", "/"):
            right = self.signed()
            if sign == "/":
                self.check_divisor(right)
            left = _pair(sign, 2, left, right)
        return left

    def check_divisor(self, divisor: _Node) -> None:
        if names := sorted(divisor.names()):
            self.fail(
                f"division by a component ({', '.join(names)}), which may be zero; divide by constants only"
            )
        if divisor.value({}) == 0:
            self.fail(f"division by zero ({divisor.text})")

    def signed(self) -> _Node:
        if not self.take("-"):
            return self.atom()
        operand = self.signed()
        if operand.kind == "-" and len(operand.parts) == 1:
            return operand.parts[0]
        return _Node("-", f"-{_enclosed(operand, 3)}", 3, (operand,))

    def atom(self) -> _Node:
        if self.at == len(self.tokens):
            self.fail("it ends too early" if self.tokens else "it is empty")
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            if not math.isfinite(float(text)):
                self.fail(f"the number {text} is too large")
            return _Node("number", repr(float(text)).removesuffix(".0"), 4)
        if kind == "name":
            return self.call(text) if text in _CALLS or self.peek() == "(" else self.name(text)
        if text == "(":
            inside = self.sum()
            self.close()
            return inside
        self.fail(
            "powers are not offered; multiply instead" if text in ("**", "^") else f"unexpected {text!r}"
        )

    def name(self, text: str) -> _Node:
        if self.peek() == ".":
            self.fail(f"attributes are not offered ({text}.)")
        if self.peek() in ("**", "^"):
            self.fail("powers are not offered; multiply instead")
        return _Node("name", text, 4)

    def call(self, name: str) -> _Node:
        if name not in _CALLS:
            self.fail(f"{name}(...) is a call that is not offered")
        if not self.take("("):
            self.fail(f"{name} needs its values in parentheses, as {name}(pi, ri)")
        values = [self.sum()]
        while self.take(","):
            values.append(self.sum())
        self.close()
        return _Node(name, f"{name}({', '.join(value.text for value in values)})", 4, tuple(values))

    def close(self) -> None:
        if not self.take(")"):
            self.fail(
                f"a ')' is missing before {self.peek()!r}" if self.peek() else "a ')' is missing at the end"
            )


def _pair(sign: str, binding: int, left: _Node, right: _Node) -> _Node:
    return _Node(
        sign, f"{_enclosed(left, binding)} {sign} {_enclosed(right, binding + 1)}", binding, (left, right)
    )


def _enclosed(node: _Node, least: int) -> str:
    return node.text if node.binding >= least else f"({node.text})"
