"""A section of the pages: a text that explains its words, with tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the pages: a text that explains its words, tables, and figures by name and caption."""

    title: str
    text: str
    tables: tuple[Table, ...]
    figures: Mapping[str, str]
