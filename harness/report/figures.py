"""Writes the plots of a report, each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot

from harness.analysis.factors import factors_of
from harness.analysis.study import Analysis
from harness.report import (
    agreement_figures,
    factor_figures,
    plan_figures,
    preference_figures,
    score_figures,
    training_figures,
)
from harness.report.factor_tables import PREFIX
from harness.report.figure_style import set_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110

# Name, function and caption, in the order they are read.
FIGURES: tuple[tuple[str, Callable[[Analysis], Figure | None], str], ...] = (
    (
        "agreement",
        agreement_figures.agreement,
        "Agreement of every judge with the reference, with 95% bootstrap interval over prompts. Diamonds are"
        " the paper's numbers.",
    ),
    (
        "votes",
        preference_figures.votes,
        "Prompts that the first arm of a pair wins, ties and loses, both orders averaged, by set. Dots are"
        " its share of the votes, diamonds the paper's.",
    ),
    (
        "scores",
        score_figures.scores,
        "Score per category with 95% bootstrap interval; the dashed line is the baseline.",
    ),
    (
        "claims",
        score_figures.claims,
        "The contrasts of every claim: our difference with its 95% interval, colored by outcome, that of each"
        " category (small marks), and the paper's. The band is the margin.",
    ),
    (
        "published",
        score_figures.published,
        "Change against the baseline, ours and the paper's. The effect sizes of the two settings differ;"
        " compare order and sign.",
    ),
    (
        "rewards",
        training_figures.rewards,
        "Total reward during training (mean over the batch; thick line smoothed). Totals of different arms"
        " are different quantities.",
    ),
    (
        "components",
        training_figures.components,
        "Raw value of every reward component that an arm's total uses, smoothed.",
    ),
    (
        "spread",
        training_figures.spread,
        "Standard deviation of the total and of every component among the samples of a prompt, mean over"
        " prompts, smoothed. A component without spread teaches nothing.",
    ),
    (
        "curves",
        training_figures.curves,
        "Entropy of the model's tokens, KL to the start of training per token, length of chains, and groups"
        " whose samples all earn the same, smoothed.",
    ),
)


def _factors(analysis: Analysis) -> list[tuple[str, Callable[[Analysis], Figure | None], str]]:
    """Return the figures of the study's factors, as in `FIGURES`."""
    figures: list[tuple[str, Callable[[Analysis], Figure | None], str]] = []
    for factor in factors_of(analysis):
        draw = partial(factor_figures.factor, shown=factor)
        figures.append((PREFIX + factor.name, draw, factor_figures.caption(analysis, factor)))
    return figures


def draw_figures(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Write every figure that the results allow. Return name -> caption, in the order they are read."""
    set_style()
    captions: dict[str, str] = {}
    with matplotlib.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "path"}):
        for name, draw, caption in [*_factors(analysis), *plan_figures.FIGURES, *FIGURES]:
            figure = draw(analysis)
            if figure is None:
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # the layout is the same in every format
            figure.savefig(folder / f"{name}.png", dpi=_DPI, metadata={"Software": None})
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
            captions[name] = caption
    return captions
