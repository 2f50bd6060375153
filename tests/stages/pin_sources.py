"""Writes `pinned_sources.txt`: the files that count in the keys of the shipped studies, and in which stages.

`python tests/stages/pin_sources.py` renews it. After an edit of a file everybody makes the stages of its
line from scratch, so look at the difference before you commit it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
PINS = Path(__file__).with_name("pinned_sources.txt")
COMMAND = "python tests/stages/pin_sources.py"
STUDIES = {  # name -> words of a command, which plan one cell; {folder} holds prompts and images of our own
    "shapes": ["ablations=reward_components", "preset=smoke", "arm=full"],
    "judges": ["ablations=judge_reliability", "preset=smoke", "arm=exact"],
    "paper": [
        "ablations=reward_components",
        "preset=paper_1b",
        "arm=full",
        "data.sources.lahr.shards={folder}/got.json",
        "data.sources.lahr.images={folder}/pictures",
    ],
    "pipeline": ["benchmarks=t2i_compbench", "policies=sdxl", "trainers=frozen"],
    "images": [
        "benchmarks=t2i_compbench",
        "policies=images",
        "trainers=frozen",
        "policies.folder={folder}/pictures",
    ],
}
GENEVAL = ["benchmarks=geneval", "policies=sdxl", "trainers=frozen"]


def collect() -> dict[str, list[str]]:
    """File -> the stages (`STUDY STAGE`) in whose keys it counts now."""
    with tempfile.TemporaryDirectory() as folder:
        _write_prompts(Path(folder))
        with mock.patch.dict(os.environ, {"T2I_COMPBENCH_DIR": folder}):
            roots = dict(_roots(Path(folder)))
    from harness.stages import sources

    stages: dict[str, list[str]] = {}
    for stage in sorted(roots):
        for file in sources.digests(roots[stage]):
            stages.setdefault(file, []).append(stage)
    return stages


def lines() -> list[str]:
    """The lines of the file, one for each source file."""
    return [f"{file}: {', '.join(stages)}" for file, stages in sorted(collect().items())]


def _write_prompts(folder: Path) -> None:
    """Prompts, images and GoT data of our own, where planning looks for published ones."""
    from mini_compbench import STEMS, write_pictures, write_prompts

    write_prompts(folder, val=1, train=70)
    prompts = [(folder / f"{stem}_val.txt").read_text(encoding="utf-8") for stem in STEMS]
    write_pictures(folder / "pictures", prompts, each=10)
    (folder / "got.json").write_text("[]", encoding="utf-8")


def _roots(folder: Path) -> Iterable[tuple[str, list[str]]]:
    """Each stage (`STUDY STAGE`) with the dotted paths of its program and of every `_target_`."""
    from harness import command
    from harness.stages import sources

    for name, words in STUDIES.items():
        placed = [word.format(folder=folder) for word in words]
        for stage in command.choose(placed).cell.stages:
            yield f"{name} {stage.name}", [stage.program, *sources.targets(stage.settings)]
    settings = command.settings(
        GENEVAL
    )  # its prompts must be the published ones, so that it cannot be planned here
    yield "geneval scores", ["harness.evaluation.score.score", *sources.targets(settings["benchmarks"])]


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "mini")]
    PINS.write_text("\n".join([*lines(), ""]), encoding="utf-8")
    print(f"wrote {PINS}")
