"""Checks the claims, the margins and the published table of an ablation file before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.analysis.claims import listed
from harness.names import nearest
from harness.settings import flag, number

_REQUIRED, _OPTIONAL = ("text", "better", "than", "categories"), ("over", "margin", "above", "equal")
_OVER = ("mean", "each")
_MARGIN_FORM = "margin: {value: NUMBER, reason: TEXT}"


def check(study: Mapping[str, Any]) -> None:
    """Check the claims, the margins and the published table of a study.

    `study` is the `study` of the configuration with the `categories` of its benchmark and the `measures` of
    its plans. A claim may name
    arms and categories of the published table that are not in this run: its contrasts are then not measured.

    Raises:
        ValueError: a claim has an unknown key, arm, category or `over`, or an arm on both sides; a margin is
            missing or no positive number; or a row of the published table has a wrong length.
    """
    published = study.get("published") or {}
    arms = list(dict.fromkeys([*(study.get("arms") or {}), *(published.get("rows") or {})]))
    columns = (*(study.get("categories") or ()), *(study.get("measures") or ()))
    categories = list(dict.fromkeys([*columns, *(published.get("columns") or ())]))
    for row, values in (published.get("rows") or {}).items():
        columns = published["columns"]
        if len(values) != len(columns):
            raise ValueError(
                f"study.published.rows.{row} has {len(values)} values, but there are {len(columns)} columns:"
                f" {', '.join(columns)}. Give one value per column (null where the paper has none)"
            )
    margin, votes = study.get("margin"), study.get("preference") is not None
    if margin is not None:
        _check_margin("study.margin", margin, votes=votes)
    for name, claim in (study.get("claims") or {}).items():
        where = f"study.claims.{name}"
        _check_claim(where, claim, arms, categories, votes=votes)
        if margin is None and claim.get("margin") is None:
            raise ValueError(
                f"{where} has no margin, and study.margin is missing too. Write study.{_MARGIN_FORM}: the"
                " largest difference of two arms that counts as equal, in units of the score, and the"
                " reason for it"
            )


def _check_claim(
    where: str, claim: Any, arms: Sequence[str], categories: Sequence[str], *, votes: bool
) -> None:
    known = {*_REQUIRED, *_OPTIONAL}
    if not isinstance(claim, Mapping) or not set(_REQUIRED) <= set(claim) <= known:
        given = ", ".join(map(str, claim)) if isinstance(claim, Mapping) else repr(claim)
        raise ValueError(
            f"{where} has {given}: a claim has {', '.join(_REQUIRED)}, and optionally {', '.join(_OPTIONAL)}"
        )
    _known("arm", listed(claim["better"]), arms, where=f"{where}.better")
    _known("arm", listed(claim["than"]), arms, where=f"{where}.than")
    if both := set(listed(claim["better"])) & set(listed(claim["than"])):
        raise ValueError(
            f"{where} compares {', '.join(sorted(both))} with itself: name it in better or in than"
        )
    if claim["categories"] != "all":
        _known("category", listed(claim["categories"]), categories, where=f"{where}.categories")
    if claim.get("over", "mean") not in _OVER:
        raise ValueError(
            f"{where}.over={claim['over']!r}: write mean (one contrast, the mean over the categories) or each"
            " (a contrast of every category)"
        )
    if claim.get("equal") is not None:
        flag(f"{where}.equal", claim["equal"])
    if claim.get("above") is not None:
        number(f"{where}.above", claim["above"], least=0)
    if claim.get("margin") is not None:
        _check_margin(f"{where}.margin", claim["margin"], votes=votes)


def _check_margin(where: str, margin: Any, *, votes: bool) -> None:
    """Refuse a margin that is malformed or not positive. Votes cannot show equality: they may have 0."""
    if not isinstance(margin, Mapping) or set(margin) != {"value", "reason"}:
        given = ", ".join(map(str, margin)) if isinstance(margin, Mapping) else repr(margin)
        raise ValueError(f"{where} has {given}: write {_MARGIN_FORM}")
    value, reason = margin["value"], margin["reason"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0 or (value == 0 and not votes):
        raise ValueError(
            f"{where}.value={value!r}: give a number above 0, the largest difference that counts as equal,"
            " in units of the score"
        )
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"{where}.reason={reason!r}: say in a sentence why smaller differences do not count")


def _known(noun: str, names: Iterable[str], known: Sequence[str], *, where: str) -> None:
    names = list(names)
    if not names:
        raise ValueError(f"{where} is empty: name at least one {noun} of {', '.join(known)}")
    for name in names:
        if name not in known:
            near = nearest(str(name), known, cutoff=0.6)
            hint = f" (nearest: {near})" if near else ""
            raise ValueError(
                f"{where} names the {noun} {name!r}, which this study does not have; known:"
                f" {', '.join(known)}{hint}"
            )
