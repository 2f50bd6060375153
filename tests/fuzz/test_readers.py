"""Readers of foreign text, on texts that are almost right and on damaged ones.

A reader may raise what its docstring says, a ValueError, and nothing else. What it returns is what stands
in the text: no number comes from a text, a truth value, NaN or infinity.

By default each test draws 100 texts, the same ones every time. This draws 200,000 in all, new ones:

    HYPOTHESIS_PROFILE=long python -m pytest tests/fuzz
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import mini_geneval_scored
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mini_foreign import JSON, altered, array, damaged, lines
from mini_got import picture, record

from benchmarks.geneval import files as geneval_files
from benchmarks.geneval import results
from benchmarks.geneval.detections import ColoredDetections
from benchmarks.geneval.detections import GivenDetections as GivenColored
from benchmarks.given import GivenRows
from benchmarks.t2i_compbench.detections import GivenDetections
from benchmarks.t2i_compbench.files import read_captions, read_prompts
from harness import chain as grammar
from harness.data import chains
from harness.data.files import Row, rows
from harness.data.got import GotEntry
from harness.data.images import open_image
from harness.files import read_rows, read_user_rows, truncate_rows
from harness.samples import SampleRow
from harness.types import CANVAS, Box, Detections, PlannedObject
from policies.images.folder import normalized, read_groups

COLUMNS = {"prompt": "caption", "chain": "got", "image": "file"}
TAGS = (grammar.OBJ_START, grammar.OBJ_END, grammar.BOX_START, grammar.BOX_END, grammar.END)
WORDS = (
    *TAGS,
    *("<|object_ref_start|>", "<|object_ref_end|>", "(12,34),(56,78)", "(0,0),(1000,1000)", "(9,9),(3"),
    *("(1.5,2),(3,4)", "(-1,0),(2000,9)", "(", ")", ",", "99999999999999999999", "9" * 5000, "1e999", "nan"),
    *("a red vase", " of ", " the ", ". ", " ", "\n", "\ud83d", "\u200b", "\u0661", "<|im_end|>", "<|", "|>"),
)
CHAINS = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=20).map("".join)
ANY_BYTES = st.binary(max_size=60)
CLASSES = ("bench", "dog")


@contextmanager
def file_of(content: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        yield file


def or_error(read: Callable[[], Any]) -> Any:
    """What a reader returns; None where it raises the documented error, whose message says something."""
    try:
        return read()
    except ValueError as error:
        assert str(error)
        return None


def is_plain(number: Any) -> bool:
    return type(number) in (int, float) and math.isfinite(number)


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


# Rows of JSON lines.

SAMPLE = {"prompt_id": "a", "number": 3, "prompt": "a dog", "image": "x.png", "chain": "A dog", "seed": 7}


@given(lines([SAMPLE, {**SAMPLE, "number": 4}]) | ANY_BYTES)
@example(b"[" * 10_000)
@example(json.dumps({**SAMPLE, "number": math.inf}).encode())
@example(json.dumps({**SAMPLE, "number": 1.9}).encode())
@example(json.dumps({**SAMPLE, "chain": None}).encode())
def test_rows_of_samples_that_a_user_gives(content: bytes) -> None:
    with file_of(content, "samples.jsonl") as file:
        for _, row in or_error(lambda: list(read_user_rows(file, SampleRow.from_user_json))) or ():
            assert type(row.number) is int and (row.seed is None or type(row.seed) is int)
            assert all(
                isinstance(text, str) and text != "None" for text in (row.prompt, row.image, row.chain)
            )
        groups = or_error(lambda: read_groups(file.parent, ["color"]))
        for images in groups["color"].images.values() if groups else ():
            assert all(type(image.number) is int for image in images)


@given(lines([SAMPLE, SAMPLE]).map(lambda content: content + b"\n") | ANY_BYTES)
def test_rows_of_our_own_that_were_damaged(content: bytes) -> None:
    with file_of(content, "scores.jsonl") as file:
        read = or_error(lambda: read_rows(file))
        truncate_rows(file, lambda row: row["number"] >= 0)
        kept = read_rows(file)
        assert all(isinstance(row, dict) for row in kept)
        assert read is None or kept == read[: len(kept)]


def stated_prompt(content: bytes) -> str:
    prompt = json.loads(content.decode("utf-8-sig"))["prompt"]
    assert isinstance(prompt, str)
    return prompt


@given(damaged(b'{"prompt": "a dog", "tag": "colors"}') | JSON.map(json.dumps).map(str.encode))
@example(b"[" * 10_000)
@example(b'{"prompt": null}')
def test_the_metadata_in_a_folder_of_geneval(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "00000" / "samples").mkdir(parents=True)
        (Path(name) / "00000" / "samples" / "00000.png").write_bytes(b"")
        (Path(name) / "00000" / "metadata.jsonl").write_bytes(content)
        groups = or_error(lambda: read_groups(Path(name), ["color"]))
        assert groups is None or list(groups["color"].images) == [normalized(stated_prompt(content))]


# Detections and results.

DETECTIONS = {
    "category": "2D-spatial",
    "prompt": "a photo of a dog",
    "number": 3,
    "frame": [479, 479],
    "labels": ["dog", "bench"],
    "boxes": [[12.5, 80, 200.0, 300.5], [250.0, 90.0, 470.0, 310.0]],
    "scores": [0.91, 0.55],
}


DEEP = b"[" * 10_000
TEXT_BOX = {**DETECTIONS, "labels": ["dog"], "boxes": ["1234"], "scores": [0.9]}
TEXT_SCORE = {**DETECTIONS, "labels": ["dog"], "boxes": [[1, 2, 3, 4]], "scores": ["0.9"]}
TRUE_SCORE = {**DETECTIONS, "labels": ["dog"], "boxes": [[1, 2, 3, 4]], "scores": [True]}
TEXT_LABELS = {**DETECTIONS, "labels": "ab"}


def check_detections(reader: GivenRows[Any, Any]) -> None:
    reader.load()
    for found in reader.find(list(reader._places)):
        assert isinstance(found, Detections)
        for box, score in zip(found.boxes, found.scores, strict=True):
            assert all(map(is_plain, box)) and is_plain(score) and 0 < score <= 1
        assert all(isinstance(label, str) for label in found.labels)
        if isinstance(found, ColoredDetections):
            assert len(found.colors) == len(found.labels)


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@given(lines([DETECTIONS, {**DETECTIONS, "number": 4}]) | ANY_BYTES)
@example(DEEP)
def test_detections_for_t2i_compbench(content: bytes) -> None:
    with file_of(content, "found.jsonl") as file:
        reader = GivenDetections(file=str(file), name="mine", labels=None)
        or_error(lambda: check_detections(reader._rows))


@given(altered(DETECTIONS))
@example(TEXT_BOX)
@example(TEXT_SCORE)
@example(TRUE_SCORE)
@example(TEXT_LABELS)
def test_no_number_of_a_detection_is_invented(row: Any) -> None:
    with file_of(json.dumps(row).encode(), "found.jsonl") as file:
        reader = GivenDetections(file=str(file), name="mine", labels=None)._rows
        for found in or_error(lambda: reader.find(list(reader._places))) or ():
            stated = set(numbers_in(row))
            assert {*found.scores, *found.frame} <= stated and found.labels == tuple(row["labels"])
            for box in found.boxes:
                assert set(box) <= stated
            assert isinstance(row["labels"], list)


@given(lines([{**DETECTIONS, "colors": ["red", None]}, {**DETECTIONS, "number": 4}]) | ANY_BYTES)
@example(DEEP)
def test_detections_for_geneval(content: bytes) -> None:
    with file_of(content, "found.jsonl") as file:
        or_error(lambda: check_detections(GivenColored(file, CLASSES)._rows))


LINE = {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"}
RESULT = {
    "filename": "images/00000/samples/00000.png",
    "tag": LINE["tag"],
    "prompt": LINE["prompt"],
    "correct": True,
    "reason": "",
    "metadata": json.dumps(LINE),
    "details": json.dumps({"dog": [[1.0, 2.0, 3.0, 4.0, 0.9]]}),
}


@st.composite
def result_rows(draw: st.DrawFn) -> bytes:
    row = dict(RESULT)
    if draw(st.booleans()):
        row["details"] = draw(damaged(RESULT["details"].encode())).decode(errors="replace")
    if draw(st.booleans()):
        row["details"] = json.dumps(draw(altered({"dog": [[1.0, 2.0, 3.0, 4.0, 0.9]]})))
    return draw(lines([row, {**row, "filename": "00000/samples/00001.png"}]))


@given(result_rows() | ANY_BYTES)
@example(json.dumps({**RESULT, "details": "[" * 10_000}).encode())
@example(json.dumps({**RESULT, "details": '{"dog": [[1, 2, 3, 4, NaN]]}'}).encode())
def test_results_of_geneval(content: bytes) -> None:
    with file_of(content, "results.jsonl") as file:
        for result in (or_error(lambda: results.read(file, [LINE], [0])) or {}).values():
            assert type(result.correct) is bool and result.metadata == LINE
            assert all(map(is_plain, numbers_in(result.details)))


# Prompt files.


@given(damaged("a dog left of a cat\ta\nein Hündchen\n\n two cats \n".encode()) | ANY_BYTES)
def test_prompts_of_text_files(content: bytes) -> None:
    with file_of(content, "color_val.txt") as file:
        for text in [
            *(or_error(lambda: read_prompts(file)) or ()),
            *(or_error(lambda: read_captions(file)) or ()),
        ]:
            assert text.strip()


@given(lines([LINE, *mini_geneval_scored.PROMPTS]) | ANY_BYTES)
@example(b"[" * 10_000)
def test_prompts_of_geneval(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / geneval_files.METADATA).write_bytes(content)
        with mock.patch.object(geneval_files, "read_names", lambda root: CLASSES):
            read = or_error(lambda: geneval_files.read_metadata(root))
        for line in read or ():
            assert line["prompt"].strip() and all(type(one["count"]) is int for one in line["include"])


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
