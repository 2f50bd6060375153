"""A table as it is shown and as it is kept, and its three written forms."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

Value = str | int | float | None


@dataclass(frozen=True)
class Shown:
    """A cell as it is shown.

    `strong` marks the best of a column. `tone` is good, bad, quiet, missing, name or empty. `heat` in 0..1
    shades the cell within its column on the page.
    """

    text: str
    strong: bool = False
    tone: str = ""
    heat: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """`rows` under `header` for people; `records` under `fields` for programs (CSV; None is an empty
    field).

    `legend` describes the metrics of the columns, where they are stated. Unlike `note` it is part of the
    written forms.
    """

    name: str
    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[Shown, ...], ...]
    fields: tuple[str, ...]
    records: tuple[tuple[Value, ...], ...]
    legend: str = ""

    def write(self, folder: Path) -> None:
        """Write name.csv, name.md and name.tex. Equal tables give equal bytes."""
        for suffix, text in (("csv", self.csv()), ("md", self.markdown()), ("tex", self.latex())):
            (folder / f"{self.name}.{suffix}").write_text(text, encoding="utf-8", newline="\n")

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.fields)
        for record in self.records:
            writer.writerow(map(_plain, record))
        return text.getvalue()

    def markdown(self) -> str:
        lines = [_pipes(map(markdown, self.header)), _pipes(["---", *["---:"] * (len(self.header) - 1)])]
        lines += [_pipes(map(_markdown_cell, row)) for row in self.rows]
        return "\n".join(lines) + "\n" + (f"\n{markdown(self.legend)}\n" if self.legend else "")

    def latex(self) -> str:
        lines = [
            rf"% {_one_line(self.title)} (needs \usepackage{{booktabs}})",
            rf"\begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}",
            r"\toprule",
            _ampersands(map(latex, self.header)),
            r"\midrule",
            *[_ampersands(map(_latex_cell, row)) for row in self.rows],
            r"\bottomrule",
            r"\end{tabular}",
        ]
        if self.legend:
            lines.append(rf"\par{{\footnotesize {latex(self.legend)}}}")
        return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "−": r"$-$", "–": "--", "†": r"\dag{}", "[": "{[}", "]": "{]}",
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#&|~$])")


def latex(text: object) -> str:
    """Return any text as LaTeX that prints it, on one line."""
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))


def markdown(text: object) -> str:
    """Return any text as GitHub Markdown that shows it, on one line. `Markup` stays as it is."""
    return str(text) if isinstance(text, Markup) else _MARKDOWN.sub(r"\\\1", _one_line(text))


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _plain(value: Value) -> str:
    if value is None:
        return ""
    return format(value, ".6g") if isinstance(value, float) else str(value)


def _markdown_cell(cell: Shown) -> str:
    return f"**{markdown(cell.text)}**" if cell.strong else markdown(cell.text)


def _latex_cell(cell: Shown) -> str:
    return rf"\textbf{{{latex(cell.text)}}}" if cell.strong else latex(cell.text)


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ampersands(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
