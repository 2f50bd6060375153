"""What plugins return, checked and converted once, where they are called. Every message names the plugin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from numbers import Integral, Real
from typing import Any

from harness.types import Prompt, Region, Sample, Score

SHOWN = 60  # characters of a value in messages


def one_each(given: Any, count: int, who: str, what: str, asked: str) -> list[Any]:
    """Return what a plugin gave for `count` things, in their order: any list, tuple, array or generator.

    Args:
        given: what it returned.
        count: how many things it was asked about.
        who: the plugin, for messages: "component 'pi'".
        what: what it should give, in the plural: "scores".
        asked: what it was asked about, in the singular: "sample".

    Raises:
        ValueError: these are not `count` values in an order.
    """
    rule = (
        f"{'to' if asked == 'question' else 'for'} {count} {asked}s; it must give one per {asked}, in order"
    )
    unordered = isinstance(given, (str, bytes, Mapping, Set))
    try:
        values = None if unordered else iter(given)
    except TypeError:
        values = None
    if values is None:
        raise ValueError(f"{who} gave {_shown(given)} instead of {what} {rule}")
    found = list(islice(values, count + 1))  # a generator may be endless
    if len(found) != count:
        more = len(found) > count
        length = len(given) if hasattr(given, "__len__") else f"over {count}" if more else len(found)
        raise ValueError(f"{who} gave {length} {what} {rule}")
    return found


def number(value: Any) -> float | None:
    """Return a number, or a scalar of numpy or torch, as a float; None where it is neither."""
    try:
        plain = value.item() if callable(getattr(value, "item", None)) else value
        return float(plain) if hasattr(plain, "__float__") else None  # texts have no __float__
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def scores(given: Any, samples: Sequence[Sample], who: str, *, least: float = 0.0) -> list[Score]:
    """Return one `Score` per sample, in order, with plain values.

    A number stands for a score without evidence, and None for an unscored sample.

    Args:
        given: what the plugin returned.
        samples: what it scored.
        who: the plugin, for messages: "component 'pi'".
        least: the lowest value that is allowed.

    Raises:
        ValueError: there is not one score per sample, or a value is no number from `least` to 1, or
            evidence is no JSON value.
    """
    found = one_each(given, len(samples), who, "scores", "sample")
    return [_score(one, sample.prompt, who, least) for one, sample in zip(found, samples, strict=True)]


def located(given: Any, count: int, who: str) -> list[Any]:
    """Return what a benchmark located in `count` images: pairs of regions, or texts that say why not.

    Raises:
        ValueError: there is not one per image, or one is neither a pair of regions nor a text.
    """
    found = one_each(given, count, who, "pairs of regions", "image")
    for one in found:
        pair = isinstance(one, (tuple, list)) and len(one) == 2
        if not isinstance(one, str) and not (pair and all(isinstance(part, Region | None) for part in one)):
            raise ValueError(
                f"{who} gave {_shown(one)}: give a pair of regions (None: not found), or a text that says why"
                " the image could not be looked at"
            )
    return found


def results(given: Any, who: str, *, least: float = 0.0) -> list[tuple[Prompt, Score]]:
    """Return the pairs of prompt and score of results made elsewhere, in order, with plain values.

    Args:
        given: what the plugin returned: pairs whose scores may be numbers or None, as in `scores`.
        who: the plugin, for messages: "benchmark Toy: read_results".
        least: the lowest value that is allowed.

    Raises:
        ValueError: these are no such pairs, or a value is no number from `least` to 1, or evidence is no
            JSON value.
    """
    try:
        pairs = None if isinstance(given, (str, bytes, Mapping, Set)) else list(given)
    except TypeError:
        pairs = None
    if pairs is None:
        raise ValueError(f"{who} gave {_shown(given)} instead of pairs of a Prompt and a score, in order")
    found: list[tuple[Prompt, Score]] = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], Prompt):
            raise ValueError(f"{who} gave {_shown(pair)}: give pairs of a Prompt and a score")
        prompt = pair[0]
        if not isinstance(prompt.number, Integral) or isinstance(prompt.number, bool) or prompt.number < 0:
            raise ValueError(
                f"{who}: number={prompt.number!r} of {prompt.text!r}: give a whole number from 0"
            )
        found.append((replace(prompt, number=int(prompt.number)), _score(pair[1], prompt, who, least)))
    return found


def _score(given: Any, prompt: Prompt, who: str, least: float) -> Score:
    if given is None:
        return Score(value=None, unscored=f"{who} gave None, without a reason")
    score = given if isinstance(given, Score) else Score(value=given)
    if not isinstance(score.evidence, Mapping):
        raise ValueError(f"{who}: evidence is {_shown(score.evidence)}: give a mapping of names to values")
    evidence = _plain(score.evidence, f"{who}: evidence")
    if score.value is None:
        return Score(value=None, evidence=evidence, unscored=_text(str(score.unscored)))
    value = number(score.value)
    if value is None:
        raise ValueError(
            f"{who} gave {_shown(score.value)} for prompt {prompt.text!r}, which is no number: give a"
            " number, or a Score with its evidence"
        )
    if not least <= value <= 1:  # NaN fails this too
        raise ValueError(
            f"{who} gave {value} for prompt {prompt.text!r}, and a score must lie in [{least:g}, 1]:"
            " scale or clip it in its class, or return an unscored Score where it has no value"
        )
    return Score(value=value, evidence=evidence)


def _plain(value: Any, where: str) -> Any:
    """Return a JSON value: scalars and arrays of numpy and torch are converted, NaN and infinity are texts.

    Raises:
        ValueError: it is none; the message says where.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {_key(name, where): _plain(inner, f"{where}[{name!r}]") for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        items = (_plain(inner, f"{where}[{place}]") for place, inner in enumerate(value))
        return tuple(items) if isinstance(value, tuple) else list(items)
    if callable(getattr(value, "tolist", None)):  # arrays
        return _plain(value.tolist(), where)
    raise ValueError(f"{where} is {_shown(value)}, and a row holds JSON values only: convert it in the class")


def _key(name: Any, where: str) -> str | int | float | bool | None:
    if not isinstance(name, (str, Real)) and name is not None:
        raise ValueError(f"{where} is named {_shown(name)}: give a text")
    key: str | int | float | bool | None = _plain(name, where)
    return key


def _text(value: str) -> str:
    """Return a text that files can hold: half of a surrogate pair is escaped."""
    return value.encode(errors="backslashreplace").decode()


def _shown(value: Any) -> str:
    """Return type and value, cut, for messages."""
    if value is None:
        return "None"
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= SHOWN else text[:SHOWN] + '...'} ({type(value).__name__})"
