from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.launch.options import minutes, parameters


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (90, 90),
        (4320, 4320),
        ("90", 90),
        ("90:30", 91),
        ("24:00:00", 1440),
        ("00:00:30", 1),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("2-12:00:00", 3600),
    ],
)
def test_times_are_read_as_slurm_reads_them(value, expected) -> None:
    assert minutes("resources.timeout_min", value) == expected
    if isinstance(value, str) and value != "90":
        assert parameters({"time": value}) == {"timeout_min": expected}


@pytest.mark.parametrize("clock", ["24:00:00", "1:00:00", "12:00:00", "100:00:00"])
def test_a_time_that_yaml_made_a_number_is_refused_with_the_way_to_write_it(clock) -> None:
    number = yaml.safe_load(clock)
    assert isinstance(number, int)
    with pytest.raises(ValueError, match=rf"resources\.timeout_min={number}: .*Write '{clock}' in quotes"):
        minutes("resources.timeout_min", number)
    for name in ("time", "time-min", "begin"):
        with pytest.raises(ValueError, match=rf"cluster\.options\.{name}={number}: .*Write '{clock}'"):
            parameters({name: number})


@pytest.mark.parametrize("value", [90, 0, -5, 1.5, 5400, 5400.5, "90", " 5400 "])
@pytest.mark.parametrize("name", ["time", "time-min", "delay_boot"])
def test_a_duration_that_is_a_bare_number_is_refused_with_the_ways_to_say_it(name, value) -> None:
    with pytest.raises(ValueError, match=rf"cluster\.options\.{name}={value!r}: ") as error:
        parameters({name: value})
    assert "'1:30:00' or '1-12'" in str(error.value)
    assert ("set resources.timeout_min" in str(error.value)) == (name == "time")


def test_a_clock_of_any_length_in_a_yaml_file_is_refused() -> None:
    for text in ("1:30:00", "90:00", "1:30"):
        value = yaml.safe_load(f"time: {text}")["time"]
        with pytest.raises(ValueError, match=r"cluster\.options\.time=.* set resources\.timeout_min"):
            parameters({"time": value})


def test_durations_as_texts_go_to_sbatch_as_they_are() -> None:
    given = {"time-min": "0:30:00", "delay_boot": "1-2", "begin": "16:00", "switches": 2}
    assert parameters(given) == {
        "slurm_additional_parameters": {name.replace("-", "_"): value for name, value in given.items()}
    }


def test_a_long_limit_in_minutes_is_refused_with_the_same_limit_as_a_text() -> None:
    with pytest.raises(ValueError, match="'13-21:20:00' for 20000 minutes"):
        minutes("resources.timeout_min", 20000)
    assert minutes("resources.timeout_min", "13-21:20:00") == 20000


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, True, None, "", "UNLIMITED", "0", "1:2:3:4", "one hour", "-5", "1-"]
)
def test_what_is_no_time_is_refused(value) -> None:
    with pytest.raises(ValueError, match=r"resources\.timeout_min="):
        minutes("resources.timeout_min", value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partiton": "gpu"}, "Did you mean partition"),
        ({"p": "gpu"}, "long name"),
        ({"--qos": "high"}, "long name"),
        ({"nodes": 2}, "resources.nodes"),
        ({"cpus-per-task": 4}, "Set resources.threads instead"),
        ({"output": "x"}, "the harness sets this option itself"),
        ({"qos": True}, "give a text"),
        ({"account": 1e3}, "give a text, in quotes"),
        ({"nodelist": ["n1", "n2"]}, "give a text"),
        ({"comment": "a\nb"}, "on one line"),
        ({"partition": ""}, "null"),
        ({"mem": "4G", "mem-per-cpu": "1G"}, "mem and mem_per_cpu exclude each other"),
        ({"qos": "a", "additional_parameters": {"qos": "b"}}, "given twice"),
        ({"additional_parameters": "x"}, "a mapping"),
        ({"setup": [1]}, "a list of texts"),
        ({"signal_delay_s": "1:30"}, "whole seconds"),
    ],
)
def test_options_that_sbatch_would_not_read_as_written_are_refused(options, said) -> None:
    with pytest.raises(ValueError, match=r"cluster\.options") as error:
        parameters(options)
    assert said in str(error.value)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text())


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["time", "qos", "new-one", "setup", "mem"]) | st.text(max_size=6), VALUES)
)
def test_any_options_are_passed_on_or_refused(options) -> None:
    try:
        passed = parameters(options)
    except ValueError as error:
        assert "cluster.options" in str(error)
    else:
        for value in passed.get("slurm_additional_parameters", {}).values():
            assert value is True or isinstance(value, int) or "\n" not in value


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789:-. ", max_size=12))
def test_any_text_is_a_time_or_refused(text) -> None:
    try:
        assert minutes("x", text) >= 1
    except ValueError as error:
        assert f"x={text!r}" in str(error)
