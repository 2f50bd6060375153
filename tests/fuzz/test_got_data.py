"""Chains and the annotation files of GoT data: see `test_readers`."""

from __future__ import annotations

import re
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mini_foreign import ANY_BYTES, array, damaged, file_of, lines, or_error
from mini_got import picture, record

from harness import chain as grammar
from harness.data import chains
from harness.data.files import Row, rows
from harness.data.got import GotEntry
from harness.data.images import open_image
from harness.types import CANVAS, Box, PlannedObject

COLUMNS = {"prompt": "caption", "chain": "got", "image": "file"}
TAGS = (grammar.OBJ_START, grammar.OBJ_END, grammar.BOX_START, grammar.BOX_END, grammar.END)
WORDS = (
    *TAGS,
    *("<|object_ref_start|>", "<|object_ref_end|>", "(12,34),(56,78)", "(0,0),(1000,1000)", "(9,9),(3"),
    *("(1.5,2),(3,4)", "(-1,0),(2000,9)", "(", ")", ",", "99999999999999999999", "9" * 5000, "1e999", "nan"),
    *("a red vase", " of ", " the ", ". ", " ", "\n", "\ud83d", "\u200b", "\u0661", "<|im_end|>", "<|", "|>"),
)
CHAINS = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=20).map("".join)


# Chains.


@given(CHAINS)
@example("[" * 10_000)
@example(f"{grammar.OBJ_START}a{grammar.OBJ_END}{grammar.BOX_START}(1,{'9' * 400}),(3,4){grammar.BOX_END}")
def test_a_chain_is_read_whatever_it_is(text: str) -> None:
    chain = grammar.parse(text)
    assert chain.text == text
    for planned in chain.objects:
        assert planned.name.strip() == planned.name != ""
        assert planned.box is None or all(type(side) is int for side in vars(planned.box).values())
    assert grammar.END in text or chain.faults


@given(
    st.lists(
        st.sampled_from(["A ", " beside ", "(", ")", "<", "|", "1"])
        | st.builds(
            PlannedObject,
            name=st.text(min_size=1, max_size=9),
            box=st.none()
            | st.lists(st.integers(0, CANVAS), min_size=4, max_size=4).map(
                lambda side: Box(*map(min, side[:2], side[2:]), *map(max, side[:2], side[2:]))
            ),
        ),
        max_size=6,
    )
)
def test_what_is_written_as_a_chain_is_read_back(parts: list[str | PlannedObject]) -> None:
    written = or_error(lambda: grammar.format_chain(*parts))
    if written is not None:
        assert list(grammar.parse(written).objects) == [part for part in parts if not isinstance(part, str)]


@given(CHAINS)
def test_a_chain_of_a_data_set_is_converted_without_faults_or_refused(text: str) -> None:
    converted = or_error(lambda: chains.convert(text))
    if converted is not None:
        read = grammar.parse(converted)
        assert not read.faults and read.objects
        digits = set(re.findall("[0-9]+", text))
        for planned in read.objects:
            assert planned.box is not None and {str(side) for side in vars(planned.box).values()} <= {
                str(int(one)) for one in digits if len(one) < 9
            }


# Annotation files of GoT data.


def read_got(file: Path) -> None:
    for row in rows(file, list(COLUMNS.values())):
        assert row.fault is None or not row.columns
        or_error(partial(check_entry, row))


def check_entry(row: Row) -> None:
    entry = GotEntry(
        place="here", row=row, columns=COLUMNS, read=lambda value: picture(1), category="c", fit="crop"
    )
    found = entry.load((8, 8))
    assert found.prompt.text == row.columns["caption"].strip()
    assert not grammar.parse(found.chain).faults


@given(lines([record(n) for n in range(3)]) | ANY_BYTES)
@example(b"[" * 10_000)
@example(b" " * 70_000 + b"[" * 10_000)
def test_a_got_file_of_json_lines(content: bytes) -> None:
    with file_of(content, "got.jsonl") as file:
        or_error(lambda: read_got(file))


@given(array([record(n) for n in range(3)]) | ANY_BYTES)
@example(b"[" * 100_000)
@example(b'[{"got": ' + b'{"a": [' * 50_000)
def test_a_got_file_of_a_json_array(content: bytes) -> None:
    with file_of(content, "got.json") as file:
        or_error(lambda: read_got(file))


@given(ANY_BYTES | damaged(b"\x89PNG\r\n\x1a\n" + b"\0" * 40))
def test_an_image_of_a_got_file(content: bytes) -> None:
    or_error(lambda: open_image(content))


# Depth.


def nested(levels: int) -> str:
    """An object of so many levels, with brackets in a text, which do not count."""
    return f'{{"chain": "{"[" * 300}\\"{{", "deep": {"[" * (levels - 1)}{"]" * (levels - 1)}}}'


@pytest.mark.parametrize("name", ["got.jsonl", "got.json"])
def test_a_row_of_a_hundred_levels_is_read_and_a_deeper_one_is_damage(name: str) -> None:
    form = "[{}]" if name == "got.json" else "{}"
    with file_of(form.format(nested(100)).encode(), name) as file:
        [row] = rows(file, ["chain", "deep"])
        assert row.fault is None and row.columns["chain"] == "[" * 300 + '"{'
    with file_of(form.format(nested(101)).encode(), name) as file:
        if name == "got.json":
            with pytest.raises(ValueError, match=r"damaged after row 0, .* nested deeper than 100 levels"):
                list(rows(file, ["chain", "deep"]))
        else:
            [row] = rows(file, ["chain", "deep"])
            assert str(row.fault).endswith("it is nested deeper than 100 levels")


def test_memory_does_not_grow_with_the_depth() -> None:
    with file_of(b'[{"a": ' + b"[" * 2_000_000, "got.json") as file:
        tracemalloc.start()
        assert or_error(lambda: list(rows(file, ["a"]))) is None
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 8 * 2**20
