"""The sections on plans in a report, and what its head says about plans."""

from __future__ import annotations

from collections.abc import Mapping

from harness.analysis import mirror
from harness.analysis.measures import RELATION
from harness.analysis.plan_checks import blindness
from harness.analysis.plans import PlanAnalysis, plan_analysis
from harness.analysis.study import Analysis
from harness.report.cells import signed
from harness.report.section import Section
from harness.report.table import Table

PREFIX = "plan_"  # begins the names of these tables and figures

# Title, text, tables and figures of each section, in the order they are read.
_SECTIONS = (
    (
        "Plan or drawing?",
        "The plan is the boxes that the chain gives to the two objects of the prompt's relation, its"
        " subject and its object. It is right if the relation holds between these boxes, and the image is"
        " right if it holds between the boxes where the objects were found. A checkpoint is a trained model;"
        " here it draws from the chains that it writes itself.",
        ("attribution", "changes"),
        ("attribution",),
    ),
    (
        "What another chain changes",
        "An intervention replaces the chain that an image is drawn from, with checkpoint, prompt and seeds of"
        " the image as before. So the difference to the baseline is the effect of the chain alone.",
        ("effects", "subsets"),
        ("effects",),
    ),
    (
        "Dose and best of K",
        "Two ways to better plans: move the boxes apart (the dose is the distance of their centers), or"
        " write K chains and take the first whose plan is right.",
        ("dose", "best_of"),
        ("dose",),
    ),
    (
        "Improbable chains",
        "A model may fail on a chain because it never saw one like it in training. −log p measures that: the"
        " mean over the ids of the chain, in nats. It is not known where the caption was replaced. It says"
        " nothing of begin-of-image alone: sft.chain_dropout decides whether the model has seen that.",
        (),
        ("nll",),
    ),
    (
        "Blind metrics",
        "When the boxes of subject and object are exchanged, a right relation becomes wrong. A score that"
        " does not fall then is blind to the relation, and its comparisons say nothing about it.",
        ("blind",),
        (),
    ),
    (
        "What was drawn",
        "An intervention that cannot be applied to a chain leaves it as the baseline has it.",
        ("counts",),
        (),
    ),
)


def plan_sections(tables: Mapping[str, Table], captions: Mapping[str, str]) -> list[Section]:
    """Return the sections that have a table or a figure.

    Args:
        tables: those of the report, by name.
        captions: the captions of its figures, by name.
    """
    sections = []
    for title, text, table_names, figure_names in _SECTIONS:
        shown = tuple(tables[PREFIX + name] for name in table_names if PREFIX + name in tables)
        figures = {
            PREFIX + name: captions[PREFIX + name] for name in figure_names if PREFIX + name in captions
        }
        if shown or figures:
            sections.append(Section(title=title, text=text, tables=shown, figures=figures))
    return sections


def plan_findings(analysis: Analysis) -> list[str]:
    """Return what the head of a report says about plans, in sentences; empty in other studies."""
    plans = plan_analysis(analysis)
    return [*_attribution(plans), *_blind(plans)]


def _attribution(plans: PlanAnalysis) -> list[str]:
    """Return a sentence on the first change of checkpoints, else on the first checkpoint."""
    for change in plans.changes:
        parts = change.split
        return [
            f"Plan or drawing: from {change.first} to {change.second} the share of right images changes by"
            f" {signed(parts.change)}, {signed(parts.plan)} by the plan and {signed(parts.drawing)} by the"
            " drawing."
        ]
    for (arm, _), found in plans.attributions.items():
        both, plan_only, image_only, neither = found.shares
        return [
            f"Plan or drawing: with {arm}, {both + image_only:.3f} of the images are right; {plan_only:.3f}"
            f" are wrong with a right plan (a fault of the drawing), {neither:.3f} with a wrong plan."
        ]
    return []


def _blind(plans: PlanAnalysis) -> list[str]:
    """Return a sentence on the scores that do not fall when boxes are exchanged."""
    found = blindness(plans)
    relations = [one for one in found if one.column.startswith(RELATION)]
    if relations and not any(one.check["verdict"] == mirror.FALLS for one in relations):
        return [
            "Exchanging the boxes does not lower the share of right images: they do not follow the plan, or"
            " as many plans were wrong before. So no score can show whether it is blind to the relation."
        ]
    blind = list(dict.fromkeys(one.column for one in found if one.blind and one not in relations))
    if not blind:
        return []
    return [
        f"Blind to the relation: the scores of {', '.join(blind)} do not fall when the boxes of subject and"
        " object are exchanged."
    ]
