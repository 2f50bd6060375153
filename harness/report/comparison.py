"""Compares arms on chosen prompts: their images side by side, with plan, detections, score and evidence.

The pages have a folder of their own, `STUDY-comparison`, because a sweep replaces the folder of its report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from harness.analysis.results import read_study
from harness.analysis.study import DONE, Analysis
from harness.files import writing_folder
from harness.names import nearest, unknown
from harness.plan_rows import PlanRow
from harness.report.evidence import detected, words
from harness.report.folder import check_report_folder, not_written
from harness.report.gallery import Tile, first_answers, make_tile, overlay
from harness.report.images import data_uri, encode
from harness.report.page import environment
from harness.samples import SampleRow, ScoreRow
from harness.types import CANVAS, Box, Chain, PlannedObject

RIGHT = 0.5  # the least score of an image that counts as right


@dataclass(frozen=True, kw_only=True)
class Panel:
    """An arm's image of a prompt: `tile` shows its plan, and `detections` what was found in it.

    `detections` is None where no boxes are known. `words` are the evidence of the score, line by line.
    """

    tile: Tile
    detections: Image.Image | None = None
    words: tuple[str, ...] = ()

    @property
    def views(self) -> dict[str, Image.Image]:
        """The images by what their boxes are: plan, detections."""
        views = {"plan": self.tile.image, "detections": self.detections}
        return {name: view for name, view in views.items() if view is not None}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt of the study. `number` is its place in the study, from 0."""

    number: int
    id: str
    text: str
    category: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one choice of the user shows: `note` says which prompts these are."""

    choice: str
    note: str
    rows: Sequence[tuple[Asked, Sequence[Panel]]]


def write_comparison(
    study_folder: Path, reports_dir: Path, choices: Sequence[str], *, arms: Sequence[str] | None, count: int
) -> Path:
    """Write `reports_dir/<study>-comparison/` and return it. A former comparison is replaced as a whole.

    Args:
        study_folder: `outputs/studies/<study>`.
        reports_dir: the folder of all reports.
        choices: each is the number, id or text of a prompt, words of its text, a category, or `A>B`: the
            prompts where arm A is right and arm B wrong.
        arms: those to show, besides A and B; None: all.
        count: the most prompts per choice.

    Raises:
        ValueError: the study, a prompt or an arm does not exist, or the folder cannot be written.
    """
    comparison = _Comparison(Analysis(read_study(study_folder)), arms)
    sections = [comparison.section(choice, count) for choice in choices]
    folder = check_report_folder(reports_dir, f"{comparison.analysis.study.name}-comparison", "comparison")
    try:
        with writing_folder(folder) as new:
            _write(new, comparison.analysis, sections)
    except OSError as error:
        raise ValueError(not_written(folder, error)) from error
    return folder


class _Comparison:
    """Chooses prompts, and shows every arm's first image of them, of its first measured seed."""

    def __init__(self, analysis: Analysis, arms: Sequence[str] | None) -> None:
        self.analysis = analysis
        self._arms = analysis.arms if arms is None else tuple(dict.fromkeys(map(self._arm, arms)))
        self._answers = {arm: first_answers(analysis, arm) for arm in analysis.arms}
        by_id: dict[str, SampleRow] = {}
        for row in analysis.reference_samples():
            by_id.setdefault(row.prompt_id, row)
        category_of = analysis.study.category_of
        self._prompts = []
        for number, row in enumerate(by_id.values()):
            asked = Asked(
                number=number, id=row.prompt_id, text=row.prompt, category=category_of(row.category)
            )
            self._prompts.append(asked)
        if not self._prompts:
            name = analysis.study.name
            raise ValueError(
                f"study {name} has no scored images to compare yet: python -m harness.status {name} shows"
                " its cells"
            )

    def section(self, choice: str, count: int) -> Section:
        """Return the prompts of a choice, at most `count`, with the panels of all arms."""
        prompts, note, first = self._choose(choice)
        if len(prompts) > count:
            note += f" Shown: the first {count}."
        arms = [*first, *(arm for arm in self._arms if arm not in first)]
        rows = []
        for prompt in prompts[:count]:
            rows.append((prompt, [self._panel(arm, prompt.id) for arm in arms]))
        return Section(choice=choice, note=note, rows=rows)

    def _choose(self, choice: str) -> tuple[list[Asked], str, list[str]]:
        """Return the chosen prompts, what they are, and the arms that stand first."""
        prompts, low = self._prompts, choice.strip().casefold()
        if low.isdecimal():
            if int(low) >= len(prompts):
                raise ValueError(f"--compare={choice}: give the number of a prompt, 0 to {len(prompts) - 1}")
            return [prompts[int(low)]], f"Prompt {low}.", []
        of_category = [prompt for prompt in prompts if prompt.category.casefold() == low]
        if of_category:
            return of_category, f"The {len(of_category)} prompts of this category.", []
        named = [prompt for prompt in prompts if low in (prompt.id.casefold(), prompt.text.casefold())]
        found = named or [prompt for prompt in prompts if low and low in prompt.text.casefold()]
        if found:
            return found, f"{len(found)} of {len(prompts)} prompts match.", []
        right, sign, wrong = choice.partition(">")
        if not sign:
            raise ValueError(self._unknown(choice))
        pair = [self._measured(self._arm(right.strip())), self._measured(self._arm(wrong.strip()))]
        better = self._right_and_wrong(*pair)
        note = (
            f"The {len(better)} of {len(prompts)} prompts where the image of {pair[0]} is right (score"
            f" {RIGHT:g} or more) and that of {pair[1]} is wrong. The largest difference comes first."
        )
        return better, note, pair

    def _right_and_wrong(self, right: str, wrong: str) -> list[Asked]:
        """Return the prompts where one arm is right and the other wrong, by falling difference of scores."""
        differences: dict[Asked, float] = {}
        for prompt in self._prompts:
            higher, lower = (self._score(arm, prompt) for arm in (right, wrong))
            if higher is None or lower is None or higher.category != lower.category:
                continue  # unequal metrics, which are unequal columns, have no difference
            high, low = higher.value, lower.value
            if high is not None and low is not None and high >= RIGHT > low:
                differences[prompt] = round(high - low, 6)  # as exact as scores are: equal ones tie
        return sorted(differences, key=lambda prompt: -differences[prompt])

    def _score(self, arm: str, prompt: Asked) -> ScoreRow | None:
        answer = self._answers[arm].get(prompt.id)
        return None if answer is None else answer[1]

    def _arm(self, name: str) -> str:
        if name not in self.analysis.arms:
            raise ValueError(unknown("arm", name, self.analysis.arms))
        return name

    def _measured(self, arm: str) -> str:
        if not self._answers[arm]:
            state = self.analysis.state(arm)
            why = "its cells have no images" if state == DONE else f"it is {state}"
            raise ValueError(f"arm {arm} has no scored images to compare: {why}")
        return arm

    def _unknown(self, choice: str) -> str:
        if choice in self.analysis.arms:
            return f"--compare={choice}: give two arms in quotes, such as --compare '{choice}>OTHER'"
        categories = list(dict.fromkeys(prompt.category for prompt in self._prompts))
        near = nearest(choice, [*categories, *(prompt.text for prompt in self._prompts)])
        question = f" Did you mean {near!r}?" if near else ""
        return (
            f"--compare={choice}: no prompt matches.{question} Give a number from 0 to"
            f" {len(self._prompts) - 1}, words of a prompt, a category ({', '.join(categories)}), or 'A>B'"
            f" with two arms ({', '.join(self.analysis.arms)})"
        )

    def _panel(self, arm: str, prompt_id: str) -> Panel:
        answer = self._answers[arm].get(prompt_id)
        tile = make_tile(self.analysis, arm, answer)
        if answer is None:
            return Panel(tile=tile)
        sample, score = answer
        plan = self._plan(arm, sample.index)
        found = detected(score.evidence)
        if found is None and plan is not None:
            found = _found(plan)
        shown = None
        if found is not None:
            shown = overlay(sample.image, Chain(text="", objects=found, bare_text=""))
        return Panel(
            tile=tile,
            detections=shown,
            words=(*_intervention(sample), *_outcomes(plan), *words(score.evidence)),
        )

    def _plan(self, arm: str, index: int) -> PlanRow | None:
        """Return the row of `plans.jsonl` about a sample of the arm's first measured cell."""
        for row in self.analysis.measured_cells(arm)[0].plans or ():
            if row.index == index:
                return row
        return None


def _found(plan: PlanRow) -> tuple[PlannedObject, ...] | None:
    """Return the subject and object of the prompt's relation as the image has them."""
    if plan.found is None:
        return None
    objects = []
    for name, corners in zip(("subject", "object"), plan.found, strict=True):
        on_canvas = (round(min(max(value, 0), CANVAS)) for value in corners)
        objects.append(PlannedObject(name=name, box=Box(*on_canvas)))
    return tuple(objects)


def _intervention(sample: SampleRow) -> list[str]:
    if sample.drawn_from is None:
        return []
    applied = "applied" if sample.drawn_from.applied else f"not applied: {sample.drawn_from.reason}"
    return [f"{sample.drawn_from.intervention}: {applied}"]


def _outcomes(plan: PlanRow | None) -> list[str]:
    """Return whether the plan and the image have the prompt's relation, where that was measured."""
    if plan is None:
        return []
    outcomes = {"plan right": plan.plan_right, "image right": plan.image_right, "followed": plan.followed}
    return [f"{name}: {'yes' if value else 'no'}" for name, value in outcomes.items() if value is not None]


def _write(folder: Path, analysis: Analysis, sections: Sequence[Section]) -> None:
    study = analysis.study
    values: dict[str, Any] = {"study": study, "sections": sections, "data_uri": data_uri}
    page = environment(html=True).get_template("comparison.html.j2").render(**values)
    (folder / "index.html").write_text(page, encoding="utf-8", newline="\n")
    (folder / "images").mkdir()
    arms = {arm: number for number, arm in enumerate(analysis.arms)}
    files: dict[tuple[int, str, str], str] = {}  # (number of the prompt, arm, view) -> path
    for section in sections:
        for prompt, panels in section.rows:
            for panel in panels:
                for name, view in panel.views.items():
                    kind, content = encode(view)
                    file = f"images/{prompt.number}-{arms[panel.tile.arm]}-{name}.{kind}"
                    (folder / file).write_bytes(content)
                    files[prompt.number, panel.tile.arm, name] = file
    text = environment(html=False).get_template("comparison.md.j2").render(**values, files=files)
    (folder / "comparison.md").write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8", newline="\n")
