"""The gallery: the same prompts for all arms, side by side, with the plan drawn over each image."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

from harness.analysis.analysis import Analysis
from harness.analysis.results import SampleRow, ScoreRow
from harness.chain import draw_overlay, parse

PER_CATEGORY = 2
TILE = 192  # pixels; larger pictures are shown smaller, as JPEG
_SHEET_TILE = 148
_GAP = 6


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One arm's answer to a prompt: `picture` with the plan over it, None where there is none and `score` says why."""

    arm: str
    picture: Image.Image | None
    score: str
    tone: str
    chain: str
    faults: tuple[str, ...]

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        assert self.picture is not None
        stream = io.BytesIO()
        drawn = self.picture.width <= 2 * TILE and self.picture.getcolors(4096) is not None
        if drawn:
            self.picture.quantize(128).save(stream, "PNG", optimize=True)
        else:
            self.picture.save(stream, "JPEG", quality=82)
        return (
            f"data:image/{'png' if drawn else 'jpeg'};base64,{base64.b64encode(stream.getvalue()).decode()}"
        )


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A prompt with the tiles of all arms, in the order of the plan."""

    prompt: str
    category: str
    tiles: tuple[Tile, ...]


def make_gallery(analysis: Analysis) -> list[Exhibit]:
    """Two prompts per category, at a quarter and three quarters of its list: a choice made before any picture was seen.

    Shown is the first sample of every arm's first measured seed.
    """
    answers = {arm: _answers(analysis, arm) for arm in analysis.arms}
    samples = analysis.reference_samples()
    texts = {row.prompt_id: row.prompt for row in samples}
    exhibits = []
    for category in dict.fromkeys(map(analysis.study.category_of, analysis.categories)):
        of_category = (
            row.prompt_id for row in samples if analysis.study.category_of(row.category) == category
        )
        for prompt_id in _chosen(list(dict.fromkeys(of_category))):
            tiles = tuple(_tile(analysis, arm, answers[arm].get(prompt_id)) for arm in analysis.arms)
            exhibits.append(
                Exhibit(prompt=texts[prompt_id], category=analysis.heading(category), tiles=tiles)
            )
    return exhibits


def _chosen(prompt_ids: Sequence[str]) -> list[str]:
    places = [(2 * number + 1) * len(prompt_ids) // (2 * PER_CATEGORY) for number in range(PER_CATEGORY)]
    return list(dict.fromkeys(prompt_ids[place] for place in places if place < len(prompt_ids)))


def _answers(analysis: Analysis, arm: str) -> dict[str, tuple[SampleRow, ScoreRow]]:
    """Prompt id -> its first sample and score in the arm's first measured seed."""
    cell = next(iter(analysis.measured_cells(arm)), None)
    if cell is None or cell.samples is None or cell.scores is None:
        return {}
    scores = {row.index: row for row in cell.scores}
    return {row.prompt_id: (row, scores[row.index]) for row in reversed(cell.samples) if row.index in scores}


def _tile(analysis: Analysis, arm: str, answer: tuple[SampleRow, ScoreRow] | None) -> Tile:
    if answer is None:
        state = "no sample" if analysis.measured_cells(arm) else analysis.state(arm)
        return Tile(arm=arm, picture=None, score=state, tone="missing", chain="", faults=())
    sample, score = answer
    text, tone = _score(score)
    if tone != "missing" and any(score.category in cell.metrics for cell in analysis.measured_cells(arm)):
        tone = "quiet"  # of a metric with a scale of its own nothing is good or bad
    apart = score.category.removeprefix(
        analysis.study.category_of(score.category)
    )  # the metric, where that is not the others'
    return Tile(
        arm=arm,
        picture=_picture(sample),
        score=text + apart,
        tone=tone,
        chain=sample.chain,
        faults=sample.faults,
    )


def _score(score: ScoreRow) -> tuple[str, str]:
    if score.value is None:
        return f"unscored: {score.unscored}", "missing"
    return f"{score.value:.2f}", "good" if score.value >= 0.75 else "bad" if score.value < 0.25 else "quiet"


def _picture(sample: SampleRow) -> Image.Image | None:
    """The image with its plan, no larger than two tiles; None where the file cannot be read."""
    try:
        with Image.open(sample.image) as image:
            drawn = draw_overlay(image, parse(sample.chain), size=TILE)
    except OSError:
        return None
    if drawn.width > TILE * 3 // 2:
        drawn.thumbnail((TILE * 3 // 2, TILE * 3 // 2))
    return drawn


_TONES = {"good": "#2f855a", "bad": "#c53030", "quiet": "#52606d", "missing": "#c53030"}


def gallery_sheet(exhibits: Sequence[Exhibit]) -> Image.Image | None:
    """One picture of the gallery for places that show no page: the first prompt of every category, a column per arm."""
    rows = list({exhibit.category: exhibit for exhibit in reversed(exhibits)}.values())[::-1]
    if not rows:
        return None
    step = _SHEET_TILE + _GAP
    height, top = step + 42, 24
    sheet = Image.new("RGB", (step * len(rows[0].tiles) + _GAP, top + height * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, tile in enumerate(rows[0].tiles):
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
        for column, tile in enumerate(exhibit.tiles):
            _paste(sheet, pen, tile, _GAP + column * step, y + 20)
    return sheet.quantize(128)


def _paste(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, x: int, y: int) -> None:
    if tile.picture is None:
        pen.rectangle((x, y, x + _SHEET_TILE, y + _SHEET_TILE), outline="#cbd2d9")
    else:
        sheet.paste(
            ImageOps.pad(tile.picture, (_SHEET_TILE, _SHEET_TILE), Image.Resampling.LANCZOS, color="white"),
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
