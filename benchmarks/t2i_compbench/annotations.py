"""The nouns and attributes of training prompts, from the file that T2I-R1 publishes (Apache-2.0).

`data/geneval_and_t2i_data_final.json` there is JSON lines, one record a prompt:

    {"task_type": "color", "prompt": "a red apple and a brown dog", "nouns": ["apple", "dog"],
    "attr_nouns": ["red apple", "brown dog"]}

It is machine-written: articles dropped, nouns in the singular, typing errors of the prompts mended, and
some records wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import read_user_rows


@dataclass(frozen=True)
class Spatial:
    """Where the first object is, seen from the second: `locality` is the prompt's own wording (`on the
    left of`).
    """

    first: str
    second: str
    locality: str


@dataclass(frozen=True)
class Annotation:
    """One record of the file: the nouns and attributes of a prompt.

    Attributes:
        nouns: the objects, each as a singular noun.
        attributes: attribute and noun, without article; none outside color, shape and texture.
        spatial: the relation, where the record has one.
        numeracy: the objects and how many of each; none outside numeracy.
        task: the file's word for the category: color, shape, texture, spatial, numeracy, non, complex,
            object.
    """

    nouns: tuple[str, ...]
    attributes: tuple[str, ...]
    spatial: Spatial | None
    numeracy: tuple[tuple[str, int], ...]
    task: str


def read_annotations(file: Path) -> dict[str, Annotation]:
    """Prompt -> what is annotated, in the order of the file.

    Raises:
        ValueError: the file cannot be read as UTF-8, a line is no such record, or a prompt stands there
            twice.
    """
    annotations: dict[str, Annotation] = {}
    rows = read_user_rows(file, _record, kind="an annotation", remedy="Take the file as T2I-R1 publishes it")
    try:
        for number, (prompt, annotation) in rows:
            if prompt in annotations:
                raise ValueError(
                    f"line {number} of {file}: the prompt {prompt!r} was annotated before. Take the file as"
                    " T2I-R1 publishes it"
                )
            annotations[prompt] = annotation
    except OSError as error:
        raise ValueError(
            f"the annotations {file} cannot be read ({error}): take "
            "data/geneval_and_t2i_data_final.json of T2I-R1"
        ) from None
    if not annotations:
        raise ValueError(f"{file} holds no annotation: take data/geneval_and_t2i_data_final.json of T2I-R1")
    return annotations


def _record(record: Mapping[str, Any]) -> tuple[str, Annotation]:
    annotation = Annotation(
        nouns=_texts(record, "nouns"),
        attributes=_texts(record, "attr_nouns") if record.get("attr_nouns") is not None else (),
        spatial=_spatial(record["spatial_info"]) if record.get("spatial_info") is not None else None,
        numeracy=_counts(record["numeracy_info"]) if record.get("numeracy_info") is not None else (),
        task=_text(record, "task_type"),
    )
    return _text(record, "prompt"), annotation


def _spatial(info: Any) -> Spatial:
    if not isinstance(info, dict):
        raise ValueError(f"spatial_info={info!r} must be an object with obj1, obj2 and locality")
    return Spatial(_text(info, "obj1"), _text(info, "obj2"), _text(info, "locality"))


def _counts(info: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(info, list) or not all(
        isinstance(one, dict) and type(one.get("num")) is int for one in info
    ):
        raise ValueError(
            f"numeracy_info={info!r} must be a list of objects with obj_name and num, a whole number"
        )
    return tuple((_text(one, "obj_name"), one["num"]) for one in info)


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}={value!r} must be a text")
    return value


def _texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = record.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name}={value!r} must be a list of texts")
    return tuple(value)
