"""`python -m harness.generate "prompt=a red circle on the left of a blue square"`: plans and draws one prompt.

It uses the policy that a cell of a study would be evaluated with, and makes that first where it is missing.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import command
from harness.chain import draw_overlay
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.launch.cluster import job_environment
from harness.samples import SampleFolder
from harness.seeds import derive, of_batch
from harness.stages import locks
from harness.stages.store import StorageError
from harness.types import Prompt, Sample, Sampling, Stage

USAGE = """\
Plans and draws a prompt: the image, the chain, and the plan drawn over the image.

  python -m harness.generate "prompt=a red circle on the left of a blue square"

prompt=TEXT   any text, taken as it is
n=1           how many samples; the same command draws the same ones again
out=generated the folder for images/, chains/, plans/ and samples.jsonl; later samples are added to earlier ones
KEY=VALUE     as in a sweep: policies=, rewards=, seed=0, ... A policy that was not trained yet is trained first.
              trainers=sft draws with the model before GRPO; ablations=NAME arms=ARM with that arm's
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    prompt: Prompt
    count: int
    out: Path


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(generate, sys.argv[1:] if argv is None else argv, USAGE)


def generate(words: list[str]) -> None:
    """Reads the words, obtains the checkpoint, draws, writes, and prints what was drawn and where it lies."""
    taken, rest = command.take(words, ("prompt", "n", "out"))
    request = read_request(taken)
    chosen = command.choose(rest)
    trained = chosen.trained
    with job_environment(chosen.threads):
        with writing(request.out):
            request.out.mkdir(parents=True, exist_ok=True)
        checkpoint = command.obtain(trained, chosen.store) / "checkpoint"
        for index, sample in enumerate(draw(request, chosen.samples, checkpoint), start=1):
            with writing(request.out):
                paths = write(sample, request.out)
            show(f"{index}/{request.count}", sample, paths)


def read_request(taken: dict[str, str]) -> Request:
    """What is to be drawn.

    Raises:
        UsageError: no prompt, an empty or unreadable one, or a count below 1.
    """
    text, count, out = taken.get("prompt"), taken.get("n", "1"), taken.get("out", "generated")
    if text is None or not text.strip():
        problem = "no prompt is given" if text is None else f"the prompt is empty: {text!r}"
        raise UsageError(
            f'{problem}. Write it with quotes around the whole: "prompt=a red circle on the left of a blue square"'
        )
    if any(unicodedata.category(char) in ("Cc", "Cs") and not char.isspace() for char in text):
        raise UsageError(
            f"the prompt holds characters that are no text: {text!r}. Give it in UTF-8 and without control characters"
        )
    if not count.isascii() or not count.isdecimal() or int(count) < 1:
        raise UsageError(f"n={count}: give a whole number from 1")
    if not out:
        raise UsageError("out= is empty: give a folder")
    return Request(
        prompt=Prompt(id="prompt", text=text, category="generated"), count=int(count), out=Path(out)
    )


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Says of an error within the block which folder could not be written."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or out}: {error.strerror}. Free some space, or name another folder with out=FOLDER"
        ) from error


def draw(request: Request, samples: Stage, checkpoint: Path) -> Iterator[Sample]:
    """The samples, batch by batch, under the settings of the stage that draws a benchmark's prompts."""
    evaluation, seed = samples.settings["evaluation"], samples.settings["seed"]
    sampling = Sampling(**evaluation["rollout"])
    policy = make(samples.settings["policy"]).load(checkpoint)
    for start in range(0, request.count, evaluation["batch_size"]):
        indices = range(start, min(start + evaluation["batch_size"], request.count))
        seeds = of_batch((derive(seed, "generate", index) for index in indices), sampling.random)
        yield from policy.rollout([request.prompt] * len(indices), seeds, sampling)


def write(sample: Sample, out: Path) -> list[Path]:
    """Adds a sample to the folder, its row last; returns image, overlay and chain."""
    with locks.wait_for(out / ".lock", lambda owner: None):
        folder = SampleFolder(out)
        index = len(folder.rows())
        folder.keep(index)
        image, overlay, chain = (
            out / f"{kind}/{index:05d}.{end}"
            for kind, end in (("images", "png"), ("plans", "png"), ("chains", "txt"))
        )
        for path in (overlay, chain):
            path.parent.mkdir(exist_ok=True)
        draw_overlay(sample.image, sample.chain).save(overlay)
        chain.write_text(sample.chain.text + "\n", encoding="utf-8")
        folder.append(index, [sample])
    return [image, overlay, chain]


def show(number: str, sample: Sample, paths: list[Path]) -> None:
    chain = "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in sample.chain.text
    )  # a sampled ESC moves no cursor
    print(f"{number}  {chain}")
    print(f"  faults  {'; '.join(sample.chain.faults) or 'none'}")
    for name, path in zip(("image", "plan", "chain"), paths, strict=True):
        print(f"  {name:<7} {path}")


if __name__ == "__main__":
    sys.exit(main())
