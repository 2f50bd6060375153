"""`python -m harness.score benchmarks=NAME samples=FOLDER`: scores pictures made elsewhere, of any benchmark's prompts."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from harness import command
from harness.chain import draw_overlay
from harness.composition.arguments import UsageError, quote
from harness.evaluation.score import describe
from harness.files import read_rows
from harness.generate import writing
from harness.launch.cluster import job_environment
from harness.report.summary import ABOUT, Summary, remarks, summarise, table
from harness.report.table import markdown
from harness.samples import SampleFolder, read_picture
from harness.study.roles import make_component
from harness.types import CANVAS, Box, Chain, PlannedObject

if TYPE_CHECKING:
    from harness.protocols import Benchmark

EXAMPLE = "python -m harness.score benchmarks=t2i_compbench samples=FOLDER"
USAGE = f"""\
Scores a folder of pictures by a benchmark's rules: one row an image, and the mean of every category.

  {EXAMPLE}

samples=FOLDER      FOLDER/samples/PROMPT_000000.png and so on, FOLDER/CATEGORY/samples/ for each category, GenEval's
                    FOLDER/00000/metadata.jsonl with FOLDER/00000/samples/00000.png and so on, or a folder with a samples.jsonl,
                    as harness.generate and every sweep write it
results=FOLDER      in place of samples=: files that the benchmark's official programs have written
out=scored/NAME     the folder for scores.jsonl, summary.md, .csv and .json, and official/; NAME is that of FOLDER
mode=MODE           short for benchmarks.scoring.mode=
allow_partial=true  short for policies.allow_partial=: a folder that lacks pictures is scored as far as it goes, and every table says so
check=mirror        short for evaluation.check=: does the metric see left and right?
draw=boxes          the boxes that were judged, drawn over the pictures, in boxes/
KEY=VALUE           as in a sweep: benchmarks.categories=[color,shape], resources.processes=8, ...

Stopped or killed, the same command goes on where it was.
"""
SHORT = {
    "mode": "benchmarks.scoring.mode",
    "check": "evaluation.check",
    "allow_partial": "policies.allow_partial",
}
PICTURES = ("policies=images", "trainers=frozen")
MADE = ("summary.json", "scores.jsonl")  # how an earlier result of this command is known
IMPORTED = "imported: scored by the official programs, elsewhere"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the words ask for; `words` are those that configure the cell or, with `results`, the benchmark."""

    folder: Path
    results: bool
    out: Path
    boxes: bool
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Rows of `scores.jsonl` with prompt and image path, what `metric.json` says, and what they are made from.

    `official` is the folder in the benchmark's own forms, if it has written one.
    """

    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    origin: Mapping[str, Any]
    official: Path


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(score, sys.argv[1:] if argv is None else argv, USAGE)


def score(words: list[str]) -> None:
    """Reads the words, scores, writes the folder, and prints the means and where things lie.

    Raises:
        UsageError: the words cannot be read, or the folder cannot be scored as it is.
        StorageError: the outcome cannot be written.
        ValueError: nothing at all could be scored.
    """
    request = read_request(words)
    check_place(request)
    with tempfile.TemporaryDirectory() as scratch:
        scored = imported(request, Path(scratch)) if request.results else made(request)
        summaries = summarise(scored.rows, scored.metrics)
        with writing(request.out):
            write(scored, summaries, request)
    show(summaries, request)
    if not any(one.images for one in summaries):
        raise ValueError("nothing could be scored, for the reasons above")


def read_request(words: Sequence[str]) -> Request:
    """What is to be scored, and where to.

    Raises:
        UsageError: neither or both of samples= and results=, or a value that is not allowed.
    """
    taken, rest = command.take(words, ("samples", "results", "out", "draw", *SHORT))
    given = [name for name in ("samples", "results") if taken.get(name)]
    if len(given) != 1:
        problem = "both samples= and results= are given: give one" if given else "no folder is given"
        raise UsageError(f"{problem}. For instance: {EXAMPLE}")
    folder, results = Path(taken[given[0]]), given == ["results"]
    if not folder.is_dir():
        raise UsageError(f"{given[0]}={folder}: there is no such folder")
    if "draw" in taken and taken["draw"] != "boxes":
        raise UsageError(f"draw={taken['draw']}: allowed is draw=boxes")
    if results and (odd := sorted({"draw", "check", "allow_partial"} & set(taken))):
        raise UsageError(
            f"{odd[0]}= needs pictures, and results= has none: leave it out, or give samples=FOLDER"
        )
    out = taken.get("out", f"scored/{folder.resolve().name}")
    if not out:
        raise UsageError("out= is empty: give a folder")
    short = [f"{SHORT[name]}={text}" for name, text in taken.items() if name in SHORT]
    pictures = [] if results else [*PICTURES, f"policies.folder={quote(str(folder))}"]
    return Request(
        folder=folder,
        results=results,
        out=Path(out).resolve(),
        boxes="draw" in taken,
        words=(*pictures, *rest, *short),
    )


def check_place(request: Request) -> None:
    """Finds out before the work whether its outcome can be written.

    Raises:
        UsageError: the folder holds something else, or what is to be scored.
        StorageError: nothing can be written there.
    """
    out = request.out
    if request.folder.resolve().is_relative_to(out):
        raise UsageError(f"out={out} holds the pictures themselves: name another folder")
    with writing(out):
        if out.exists() and not all((out / name).is_file() for name in MADE) and any(out.iterdir()):
            raise UsageError(
                f"out={out} holds other things than a result of harness.score, and is left alone: name another folder"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            return


def made(request: Request) -> Scored:
    """Scores the pictures, in the cache of stages."""
    chosen = command.choose(request.words)
    with job_environment(chosen.threads):
        folder = command.obtain(chosen.scores, chosen.store)
    samples = SampleFolder(chosen.store.folder(chosen.samples))
    drawn = samples.rows()
    found = [
        {
            **row,
            "prompt": drawn[row["index"]]["prompt"],
            "image": str((samples.folder / drawn[row["index"]]["image"]).resolve()),
        }
        for row in read_rows(folder / "scores.jsonl")
    ]
    return Scored(
        rows=found,
        metrics=json.loads((folder / "metric.json").read_text(encoding="utf-8")),
        origin={
            "samples": str(request.folder),
            "stage": folder.name,
            "benchmark": chosen.cell.config["benchmarks"],
        },
        official=folder / "official",
    )


def imported(request: Request, scratch: Path) -> Scored:
    """The scores that official programs have written elsewhere."""
    settings = command.settings(request.words)["benchmarks"]
    benchmark: Benchmark = make_component("benchmarks", settings)
    if benchmark.read_results is None:
        raise UsageError(
            "results=: this benchmark has no official programs whose files could be read. Give samples=FOLDER"
        )
    found = [
        {
            "index": index,
            **{"prompt_id": prompt.id, "category": prompt.category, "number": prompt.number, "seed": None},
            **{
                "value": judged.value,
                "unscored": judged.unscored,
                "evidence": dict(judged.evidence),
                "prompt": prompt.text,
                "image": None,
            },
        }
        for index, (prompt, judged) in enumerate(benchmark.read_results(request.folder))
    ]
    described = describe(benchmark, found, labels={}, notes=[])
    benchmark.write_results(scratch / "official", found)
    return Scored(
        rows=found,
        metrics={category: {**metric, "labels": [IMPORTED]} for category, metric in described.items()},
        origin={"results": str(request.folder), "benchmark": settings},
        official=scratch / "official",
    )


def write(scored: Scored, summaries: Sequence[Summary], request: Request) -> None:
    """Writes the folder beside its place, then puts it there: no reader meets a part of it."""
    new, old = (request.out.with_name(f".{request.out.name}.{age}") for age in ("new", "old"))
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)  # by a kill
    new.mkdir()
    lines = "".join(
        f"{json.dumps(row)}\n" for row in scored.rows
    )  # in ASCII: a picture's name need not be text
    (new / "scores.jsonl").write_text(lines, encoding="ascii")
    shown = table(summaries)
    (new / "summary.csv").write_text(shown.csv(), encoding="utf-8")
    (new / "summary.md").write_text("\n".join(_page(shown.markdown(), remarks(summaries))), encoding="utf-8")
    facts = {**scored.origin, "categories": {one.category: asdict(one) for one in summaries}}
    (new / "summary.json").write_text(json.dumps(facts, indent=1), encoding="ascii")
    if scored.official.is_dir():
        shutil.copytree(scored.official, new / "official")
    if request.boxes:
        draw_boxes(scored.rows, new / "boxes")
    if request.out.exists():
        request.out.rename(old)
    new.rename(request.out)
    shutil.rmtree(old, ignore_errors=True)


def _page(shown: str, lines: Iterable[str]) -> list[str]:
    return ["# Scores", "", ABOUT, "", shown, *(f"- {markdown(line)}" for line in lines), ""]


def draw_boxes(found: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Draws the boxes of the evidence over each image that has some, as `folder/INDEX.png`."""
    folder.mkdir()
    for row in found:
        if boxes := row["evidence"].get("boxes"):
            objects = tuple(
                PlannedObject(
                    name=f"{box['label']} {box['score']:.2f}",
                    box=_on_canvas(box["box"], row["evidence"]["frame"]),
                )
                for box in boxes
            )
            with suppress(ValueError):  # a picture that was taken away meanwhile
                image = read_picture(Path(row["image"])).convert("RGB")
                draw_overlay(image, Chain(text="", objects=objects, bare_text="")).save(
                    folder / f"{row['index']:05d}.png"
                )


def _on_canvas(box: Sequence[float], frame: Sequence[int]) -> Box:
    """A box in pixels of a frame, on 0..1000."""
    x1, y1, x2, y2 = (
        round(min(max(value * CANVAS / size, 0), CANVAS))
        for value, size in zip(box, [*frame, *frame], strict=True)
    )
    return Box(x1, y1, x2, y2)


def show(summaries: Sequence[Summary], request: Request) -> None:
    """Prints the table, what is to be said of it, and where things lie."""
    shown, console = table(summaries), Console(soft_wrap=True)
    cells = [[cell.text for cell in row] for row in shown.rows]
    if console.is_terminal:
        grid = Grid(title=escape(request.folder.name), title_justify="left")
        for name in shown.header:
            grid.add_column(name, justify="left" if name in ("category", "metric", "mirrored") else "right")
        for row in cells:
            grid.add_row(*map(escape, row))
        console.print(grid)
    else:
        widths = [max(map(len, column)) for column in zip(shown.header, *cells, strict=True)]
        for row in [list(shown.header), *cells]:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for line in [ABOUT, *remarks(summaries)]:
        print(line)
    for path in sorted(request.out.iterdir()):
        print(f"  {path.name:<14} {path}")


if __name__ == "__main__":
    sys.exit(main())
