"""The total of a reward as an expression over component names, such as `pi * (sem + spa) / 2 * ri`.

Allowed: numbers, names, + - * / with constant divisors, parentheses, and min, max, mean of several values.
Python's own parser reads the expression. Everything that this grammar lacks is refused, never evaluated.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

from harness.names import nearest

QUOTING = """On a command line quote the whole setting: 'rewards.total="pi*ri"'"""

_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|//|\S)",
    re.ASCII,
)
_SIGNS = frozenset("+-*/(),")
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_CALLS: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
}
_LONGEST = 200  # numbers, names and signs
_DEEPEST = 50  # nested parentheses, the whole expression counted as one level


@dataclass(frozen=True)
class Total:
    """A parsed expression. `text` is its canonical spelling: two spellings of one expression share it."""

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(compare=False, repr=False)

    @classmethod
    def parse(cls, expression: str) -> Total:
        """Read an expression.

        Raises:
            ValueError: the expression is malformed; the message says where and what is allowed.
        """
        if not isinstance(expression, str):
            raise ValueError(
                f"rewards.total must be an expression over component names, got {expression!r}. {QUOTING}"
            )
        tree = _Grammar(expression).read()
        names = _names(tree)
        if not names:
            raise ValueError(
                f"rewards.total {expression!r} names no component, so all samples would have the same "
                "reward. Name at least one component, such as 'pi'"
            )
        return cls(ast.unparse(tree), names, tree)

    def check(self, known: Iterable[str]) -> None:
        """Raise ValueError for the first name that is not `known`; the message lists the known names."""
        known = sorted(known)
        for name in sorted(self.names - set(known)):
            near = nearest(name, known, cutoff=0.5)  # the names are short
            hint = f" Did you mean {near!r}?" if near else ""
            raise ValueError(
                f"rewards.total {self.text!r} names {name!r}, which is no component. "
                f"Known components: {', '.join(known) or 'none'}.{hint} "
                "Change the total, or add the component under rewards.components."
            )

    def part(self, names: Iterable[str]) -> Total | None:
        """The total with only these names; None if it has none of them.

        An operand without any of the names is dropped from its sum, product or argument list. Constants
        stay where their neighbor stays; the sign and a constant divisor stay too.
        """
        kept = _part(self._tree, frozenset(names))
        return None if kept is None else Total(ast.unparse(kept), _names(kept), kept)

    def evaluate(self, values: Mapping[str, float]) -> float:
        """Return the total for one sample's component values.

        Raises:
            ValueError: a named component has no value.
        """
        self.check(values)
        return _value(self._tree, values)


def _value(node: ast.AST, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return float(values[name])
        case ast.UnaryOp(operand=operand):
            return -_value(operand, values)
        case ast.BinOp(left=left, op=sign, right=right):
            return _OPERATORS[type(sign)](_value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _CALLS[name]([_value(argument, values) for argument in arguments])
    raise AssertionError(ast.dump(node))


def _part(node: ast.expr, names: frozenset[str]) -> ast.expr | None:
    """The expression with only these names, or None; one without any name stays as it is."""
    if not _names(node):
        return node
    match node:
        case ast.Name(id=name):
            return node if name in names else None
        case ast.UnaryOp(operand=operand):
            kept = _part(operand, names)
            return None if kept is None else _negative(kept)
        case ast.BinOp(left=left, op=sign, right=right):
            return _part_of_pair(node, _part(left, names), sign, _part(right, names))
        case ast.Call(func=function, args=arguments):
            parts = [part for argument in arguments if (part := _part(argument, names)) is not None]
            return ast.Call(function, parts, []) if any(map(_names, parts)) else None
    raise AssertionError(ast.dump(node))


def _part_of_pair(
    whole: ast.BinOp, left: ast.expr | None, sign: ast.operator, right: ast.expr | None
) -> ast.expr | None:
    """What stays of `left sign right` when its operands have become these parts."""
    if left is not None and right is not None:
        return ast.BinOp(left, sign, right)
    if left is None and right is not None and _names(right):
        return _negative(right) if isinstance(sign, ast.Sub) else right
    if left is not None and _names(left):
        return left
    return None  # neither has a name: what is left is a constant


def _negative(node: ast.expr) -> ast.expr:
    """The expression with the other sign; two signs cancel, as in the canonical text."""
    return node.operand if isinstance(node, ast.UnaryOp) else ast.UnaryOp(ast.USub(), node)


def _names(tree: ast.AST) -> frozenset[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return frozenset(names - _CALLS.keys())


class _Grammar(ast.NodeTransformer):
    """Parses one expression, refuses what is not allowed, and brings the tree into its canonical form."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        # The parentheses let an expression begin with spaces. A column of `source` is then the number of a
        # character of the expression, counted from 1.
        self.source = "(" + re.sub(r"\s", " ", expression, flags=re.ASCII) + ")"

    def read(self) -> ast.expr:
        self.check_tokens()
        try:
            tree = ast.parse(self.source, mode="eval").body
        except SyntaxError as error:
            token = _TOKEN.match(self.source, max((error.offset or 0) - 1, 1))
            if token is None or token.end() == len(self.source):
                self.fail("it ends too early")
            self.unexpected(token.group(), token.start())
        checked: ast.expr = self.visit(tree)
        return checked

    def check_tokens(self) -> None:
        """Refuse everything outside our grammar that a single token or two neighbors show."""
        tokens = list(_TOKEN.finditer(self.source, 1, len(self.source) - 1))
        if not tokens:
            self.fail("it is empty")
        if len(tokens) > _LONGEST:
            self.fail(f"it has more than {_LONGEST} numbers, names and signs")
        depth = 1
        for token in tokens:
            self.check_token(token)
            depth += {"(": 1, ")": -1}.get(token.group(), 0)
            if depth > _DEEPEST:
                self.fail(f"parentheses are nested more than {_DEEPEST} deep")
            if depth < 1:
                self.unexpected(")", token.start())
        for left, right in pairwise(tokens):
            two_operands = left.lastgroup != "sign" and right.lastgroup != "sign"
            if two_operands or (left.group(), right.group()) == (",", ")"):
                self.unexpected(right.group(), right.start())
        if depth > 1:
            self.fail("a ')' is missing at the end")

    def check_token(self, token: re.Match[str]) -> None:
        text = token.group()
        if token.lastgroup == "number" and not math.isfinite(float(text)):
            self.fail(f"the number {text[:20]} at character {token.start()} is too large")
        if token.lastgroup != "sign" or text in _SIGNS:
            return
        if text in ("**", "^"):
            self.fail("powers are not allowed; multiply instead")
        if text == ".":
            self.fail(f"attributes are not allowed (the '.' at character {token.start()})")
        self.unexpected(text, token.start())

    def fail(self, problem: str) -> NoReturn:
        raise ValueError(
            f"rewards.total {self.expression!r}: {problem}. Allowed: numbers, component names, + - * / ( ), "
            f"min(a, b), max(a, b), mean(a, b). {QUOTING}"
        )

    def unexpected(self, text: str, character: int) -> NoReturn:
        self.fail(f"unexpected {text!r} at character {character}")

    def text(self, node: ast.expr) -> str:
        return self.source[node.col_offset : node.end_col_offset]

    def generic_visit(self, node: ast.AST) -> NoReturn:
        assert isinstance(node, ast.expr)
        self.unexpected(self.text(node), node.col_offset)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if type(node.value) not in (int, float):  # True, False and None are constants too
            self.generic_visit(node)
        number = float(self.text(node))
        whole = repr(number).endswith(".0")  # 2 and 2.0 have one spelling
        return ast.Constant(value=int(number) if whole else number)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in _CALLS:
            self.fail(f"{node.id} needs its values in parentheses, as {node.id}(pi, ri)")
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if not isinstance(node.op, ast.USub):
            self.generic_visit(node)
        return _negative(self.visit(node.operand))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Div):
            self.check_divisor(right)
        return ast.BinOp(left, node.op, right)

    def check_divisor(self, divisor: ast.expr) -> None:
        if names := sorted(_names(divisor)):
            self.fail(
                f"division by a component ({', '.join(names)}), which may be zero; divide by constants only"
            )
        if _value(divisor, {}) == 0:
            self.fail(f"division by zero ({ast.unparse(divisor)})")

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if not isinstance(node.func, ast.Name) or node.func.col_offset != node.col_offset:  # (min)(pi, ri)
            self.generic_visit(node)
        name = node.func.id
        if name not in _CALLS:
            self.fail(f"{name}(...) is a call that is not allowed")
        if not node.args:
            self.visit_Name(node.func)
        return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])
