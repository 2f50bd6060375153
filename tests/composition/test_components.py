from __future__ import annotations

from harness.composition.components import make, remembered

SETTINGS = {"_target_": "fractions.Fraction", "numerator": 1, "denominator": 3}


def test_equal_settings_make_one_object_only_while_they_are_remembered():
    assert make(SETTINGS) is not make(SETTINGS)
    with remembered():
        first = make(SETTINGS)
        assert make({**SETTINGS}) is first
        assert make({**SETTINGS, "denominator": 4}) is not first
    assert make(SETTINGS) is not first
