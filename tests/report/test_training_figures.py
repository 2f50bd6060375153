"""The figures about training show what runs logged, and runs that did not log it still make a report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.report import training_figures
from harness.report.build import write_report

METRICS = (
    *("entropy/chain", "entropy/image", "kl/chain", "kl/image"),
    *("length/chain", "chain_share", "zero_spread_share"),
)
TITLES = {
    "entropy of chain tokens (nats)",
    "entropy of image tokens (nats)",
    "KL of chain tokens (nats)",
    "KL of image tokens (nats)",
    "length of chains (tokens)",
    "share of tokens in chains",
    "share of groups without spread",
}
GAP = "gap to the sampler (nats per token)"


def trained(arm: str, step: int) -> dict[str, float]:
    """What a GRPO run logs; the arm w_PI has no KL."""
    values = {name: (1 + number) * step / 100 for number, name in enumerate(METRICS)}
    if arm == "w_PI":
        values = {name: value for name, value in values.items() if not name.startswith("kl")}
    return {**values, "spread/total": 0.2, "spread/pi": 0.1, "sampler_gap": 1e-6}


@pytest.fixture
def analysis(fake_study):
    def made(**changes) -> Analysis:
        return Analysis(read_study(fake_study(prompts=2, **changes).write()))

    return made


def titles(figure) -> set[str]:
    return {axis.get_title(loc="left") or axis.get_title() for axis in figure.axes if axis.get_visible()}


def test_every_curve_has_a_panel_with_a_line_per_run(analysis):
    figure = training_figures.curves(analysis(logged=trained))
    assert titles(figure) == TITLES
    drawn = {
        axis.get_title(loc="left") or axis.get_title(): sum(len(line.get_xdata()) > 0 for line in axis.lines)
        for axis in figure.axes
    }
    assert drawn["length of chains (tokens)"] == 6  # three arms, two seeds
    assert drawn["KL of chain tokens (nats)"] == 4  # w_PI logged none
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"baseline", "w_PI", "full"}


@pytest.mark.parametrize(("gap", "shown"), [(0.3, True), (0.009, False)])
def test_the_gap_to_the_sampler_is_shown_where_it_is_more_than_rounding(analysis, gap, shown):
    figure = training_figures.curves(
        analysis(logged=lambda arm, step: {**trained(arm, step), "sampler_gap": gap})
    )
    assert (GAP in titles(figure)) is shown


def test_a_negative_quantity_is_not_cut_off(analysis):
    figure = training_figures.curves(
        analysis(logged=lambda arm, step: {"kl/chain": -0.5, "entropy/chain": 1.0})
    )
    lowest = {axis.get_title(loc="left") or axis.get_title(): axis.get_ylim()[0] for axis in figure.axes}
    assert lowest["KL of chain tokens (nats)"] < -0.5
    assert lowest["entropy of chain tokens (nats)"] == 0


def test_the_spread_of_total_and_components_has_a_panel_per_arm(analysis):
    figure = training_figures.spread(analysis(logged=trained))
    assert titles(figure) == {"baseline", "w_PI", "full"}
    for axis in figure.axes:
        assert sorted(line.get_ydata()[0] for line in axis.lines) == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pi", "total"]


def test_thirty_arms_have_lines_that_can_be_told_apart(analysis):
    arms = {"baseline": 0.3, "full": 0.7, **{f"arm{number}": 0.5 for number in range(28)}}
    figure = training_figures.curves(analysis(arms=arms, seeds=(0,), logged=trained))
    lines = figure.axes[0].lines
    assert len({(str(line.get_color()), line.get_linestyle()) for line in lines}) == len(lines) == 30


def test_runs_that_logged_none_of_them_have_no_such_figure(analysis):
    older = analysis()
    assert training_figures.curves(older) is None and training_figures.spread(older) is None
    assert training_figures.rewards(older) is not None


@pytest.mark.parametrize(
    ("logged", "names"),
    [
        (trained, ["rewards", "components", "spread", "curves"]),
        (lambda arm, step: {}, ["rewards", "components"]),
    ],
)
def test_both_pages_have_one_section_on_training(fake_study, logged, names):
    study = fake_study(prompts=2, logged=logged)
    report = write_report(study.write(), study.root / "reports")
    text = (report / "report.md").read_text(encoding="utf-8")
    assert text.count("## Training\n") == 1
    section = text.partition("## Training\n")[2].partition("\n## ")[0]
    assert re.findall(r"!\[(\w+)\]", section) == names
    assert re.findall(r"!\[(rewards|components|spread|curves)\]", text) == names
    page = (report / "index.html").read_text(encoding="utf-8")
    assert page.count('<section id="training">') == 1 and '<a href="#training">' in page
    training = page.partition('<section id="training">')[2].partition("</section>")[0]
    assert training.count("<img ") == len(names)
    assert {file.stem for file in Path(report / "figures").glob("*.svg")} >= set(names)


def test_a_study_without_training_has_no_such_section(fake_study):
    states = {(arm, seed): ("planned", None) for arm in ("baseline", "w_PI", "full") for seed in (0, 1)}
    study = fake_study(prompts=2, states=states)
    report = write_report(study.write(), study.root / "reports")
    assert "## Training\n" not in (report / "report.md").read_text(encoding="utf-8")
    assert "#training" not in (report / "index.html").read_text(encoding="utf-8")
