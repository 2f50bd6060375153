"""Totals: arithmetic over component names, and a clear message for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward.total import Total

VALUES = {"pi": 0.8, "sem": 0.6, "spa": 0.2, "ri": 0.5}

leaves = st.sampled_from(sorted(VALUES)) | st.floats(0, 9, allow_nan=False).map(repr)


def larger(inner):
    operators = st.sampled_from("+-*")
    return st.one_of(
        st.tuples(inner, operators, inner).map(" ".join),
        st.tuples(inner, operators, inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, st.integers(1, 9)).map(lambda parts: f"{parts[0]} / {parts[1]}"),
        inner.map(lambda text: f"-({text})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(
            lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})"
        ),
    )


expressions = st.recursive(leaves, larger, max_leaves=12)


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


@given(expressions)
def test_a_total_agrees_with_python_and_its_canonical_text_reads_the_same(expression):
    try:
        total = Total.parse(expression)
    except ValueError as error:
        assert "names no component" in str(error)
        return
    assert total.evaluate(VALUES) == pytest.approx(eval(expression, {"min": min, "max": max}, VALUES))
    assert Total.parse(total.text) == total
    assert total.names == {name for name in VALUES if name in expression}


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
        ("__import__('os')", "is a call"),
        ("pi.real", "attributes are not offered"),
        ("pi ** 2", "powers are not offered"),
        ("pi ^ 2", "powers are not offered"),
        ("pi // 2", "unexpected '//'"),
        ("pi ri", "unexpected 'ri'"),
        ("2pi", "unexpected 'pi'"),
        ("pi * (sem", r"a '\)' is missing at the end"),
        ("pi)", r"unexpected '\)'"),
        ("pi *", "ends too early"),
        ("pi, ri", "unexpected ','"),
        ("min", "min needs its values in parentheses"),
        ("max()", "unexpected"),
        ("mean(pi ri)", "is missing before 'ri'"),
        ("1e999 * pi", "too large"),
        ("(" * 60 + "pi" + ")" * 60, "nested more than"),
        ("+".join(["pi"] * 5000), "more than 200"),
        ("-" * 150 + "/ pi", "unexpected '/'"),
    ],
)
def test_what_is_not_offered_is_a_clear_error_that_shows_the_quoting(expression, message):
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


def test_an_unknown_name_is_answered_with_the_known_ones_and_the_nearest():
    with pytest.raises(
        ValueError, match=r"'smen', which is no component.*pi, ri, sem, spa.*Did you mean 'sem'"
    ):
        Total.parse("pi * smen").check(VALUES)
    with pytest.raises(ValueError, match="'clip'"):
        Total.parse("clip").evaluate(VALUES)
