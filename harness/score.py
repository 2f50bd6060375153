"""`python -m harness.score benchmarks=NAME samples=FOLDER`: scores images that were made elsewhere."""

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

from harness import command, plugin_values
from harness.chain import draw_overlay
from harness.composition.arguments import UsageError, quote
from harness.evaluation.score import LEAST, describe
from harness.files import read_rows, write_rows, writing_folder
from harness.generate import writing
from harness.launch.environment import job_environment
from harness.paths import user_path
from harness.report.evidence import detected
from harness.report.summary import ABOUT, Summary, remarks, summarize, table
from harness.report.table import markdown
from harness.samples import SampleFolder, ScoreRow, read_image
from harness.study.roles import make_component
from harness.types import Chain

if TYPE_CHECKING:
    from harness.protocols import Benchmark

EXAMPLE = "python -m harness.score benchmarks=t2i_compbench samples=FOLDER"
USAGE = f"""\
Scores a folder of images by a benchmark's rules. Writes one row per image and the mean of every category.

  {EXAMPLE}

samples=FOLDER      a folder in one of these layouts:
                      FOLDER/samples/PROMPT_000000.png ...
                      FOLDER/CATEGORY/samples/PROMPT_000000.png ... for each category
                      FOLDER/00000/metadata.jsonl with FOLDER/00000/samples/00000.png ... (GenEval)
                      FOLDER/PROMPT/generated_image_0.jpg ... with FOLDER/PROMPT/reasoning_chain.txt (GoT-R1)
                      FOLDER/samples.jsonl, as harness.generate and every sweep write it
results=FOLDER      instead of samples=: files that the benchmark's official programs wrote
out=scored/NAME     folder of scores.jsonl, summary.md, .csv and .json, and official/; NAME is that of FOLDER
mode=MODE           short for benchmarks.scoring.mode=
allow_partial=true  short for policies.allow_partial=: scores a folder that lacks images; every table says so
check=mirror        short for evaluation.check=: tests whether the metric distinguishes left and right
draw=boxes          draws the judged boxes over the images, in boxes/
KEY=VALUE           as in a sweep: benchmarks.categories=[color,shape], resources.processes=8, ...

If it was stopped or killed, the same command resumes.
"""
SHORT = {
    "mode": "benchmarks.scoring.mode",
    "check": "evaluation.check",
    "allow_partial": "policies.allow_partial",
}
IMAGES = ("policies=images", "trainers=frozen")
RESULT_FILES = ("summary.json", "scores.jsonl")  # a folder that has them is an earlier result of this command
IMPORTED = "imported: scored by the official programs, elsewhere"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to score and where to write; `words` configure the cell or, with `results`, the benchmark."""

    folder: Path
    results: bool
    out: Path
    boxes: bool
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores: the rows of `scores.jsonl` with prompt and image path, `metric.json`, and the origin.

    `official` is the folder of files in the benchmark's own formats; it need not exist.
    """

    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    origin: Mapping[str, Any]
    official: Path


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(score, sys.argv[1:] if argv is None else argv, USAGE)


def score(words: list[str]) -> None:
    """Scores the images, writes the results, and prints the means and the paths.

    Raises:
        UsageError: the words cannot be read, or the folder cannot be scored as it is.
        StorageError: the results cannot be written.
        ValueError: no image could be scored.
    """
    request = read_request(words)
    check_place(request)
    with tempfile.TemporaryDirectory() as scratch:
        scored = imported(request, Path(scratch)) if request.results else made(request)
        summaries = summarize([ScoreRow.from_json(row) for row in scored.rows], scored.metrics)
        with writing(request.out):
            write(scored, summaries, request)
    show(summaries, request)
    if not any(summary.images for summary in summaries):
        raise ValueError("nothing could be scored, for the reasons above")


def read_request(words: Sequence[str]) -> Request:
    """The request that the words make.

    Raises:
        UsageError: neither or both of samples= and results=, or a value that is not allowed.
    """
    taken, rest = command.take(words, ("samples", "results", "out", "draw", *SHORT))
    given = [name for name in ("samples", "results") if taken.get(name)]
    if len(given) != 1:
        problem = "both samples= and results= are given: give one" if given else "no folder is given"
        raise UsageError(f"{problem}. For instance: {EXAMPLE}")
    folder, results = user_path(taken[given[0]]), given == ["results"]
    if not folder.is_dir():
        raise UsageError(f"{given[0]}={folder}: there is no such folder")
    if "draw" in taken and taken["draw"] != "boxes":
        raise UsageError(f"draw={taken['draw']}: allowed is draw=boxes")
    need_images = sorted({"draw", "check", "allow_partial"} & set(taken))
    if results and need_images:
        raise UsageError(
            f"{need_images[0]}= requires images, and results= has none: leave it out, or give samples=FOLDER"
        )
    out = taken.get("out", f"scored/{folder.resolve().name}")
    if not out:
        raise UsageError("out= is empty: give a folder")
    short = [f"{SHORT[name]}={text}" for name, text in taken.items() if name in SHORT]
    images = [] if results else [*IMAGES, f"policies.folder={quote(str(folder))}"]
    return Request(
        folder=folder,
        results=results,
        out=user_path(out).resolve(),
        boxes="draw" in taken,
        words=(*images, *rest, *short),
    )


def check_place(request: Request) -> None:
    """Checks, before anything is scored, that the results can be written.

    Raises:
        UsageError: the folder of the results holds something else, or the images.
        StorageError: nothing can be written there.
    """
    out = request.out
    if request.folder.resolve().is_relative_to(out):
        raise UsageError(f"out={out} holds the images themselves: name another folder")
    with writing(out):
        is_result = all((out / name).is_file() for name in RESULT_FILES)
        if out.exists() and not is_result and any(out.iterdir()):
            raise UsageError(
                f"out={out} holds other files than a result of harness.score and is left alone: "
                "name another folder"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            return


def made(request: Request) -> Scored:
    """Scores the images, as a stage of a cell."""
    chosen = command.choose(request.words)
    with job_environment(chosen.threads):
        folder = command.obtain(chosen.scores, chosen.store)
    samples = SampleFolder(chosen.store.folder(chosen.samples))
    sample_rows = samples.rows()
    rows = []
    for row in read_rows(folder / "scores.jsonl"):
        sample = sample_rows[row["index"]]
        image = (samples.folder / sample.image).resolve()
        rows.append({**row, "prompt": sample.prompt, "image": str(image)})
    return Scored(
        rows=rows,
        metrics=json.loads((folder / "metric.json").read_text(encoding="utf-8")),
        origin={
            "samples": str(request.folder),
            "stage": folder.name,
            "benchmark": chosen.cell.config["benchmarks"],
        },
        official=folder / "official",
    )


def imported(request: Request, scratch: Path) -> Scored:
    """The scores that the benchmark's official programs wrote elsewhere."""
    settings = command.settings(request.words)["benchmarks"]
    benchmark: Benchmark = make_component("benchmarks", settings)
    if benchmark.read_results is None:
        raise UsageError(
            "results=: this benchmark has no official programs whose files could be read. Give samples=FOLDER"
        )
    found = []
    who = f"benchmark {type(benchmark).__name__}: read_results"
    results = plugin_values.results(benchmark.read_results(request.folder), who, least=LEAST)
    for index, (prompt, judged) in enumerate(results):
        found.append(
            {
                "index": index,
                "prompt_id": prompt.id,
                "category": prompt.category,
                "number": prompt.number,
                "seed": None,
                "value": judged.value,
                "unscored": judged.unscored,
                "evidence": dict(judged.evidence),
                "prompt": prompt.text,
                "image": None,
            }
        )
    described = describe(benchmark, [ScoreRow.from_json(row) for row in found], labels={}, notes=[])
    benchmark.write_results(scratch / "official", found)
    return Scored(
        rows=found,
        metrics={category: {**metric, "labels": [IMPORTED]} for category, metric in described.items()},
        origin={"results": str(request.folder), "benchmark": settings},
        official=scratch / "official",
    )


def write(scored: Scored, summaries: Sequence[Summary], request: Request) -> None:
    """Writes all results to a folder beside `request.out`, then renames it: no reader sees a part."""
    with writing_folder(request.out) as new:
        write_rows(new / "scores.jsonl", scored.rows, ascii_only=True)  # an image's name need not be text
        shown = table(summaries)
        (new / "summary.csv").write_text(shown.csv(), encoding="utf-8")
        page = "\n".join(_page(shown.markdown(), remarks(summaries)))
        (new / "summary.md").write_text(page, encoding="utf-8")
        facts = {**scored.origin, "categories": {summary.category: asdict(summary) for summary in summaries}}
        (new / "summary.json").write_text(json.dumps(facts, indent=1), encoding="ascii")
        if scored.official.is_dir():
            shutil.copytree(scored.official, new / "official")
        if request.boxes:
            draw_boxes(scored.rows, new / "boxes")


def _page(shown: str, lines: Iterable[str]) -> list[str]:
    return ["# Scores", "", ABOUT, "", shown, *(f"- {markdown(line)}" for line in lines), ""]


def draw_boxes(rows: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Draws the boxes of the evidence over each image that has some, as `folder/INDEX.png`."""
    folder.mkdir()
    for row in rows:
        objects = detected(row["evidence"])
        if not objects:
            continue
        chain = Chain(text="", objects=objects, bare_text="")
        with suppress(ValueError):  # the image was removed after it was scored
            image = read_image(Path(row["image"])).convert("RGB")
            draw_overlay(image, chain).save(folder / f"{row['index']:05d}.png")


def show(summaries: Sequence[Summary], request: Request) -> None:
    """Prints the table, its remarks, and the paths of the results."""
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
            print("  ".join(map(str.ljust, row, widths)).rstrip())
    for line in [ABOUT, *remarks(summaries)]:
        print(line)
    for path in sorted(request.out.iterdir()):
        print(f"  {path.name:<14} {path}")


if __name__ == "__main__":
    sys.exit(main())
