"""Readers of foreign text, on texts that are almost right and on damaged ones.

A reader may raise what its docstring says, a ValueError, and nothing else. What it returns is what stands
in the text: no number comes from a text, a truth value, NaN or infinity.

By default each test draws 100 texts, the same ones every time. This draws 200,000 in all, new ones:

    HYPOTHESIS_PROFILE=long python -m pytest tests/fuzz
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import mini_geneval_scored
from hypothesis import example, given
from hypothesis import strategies as st
from mini_foreign import ANY_BYTES, JSON, altered, damaged, file_of, lines, or_error

from benchmarks.geneval import files as geneval_files
from benchmarks.geneval import results
from benchmarks.geneval.detections import ColoredDetections
from benchmarks.geneval.detections import GivenDetections as GivenColored
from benchmarks.given import GivenRows
from benchmarks.t2i_compbench.detections import GivenDetections
from benchmarks.t2i_compbench.files import read_captions, read_prompts
from harness.files import read_rows, read_user_rows, truncate_rows
from harness.samples import SampleRow
from harness.types import Detections
from policies.images.folder import normalized, read_groups

CLASSES = ("bench", "dog")


def is_plain(number: Any) -> bool:
    return type(number) in (int, float) and math.isfinite(number)


# Rows of JSON lines.

SAMPLE = {"prompt_id": "a", "number": 3, "prompt": "a dog", "image": "x.png", "chain": "A dog", "seed": 7}


@given(lines([SAMPLE, {**SAMPLE, "number": 4}]) | ANY_BYTES)
@example(b"[" * 10_000)
@example(json.dumps({**SAMPLE, "number": math.inf}).encode())
@example(json.dumps({**SAMPLE, "number": 1.9}).encode())
@example(json.dumps({**SAMPLE, "chain": None}).encode())
@example(json.dumps({**SAMPLE, "image": "9" * 300}).encode())
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
