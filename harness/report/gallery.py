"""The gallery: the same prompts for all arms, side by side, each image with the boxes of its chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

from harness.analysis.study import Analysis
from harness.chain import draw_overlay, parse
from harness.report.images import TILE, data_uri
from harness.report.plan_gallery import draw_found, hover_text
from harness.samples import SampleRow, ScoreRow
from harness.types import Chain

PER_CATEGORY = 2
_SHEET_TILE = 148
_GAP = 6


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One arm's sample of a prompt. `image` shows its boxes; it is None where `score` gives the reason.

    `hover` is the chain, with its difference to the own chain where an intervention changed it.
    """

    arm: str
    image: Image.Image | None
    score: str
    tone: str
    chain: str
    faults: tuple[str, ...]
    hover: str = ""

    @property
    def source(self) -> str:
        """The image as a data URI."""
        assert self.image is not None
        return data_uri(self.image)


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A prompt with the tiles of all arms, in the order of the study plan."""

    prompt: str
    category: str
    tiles: tuple[Tile, ...]


def make_gallery(analysis: Analysis) -> list[Exhibit]:
    """Return two prompts per category, at a quarter and three quarters of its list: a choice before any
    image.

    Every arm shows the first sample of its first measured seed.
    """
    answers = {arm: first_answers(analysis, arm) for arm in analysis.arms}
    prompts: dict[str, dict[str, str]] = {}  # category -> prompt id -> text
    for row in analysis.reference_samples():
        prompts.setdefault(analysis.study.category_of(row.category), {})[row.prompt_id] = row.prompt
    exhibits = []
    for category in dict.fromkeys(map(analysis.study.category_of, analysis.categories)):
        texts = prompts.get(category, {})
        for prompt_id in _chosen(list(texts)):
            tiles = tuple(make_tile(analysis, arm, answers[arm].get(prompt_id)) for arm in analysis.arms)
            heading = analysis.heading(category)
            exhibits.append(Exhibit(prompt=texts[prompt_id], category=heading, tiles=tiles))
    return exhibits


def _chosen(prompt_ids: Sequence[str]) -> list[str]:
    indices = [(2 * number + 1) * len(prompt_ids) // (2 * PER_CATEGORY) for number in range(PER_CATEGORY)]
    return list(dict.fromkeys(prompt_ids[index] for index in indices if index < len(prompt_ids)))


def first_answers(analysis: Analysis, arm: str) -> dict[str, tuple[SampleRow, ScoreRow]]:
    """Return prompt id -> its first sample and score in the arm's first measured seed."""
    cells = analysis.measured_cells(arm)
    if not cells or cells[0].samples is None or cells[0].scores is None:
        return {}
    scores = {row.index: row for row in cells[0].scores}
    answers: dict[str, tuple[SampleRow, ScoreRow]] = {}
    for row in cells[0].samples:
        if row.index in scores:
            answers.setdefault(row.prompt_id, (row, scores[row.index]))
    return answers


def make_tile(analysis: Analysis, arm: str, answer: tuple[SampleRow, ScoreRow] | None) -> Tile:
    """Return the tile of an arm's sample and score, or of the reason why it has none."""
    cells = analysis.measured_cells(arm)
    if answer is None:
        state = "no sample" if cells else analysis.state(arm)
        return Tile(arm=arm, image=None, score=state, tone="missing", chain="", faults=())
    sample, score = answer
    text, tone = _score(score)
    if tone != "missing" and any(score.category in cell.metrics for cell in cells):
        tone = "quiet"  # a metric with a scale of its own has no good and bad
    category = analysis.study.category_of(score.category)
    tile = Tile(
        arm=arm,
        image=overlay(sample.image, parse(sample.chain)),
        score=text + score.category.removeprefix(category),  # with the metric where the category was split
        tone=tone,
        chain=sample.chain,
        faults=sample.faults,
        hover=hover_text(sample),
    )
    for plan in cells[0].plans or ():
        if plan.index == sample.index and tile.image is not None:
            draw_found(tile.image, plan)
    return tile


def _score(score: ScoreRow) -> tuple[str, str]:
    if score.value is None:
        return f"unscored: {score.unscored}", "missing"
    if score.value >= 0.75:
        return f"{score.value:.2f}", "good"
    return f"{score.value:.2f}", "bad" if score.value < 0.25 else "quiet"


def overlay(file: str, objects: Chain) -> Image.Image | None:
    """Return the image with boxes, no larger than two tiles; None where the file cannot be read."""
    try:
        with Image.open(file) as image:
            drawn = draw_overlay(image, objects, size=TILE)
    except OSError:
        return None
    if drawn.width > TILE * 3 // 2:
        drawn.thumbnail((TILE * 3 // 2, TILE * 3 // 2))
    return drawn


SHEET_ARMS = 12  # more columns cannot be read; the page shows all arms
_TONES = {"good": "#2f855a", "bad": "#c53030", "quiet": "#52606d", "missing": "#c53030"}


def gallery_sheet(exhibits: Sequence[Exhibit]) -> Image.Image | None:
    """Return the gallery as one image: the first prompt of every category, and a column for every arm of
    the first twelve.
    """
    rows = list({exhibit.category: exhibit for exhibit in reversed(exhibits)}.values())[::-1]
    if not rows:
        return None
    step = _SHEET_TILE + _GAP
    height, top = step + 42, 24
    sheet = Image.new(
        "RGB", (step * len(rows[0].tiles[:SHEET_ARMS]) + _GAP, top + height * len(rows)), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for column, tile in enumerate(rows[0].tiles[:SHEET_ARMS]):
        pen.text(
            (_GAP + column * step, 6), _fit(tile.arm, 22), fill="#1f2933", font=ImageFont.load_default(13)
        )
    for number, exhibit in enumerate(rows):
        y = top + number * height
        pen.text(
            (_GAP, y + 3),
            _fit(f"{exhibit.category}: {exhibit.prompt}", 180),
            fill="#52606d",
            font=ImageFont.load_default(12),
        )
        for column, tile in enumerate(exhibit.tiles[:SHEET_ARMS]):
            _paste(sheet, pen, tile, _GAP + column * step, y + 20)
    return sheet.quantize(128)


def _paste(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, x: int, y: int) -> None:
    if tile.image is None:
        pen.rectangle((x, y, x + _SHEET_TILE, y + _SHEET_TILE), outline="#cbd2d9")
    else:
        sheet.paste(
            ImageOps.pad(tile.image, (_SHEET_TILE, _SHEET_TILE), Image.Resampling.LANCZOS, color="white"),
            (x, y),
        )
    pen.text(
        (x, y + _SHEET_TILE + 3),
        _fit(tile.score, 22),
        fill=_TONES[tile.tone],
        font=ImageFont.load_default(12),
    )


def _fit(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
