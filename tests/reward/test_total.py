"""Totals: arithmetic over component names, and a clear message for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward.total import Total

VALUES = {"pi": 0.8, "sem": 0.6, "spa": 0.2, "ri": 0.5}

BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3}

# A tree is a name, a number as text, ("negative", tree), (sign, left, right) or (function, *trees).
numbers = st.sampled_from(["0", "2", "7.", ".25", "0.1", "1e1", "2.50", "1e16", "123456789012345678"])
leaves = st.sampled_from(sorted(VALUES)) | numbers
divisors = st.sampled_from(["2", "3.", ("negative", "7"), ("+", "1", ("*", "2", "3")), ("mean", "1", "2")])


def larger(inner):
    return st.one_of(
        st.tuples(st.sampled_from("+-*"), inner, inner),
        st.tuples(st.just("/"), inner, divisors),
        st.tuples(st.just("negative"), inner),
        st.tuples(st.sampled_from(["min", "max", "mean"]), inner, inner, inner),
        st.tuples(st.sampled_from(["min", "max", "mean"]), inner),
    )


trees = st.recursive(leaves, larger, max_leaves=12)


def simplified(tree):
    """The tree without double negation, as the canonical text shows it."""
    if isinstance(tree, str):
        return tree
    kind, *parts = [part if position == 0 else simplified(part) for position, part in enumerate(tree)]
    return parts[0][1] if kind == "negative" and parts[0][0] == "negative" else (kind, *parts)


def reference_value(tree):
    """The value of a tree in float64, operation by operation as it is written."""
    if isinstance(tree, str):
        return VALUES[tree] if tree in VALUES else float(tree)
    kind, *parts = tree
    values = [reference_value(part) for part in parts]
    if kind == "negative":
        return -values[0]
    if kind in ("min", "max"):
        return min(values) if kind == "min" else max(values)
    if kind == "mean":
        return sum(values) / len(values)
    left, right = values
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / (right or 1)}[kind]


def reference_text(tree, least=0):
    """The canonical text, in parentheses where the tree binds less tightly than `least`."""
    if isinstance(tree, str):
        return tree if tree in VALUES else repr(float(tree)).removesuffix(".0")
    kind, *parts = tree
    if kind not in BINDING:
        return f"{kind}({', '.join(reference_text(part) for part in parts)})"
    binding = BINDING[kind]
    if kind == "negative":
        text = f"-{reference_text(parts[0], binding)}"
    else:
        text = f"{reference_text(parts[0], binding)} {kind} {reference_text(parts[1], binding + 1)}"
    return text if binding >= least else f"({text})"


def spelled(tree, draw):
    """One of many spellings: with redundant parentheses and any spaces."""
    space = draw(st.sampled_from(["", " ", "\n", "\t "]))
    if isinstance(tree, str):
        text = tree
    elif tree[0] == "negative":
        text = f"-{space}({spelled(tree[1], draw)})"
    elif tree[0] in BINDING:
        left, right = spelled(tree[1], draw), spelled(tree[2], draw)
        if draw(st.booleans()):
            return reference_text(tree).replace(" ", space)
        text = f"(({left}){space}{tree[0]}{space}({right}))"
    else:
        arguments = f"{space},{space}".join(spelled(part, draw) for part in tree[1:])
        text = f"{tree[0]}{space}({arguments})"
    return f"{space}({text}){space}" if draw(st.booleans()) else f"{space}{text}{space}"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("pi", 0.8),
        ("(sem+spa)/2", 0.4),
        ("pi * (sem + spa) / 2 * ri", 0.16),
        ("pi*sem*ri", 0.24),
        ("(pi + sem + spa + ri) / 4", 0.525),
        ("pi - sem - spa", 0.0),
        ("pi - (sem - spa)", 0.4),
        ("-pi + 1", 0.2),
        ("2 * -pi", -1.6),
        ("min(pi, ri, 1)", 0.5),
        ("max(pi, .9)", 0.9),
        ("mean(pi, sem, spa)", 1.6 / 3),
        ("pi / (3 - 1) / 1e1", 0.04),
    ],
)
def test_a_total_is_ordinary_arithmetic(expression, value):
    assert Total.parse(expression).evaluate(VALUES) == pytest.approx(value)


@given(trees, st.data())
def test_a_total_agrees_with_a_naive_evaluator_to_the_last_bit_and_has_one_canonical_text(tree, data):
    expression = spelled(tree, data.draw)
    if not any(name in expression for name in VALUES):
        with pytest.raises(ValueError, match="names no component"):
            Total.parse(expression)
        return
    total = Total.parse(expression)
    assert total.text == reference_text(simplified(tree))
    assert total.evaluate(VALUES).hex() == float(reference_value(tree)).hex()
    assert Total.parse(total.text) == total
    assert Total.parse(total.text).evaluate(VALUES).hex() == total.evaluate(VALUES).hex()
    assert total.names == {name for name in VALUES if name in expression}


def test_parentheses_may_be_as_deep_as_they_ever_were():
    assert Total.parse("(" * 49 + "pi" + ")" * 49).text == "pi"
    with pytest.raises(ValueError, match="nested more than 50 deep"):
        Total.parse("(" * 50 + "pi" + ")" * 50)
    assert Total.parse("-" * 199 + "pi").text == "-pi"


def test_spelling_does_not_change_the_canonical_text():
    assert (
        Total.parse("pi*(sem+spa)/2.0*ri").text
        == Total.parse(" pi * ((sem + spa)) / 2 * (ri)").text
        == "pi * (sem + spa) / 2 * ri"
    )
    assert Total.parse("pi*(sem*ri)").text == "pi * (sem * ri)"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("0.5", "names no component"),
        ("pi / 0", "division by zero"),
        ("pi / (1 - 1)", "division by zero"),
        ("pi / ri", r"division by a component \(ri\)"),
        ("pi / (2 * ri)", r"division by a component \(ri\)"),
        ("exp(pi)", r"exp\(...\) is a call"),
        ("__import__('os')", r"unexpected \"'\" at character 12"),
        ("__import__(os)", "is a call that is not allowed"),
        ("pi.real", "attributes are not allowed"),
        ("pi ** 2", "powers are not allowed"),
        ("pi ^ 2", "powers are not allowed"),
        ("pi // 2", "unexpected '//' at character 4"),
        ("pi ri", "unexpected 'ri' at character 4"),
        ("  pi\n ri", "unexpected 'ri' at character 7"),
        ("2pi", "unexpected 'pi'"),
        ("pi * (sem", r"a '\)' is missing at the end"),
        ("pi)", r"unexpected '\)'"),
        ("pi *", "ends too early"),
        ("pi, ri", r"unexpected '\(pi, ri\)'"),
        ("min", "min needs its values in parentheses"),
        ("max()", "max needs its values in parentheses"),
        ("max(pi,)", r"unexpected '\)' at character 8"),
        ("mean(pi ri)", "unexpected 'ri' at character 9"),
        ("1e999 * pi", "too large"),
        ("(" * 60 + "pi" + ")" * 60, "nested more than"),
        ("+".join(["pi"] * 5000), "more than 200"),
        ("-" * 150 + "/ pi", "unexpected '/' at character 151"),
        # What Python allows and a total does not.
        ("+pi", r"unexpected '\+pi'"),
        ("1_0 * pi", "unexpected '_0'"),
        ("0x1f * pi", "unexpected 'x1f'"),
        ("2j * pi", "unexpected 'j'"),
        ("1or pi", "unexpected 'or'"),
        ("pi < ri < sem", "unexpected '<'"),
        ("pi if ri else sem", "unexpected 'if'"),
        ("not(pi)", r"unexpected 'not\(pi\)'"),
        ("yield(pi)", r"unexpected 'yield\(pi\)'"),
        ("True * pi", "unexpected 'True'"),
        ("pi * None", "unexpected 'None'"),
        ("pi # all", "unexpected '#'"),
        ("pi * \\\nri", r"unexpected '\\\\'"),
        ("\N{GREEK SMALL LETTER PI} * pi", "unexpected '\N{GREEK SMALL LETTER PI}' at character 1"),
        ("pi * \N{SUPERSCRIPT TWO}", "unexpected '\N{SUPERSCRIPT TWO}'"),
        ("pi\N{NO-BREAK SPACE}* ri", "unexpected"),
        ("pi * \0", "unexpected"),
        ("pi) * (ri", r"unexpected '\)' at character 3"),
        ("(min)(pi, ri)", r"unexpected '\(min\)\(pi, ri\)'"),
        ("2(pi)", r"unexpected '2\(pi\)'"),
        ("min(*pi)", r"unexpected '\*pi'"),
        ("min(**pi)", "powers are not allowed"),
        ("pi * ...", "attributes are not allowed"),
        ("()", "unexpected"),
        ("9" * 5000 + " * pi", "too large"),
        ("9" * 400 + " * pi", "too large"),
        ("007 * pi", "unexpected '00"),
    ],
)
def test_what_is_not_allowed_is_a_clear_error_that_shows_the_quoting(expression, message):
    with pytest.raises(ValueError, match=message) as error:
        Total.parse(expression)
    assert repr(expression) in str(error.value)
    if "names no component" not in message:
        assert "'rewards.total=\"pi*ri\"'" in str(error.value)


@pytest.mark.parametrize("value", [None, 1, ["pi", "ri"], {"pi": 1}])
def test_what_is_no_text_is_a_clear_error_that_shows_the_quoting(value):
    with pytest.raises(ValueError, match="must be an expression") as error:
        Total.parse(value)
    assert "'rewards.total=\"pi*ri\"'" in str(error.value)


def naive_part(tree, kept):
    """What stays of a tree with only these names; None where nothing does."""
    if not names_of(tree):
        return tree
    if isinstance(tree, str):
        return tree if tree in kept else None
    kind, *operands = tree
    parts = [naive_part(operand, kept) for operand in operands]
    remaining = [part for part in parts if part is not None]
    if not any(names_of(part) for part in remaining):
        return None
    if kind == "-" and parts[0] is None:
        return ("negative", parts[1])
    if kind in BINDING and kind != "negative" and len(remaining) == 1:
        return remaining[0]
    return (kind, *remaining)


def names_of(tree):
    if isinstance(tree, str):
        return {tree} & set(VALUES)
    return set().union(*map(names_of, tree[1:]))


@given(trees, st.sets(st.sampled_from(sorted(VALUES))))
def test_a_part_is_what_dropping_names_from_a_tree_leaves(tree, kept):
    if not names_of(tree):
        return
    part, expected = Total.parse(reference_text(tree)).part(kept), naive_part(tree, kept)
    if expected is None:
        assert part is None
        return
    assert part.text == reference_text(simplified(expected))
    assert part == Total.parse(part.text)
    assert part.names == names_of(expected) <= kept
    assert part.evaluate(VALUES).hex() == float(reference_value(expected)).hex()


@pytest.mark.parametrize(
    ("expression", "names", "part"),
    [
        ("pi * (sem + spa) / 2 * ri", "sem spa", "(sem + spa) / 2"),
        ("pi * (sem + spa) / 2 * ri", "pi ri", "pi / 2 * ri"),
        ("pi * (sem + spa) / 2 * ri", "pi ri sem spa", "pi * (sem + spa) / 2 * ri"),
        ("pi - sem", "sem", "-sem"),
        ("pi - -sem", "sem", "sem"),
        ("-(pi - sem)", "sem", "sem"),
        ("-pi * sem", "pi", "-pi"),
        ("-pi * sem", "sem", "sem"),
        ("2 * pi + 0.5 + sem", "pi", "2 * pi + 0.5"),
        ("2 * pi + 0.5 + sem", "sem", "sem"),
        ("(sem + 0.5) * pi", "pi", "pi"),
        ("(sem + 0.5) * pi", "sem", "sem + 0.5"),
        ("min(pi, max(sem, spa, 0.3), 1) / 4", "spa", "min(max(spa, 0.3), 1) / 4"),
        ("min(pi, max(sem, spa, 0.3), 1) / 4", "pi", "min(pi, 1) / 4"),
        ("mean(pi, mean(sem, spa)) - ri / 3", "ri", "-(ri / 3)"),
        ("pi / (1 + 2)", "pi", "pi / (1 + 2)"),
        ("pi + sem", "ri", None),
        ("pi + sem", "", None),
    ],
)
def test_a_part_keeps_constants_divisors_and_signs_of_what_stays(expression, names, part):
    found = Total.parse(expression).part(names.split())
    assert (found and found.text) == part


def test_an_unknown_name_is_answered_with_the_known_ones_and_the_nearest():
    with pytest.raises(
        ValueError, match=r"'smen', which is no component.*pi, ri, sem, spa.*Did you mean 'sem'"
    ):
        Total.parse("pi * smen").check(VALUES)
    with pytest.raises(ValueError, match="'clip'"):
        Total.parse("clip").evaluate(VALUES)
