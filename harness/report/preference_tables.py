"""The tables of a preference study: shares of votes, judges and their agreement, strengths, cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from harness.analysis.preference import Preference
from harness.analysis.statistics import Interval
from harness.analysis.study import Analysis
from harness.analysis.votes import Tally, outcomes
from harness.report.cells import arm_cell, p_text, signed, span
from harness.report.claim_tables import claims_table
from harness.report.contrast_tables import contrasts_table, parts_table
from harness.report.table import Shown, Table, Value

ALL = "all sets"
NOT_MEASURED = "not measured"


def preference_tables(analysis: Analysis, preference: Preference) -> list[Table]:
    """Return every table of a preference study about votes and claims."""
    tables: list[Table | None] = [
        shares_table(analysis, preference),
        votes_table(analysis, preference),
        judges_table(preference),
        judge_agreement_table(preference),
        strengths_table(analysis, preference),
        vote_cost_table(preference),
    ]
    if analysis.verdicts:
        tables += [claims_table(analysis.verdicts), contrasts_table(analysis), parts_table(analysis)]
    return [table for table in tables if table is not None]


def shares_table(analysis: Analysis, preference: Preference) -> Table:
    """Return the share of the votes that every arm wins, by set, with the paper's where it has one."""
    published = analysis.published
    unmeasured = [name for name in _published_sets(analysis) if name not in analysis.categories]
    rows, records = [], []
    for arm in analysis.arms:
        macro = analysis.macro(arm)
        if macro.mean is None:
            mean = Shown(_macro_absence(analysis, arm), tone="missing")
        else:
            mean = Shown(f"{macro.mean:.3f} ({span(macro.interval)})", strong=_is_best(analysis, arm))
        cells, record = [arm_cell(analysis, arm), mean], [arm, macro.mean, *_bounds(macro.interval)]
        for category in [*analysis.categories, *unmeasured]:
            share = None if category in unmeasured else analysis.estimate(arm, category).mean
            paper = published.get(arm, {}).get(category)
            absent = NOT_MEASURED if category in unmeasured else analysis.absence(arm, category)
            text = absent if share is None else f"{share:.3f}"
            shown = text if paper is None else f"{text} / {paper:.2f}"
            cells.append(Shown(shown, tone="missing" if share is None else ""))
            record += [share, paper]
        rows.append(tuple(cells))
        records.append(tuple(record))
    sets = [*map(analysis.heading, analysis.categories), *unmeasured]
    fields = [field for name in sets for field in (name, f"{name}_published")]
    beside = " After the stroke: the paper's." if published else ""
    return Table(
        name="table",
        title="Share of the votes",
        note=(
            f"Share of the votes of the judge {preference.first} that an arm wins, mean over prompts: both"
            " orders are averaged, and a tie counts half. In the first column every set weighs the same, with"
            f" the 95% interval.{beside}"
        ),
        header=("arm", "mean over sets", *sets),
        rows=tuple(rows),
        fields=("arm", "mean", "mean_low", "mean_high", *fields),
        records=tuple(records),
    )


def _published_sets(analysis: Analysis) -> list[str]:
    return list(dict.fromkeys(name for row in analysis.published.values() for name in row))


def _is_best(analysis: Analysis, arm: str) -> bool:
    means = [analysis.macro(one).mean for one in analysis.arms]
    return analysis.macro(arm).mean == max(mean for mean in means if mean is not None)


def _macro_absence(analysis: Analysis, arm: str) -> str:
    """Return why an arm has no mean over the sets: the reason of the first one without a share."""
    for category in analysis.categories:
        if analysis.estimate(arm, category).mean is None:
            return analysis.absence(arm, category)
    return analysis.state(arm)


def votes_table(analysis: Analysis, preference: Preference) -> Table:
    """Return what the votes come to, one row per pair of arms, judge and set."""
    rows, records = [], []
    for pair in preference.pairs:
        for judge in preference.judges:
            for category in (None, *preference.categories):
                found = preference.tally(judge, pair, category)
                won, tied, lost = verdict_counts(preference, judge, pair, category)
                paper = analysis.published.get(pair[0], {}).get(category or "")
                names = (judge, f"{pair[0]} against {pair[1]}", category or ALL)
                counts = (found.prompts, won, tied, lost)
                both = f"{found.wins} : {found.losses}"
                rows.append(
                    (
                        *_names(*names),
                        *[Shown(str(count)) for count in counts],
                        _share_cell(found),
                        Shown("–" if paper is None else f"{paper:.2f}"),
                        Shown(both if found.sign_test_p is None else f"{both} p {p_text(found.sign_test_p)}"),
                    )
                )
                share = (found.win_rate, *_bounds(found.interval), found.p, paper)
                agreed = (found.wins, found.losses, found.sign_test_p, len(found.unscored))
                records.append((judge, *pair, category or ALL, *counts, *share, *agreed))
    return Table(
        name="votes",
        title="Votes by set",
        note=(
            "Prompts that the first arm wins, ties and loses, both orders averaged; its win rate with 95%"
            " interval and exact sign-flip p; and the prompts that it wins and loses in both orders, with the"
            " exact sign test."
        ),
        header=(
            *("judge", "pair", "set", "prompts", "won", "tied", "lost", "win rate", "the paper's"),
            "in both orders",
        ),
        rows=tuple(rows),
        fields=(
            *("judge", "x", "y", "set", "prompts", "won", "tied", "lost", "win_rate", "low", "high", "p"),
            *("published", "wins_in_both_orders", "losses_in_both_orders", "sign_test_p", "unscored_prompts"),
        ),
        records=tuple(records),
    )


def verdict_counts(
    preference: Preference, judge: str, pair: tuple[str, str], category: str | None
) -> tuple[int, int, int]:
    """Return how many scored prompts the first arm of a pair wins, ties and loses."""
    found = outcomes(preference.votes(judge, pair, category)).values()
    values = [value for value in found if value is not None]
    won, lost = sum(value > 0.5 for value in values), sum(value < 0.5 for value in values)
    return won, len(values) - won - lost, lost


def _names(first: str, *others: str) -> tuple[Shown, ...]:
    return Shown(first, tone="name"), *map(Shown, others)


def _share_cell(found: Tally) -> Shown:
    if found.win_rate is None or found.p is None:
        return Shown("no votes", tone="missing")
    return Shown(f"{found.win_rate:.3f} ({span(found.interval)}) p {p_text(found.p)}")


def _bounds(interval: Interval) -> tuple[float | None, float | None]:
    return interval.low, interval.high


def judges_table(preference: Preference) -> Table:
    """Return how far every judge can be trusted: its lean, its consistency, its unreadable answers."""
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for judge, label in preference.judges.items():
        found = preference.lean(judge)
        asked, missing = 0, 0
        for pair in preference.pairs:
            votes = preference.rows(judge, pair)
            asked, missing = asked + len(votes), missing + sum(row.vote is None for row in votes)
        record = (found.lean, *_bounds(found.lean_interval), found.lean_p, found.consistency)
        records.append((judge, label, asked, missing, *record, found.both_first, found.both_second))
        if found.lean is None or found.lean_p is None or found.consistency is None:
            measured = [Shown("no votes", tone="missing"), Shown("–"), Shown("–")]
        else:
            interval = span(found.lean_interval, sign=True)
            measured = [
                Shown(f"{signed(found.lean)} ({interval}) p {p_text(found.lean_p)}"),
                Shown(f"{found.consistency:.3f}"),
                Shown(f"{found.both_first} : {found.both_second}"),
            ]
        counts = (Shown(str(asked)), Shown(str(missing), tone="missing" if missing else ""))
        rows.append((*_names(judge, label or "–"), *counts, *measured))
    return Table(
        name="judges",
        title="The judges",
        note=(
            "Over all pairs and sets. Lean: how much more often the chain shown first wins, with 95% interval"
            " and exact p; 0 if the order does not matter. The last column counts the pairs of chains of"
            " which the first wins in both orders, and the second."
        ),
        header=("judge", "what it is", "questions", "unreadable", "lean", "consistency", "first : second"),
        rows=tuple(rows),
        fields=(
            *("judge", "label", "questions", "unreadable", "lean", "lean_low", "lean_high", "lean_p"),
            *("consistency", "first_in_both_orders", "second_in_both_orders"),
        ),
        records=tuple(records),
    )


def judge_agreement_table(preference: Preference) -> Table | None:
    """Return how far the judges agree on the winner, by prompt; None with one judge."""
    rows, records = [], []
    for judge, other in combinations(preference.judges, 2):
        for pair in preference.pairs:
            found = preference.agreement(judge, other, pair)
            kappa = (found.kappa, *_bounds(found.kappa_interval))
            ac1 = (found.ac1, *_bounds(found.ac1_interval))
            rows.append(
                (
                    *_names(judge, other, f"{pair[0]} against {pair[1]}"),
                    Shown(str(found.prompts)),
                    Shown("–" if found.agreement is None else f"{found.agreement:.3f}"),
                    _coefficient(found.kappa, found.kappa_interval),
                    _coefficient(found.ac1, found.ac1_interval),
                )
            )
            records.append((judge, other, *pair, found.prompts, found.agreement, *kappa, *ac1))
    if not rows:
        return None
    return Table(
        name="judge_agreement",
        title="Do the judges agree?",
        note=(
            "Share of prompts with the same verdict (the first arm, a tie, the second), Cohen's kappa and"
            " Gwet's AC1 with 95% bootstrap intervals."
        ),
        header=("judge", "and", "pair", "prompts", "agreement", "Cohen's kappa", "Gwet's AC1"),
        rows=tuple(rows),
        fields=(
            *("judge", "other", "x", "y", "prompts", "agreement", "kappa", "kappa_low", "kappa_high"),
            *("ac1", "ac1_low", "ac1_high"),
        ),
        records=tuple(records),
    )


def _coefficient(value: float | None, interval: Interval) -> Shown:
    return Shown("–" if value is None else f"{signed(value)} ({span(interval, sign=True)})")


def strengths_table(analysis: Analysis, preference: Preference) -> Table | None:
    """Return the strengths of the arms; None with fewer than three."""
    found = preference.strengths(analysis.arms)
    if found is None:
        return None
    rows, records = [], []
    for arm, value in sorted(found.log_strength.items(), key=lambda item: -item[1]):
        rows.append((Shown(arm, tone="name"), _coefficient(value, found.intervals[arm])))
        records.append((arm, value, *_bounds(found.intervals[arm])))
    misfits = [f"{pair.x} against {pair.y} ({pair.observed:.3f})" for pair in found.pairs if not pair.fits]
    misfit = f" The model does not describe {', '.join(misfits)}." if misfits else ""
    return Table(
        name="strengths",
        title="Strengths of the arms",
        note=(
            f"Bradley-Terry model of the votes of the judge {preference.first}: log strengths with mean 0 and"
            f" 95% bootstrap intervals over prompts; one virtual tie for each pair.{misfit}"
        ),
        header=("arm", "log strength"),
        rows=tuple(rows),
        fields=("arm", "log_strength", "low", "high"),
        records=tuple(records),
    )


def vote_cost_table(preference: Preference) -> Table:
    """Return what the questions cost: as estimated before they were asked, and as counted."""
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for pair in preference.pairs:
        for result in preference.results_of(pair):
            for judge, cost in result.cost.items():
                values = (*_cost(cost["estimate"]), *_cost(cost["spent"]))
                shown = [Shown("–" if value is None else _amount(value)) for value in values]
                rows.append((*_names(judge, f"{pair[0]} against {pair[1]}", str(result.seed)), *shown))
                records.append((judge, *pair, result.seed, *values))
    counted = ("questions", "asked again", "tokens in", "tokens out", "money")
    names = ("questions", "retries", "tokens_in", "tokens_out", "money")
    return Table(
        name="vote_cost",
        title="Cost of the votes",
        note=(
            "First as estimated before the first question, every answer at its length limit, then as counted."
            " – where nobody counts tokens or judge.serving.price is not set. Answers of the cache cost"
            " nothing."
        ),
        header=("judge", "pair", "seed", *[f"estimated {name}" for name in counted], *counted),
        rows=tuple(rows),
        fields=("judge", "x", "y", "seed", *[f"estimated_{name}" for name in names], *names),
        records=tuple(records),
    )


def _cost(cost: Mapping[str, Any]) -> list[Any]:
    return [cost[name] for name in ("questions", "retries", "tokens_in", "tokens_out", "money")]


def _amount(value: float) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
