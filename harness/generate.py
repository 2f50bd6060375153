"""`python -m harness.generate "prompt=a red circle on the left of a blue square"`: draws one prompt.

Uses the policy that a cell of a study is evaluated with, and trains it first where it is missing.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness import command
from harness.chain import BOX_END, BOX_START, END, OBJ_END, OBJ_START, draw_overlay, parse
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.evaluation.load import load_to_draw
from harness.files import read_user_text
from harness.launch.board import line
from harness.launch.environment import job_environment
from harness.paths import user_path
from harness.samples import SampleFolder
from harness.seeds import derive, of_batch
from harness.stages import locks
from harness.stages.status import Status
from harness.stages.store import StorageError
from harness.types import CANVAS, Drawing, Prompt, Sample, Sampling, Stage

REWRITE_EVERY_S, LINE_EVERY_S = 0.5, 20.0  # the progress: on a terminal, and elsewhere
CLEAR = "\r\x1b[K"  # the line of a terminal
EXAMPLE = '"prompt=a red circle on the left of a blue square"'
USAGE = """\
Draws a prompt and writes each image, its chain, and the boxes of the chain drawn over the image.

  python -m harness.generate "prompt=a red circle on the left of a blue square"

prompt=TEXT    any text, used as it is
plan=FILE|TEXT the chain to draw from, instead of one that the policy writes: a file of chains/ that you have
               edited, or the text itself
n=1            number of samples; the same command draws the same samples again
out=generated  folder of images/, chains/, plans/ and samples.jsonl; new samples are added to it
KEY=VALUE      as in a sweep: policies=, rewards=, seed=0, ...
               trainers=sft draws with the model before GRPO, ablations=NAME arms=ARM with that arm's.
               A policy that is not trained yet is trained first.
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The prompt, the chain to draw from (None: the policy writes one), the count, and the folder."""

    prompt: Prompt
    chain: str | None
    count: int
    out: Path


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(generate, sys.argv[1:] if argv is None else argv, USAGE)


def generate(words: list[str]) -> None:
    """Obtains the checkpoint, draws the samples, writes them, and prints each chain and its files.

    Raises:
        UsageError: the words cannot be read; nothing was made.
        StorageError: a folder cannot be written.
    """
    taken, rest = command.take(words, ("prompt", "plan", "n", "out"))
    request = read_request(taken)
    chosen = command.choose(rest)
    trained = chosen.trained
    if request.chain is not None and not make(chosen.samples.settings["policy"]).writes_chains:
        raise UsageError(
            "plan= needs a policy that draws from a given chain: choose one, such as policies=tiny_janus"
        )
    with job_environment(chosen.threads):
        with writing(request.out):
            request.out.mkdir(parents=True, exist_ok=True)
        checkpoint = command.obtain(trained, chosen.store) / "checkpoint"
        batch = chosen.samples.settings["evaluation"]["batch_size"]
        with Progress(request.count, batch) as progress:
            drawn = draw(request, chosen.samples, checkpoint, progress.step)
            for index, sample in enumerate(drawn, start=1):
                with writing(request.out):
                    paths = write(sample, request.out)
                with progress.counted(index):
                    show(f"{index}/{request.count}", sample, paths)


def read_request(taken: dict[str, str]) -> Request:
    """The request that the words `prompt=`, `n=` and `out=` make.

    Raises:
        UsageError: no prompt, an empty or unreadable one, or a count below 1.
    """
    text, count, out = taken.get("prompt"), taken.get("n", "1"), taken.get("out", "generated")
    text = text and text.removeprefix("\ufeff")  # a byte order mark, of "prompt=$(cat FILE)"
    if text is None or not text.strip():
        problem = "no prompt is given" if text is None else f"the prompt is empty: {text!r}"
        raise UsageError(f"{problem}. Write it with quotes around the whole: {EXAMPLE}")
    if any(unicodedata.category(char) in ("Cc", "Cs") and not char.isspace() for char in text):
        raise UsageError(
            f"the prompt holds characters that are no text: {text!r}. "
            "Give it in UTF-8 and without control characters"
        )
    if not count.isascii() or not count.isdecimal() or int(count) < 1:
        raise UsageError(f"n={count}: give a whole number from 1")
    if not out:
        raise UsageError("out= is empty: give a folder")
    return Request(
        prompt=Prompt(id="prompt", text=text, category="generated"),
        chain=read_chain(taken["plan"]) if "plan" in taken else None,
        count=int(count),
        out=user_path(out),
    )


def read_chain(given: str) -> str:
    """The chain in a file, or the text itself, ended by begin-of-image.

    Raises:
        UsageError: the file cannot be read, or the text plans no object or a box outside the canvas.
    """
    file = None
    with suppress(ValueError):  # a text that can be no path
        file = user_path(given)
    try:
        text = read_user_text(file) if file is not None and file.is_file() else given
    except ValueError as error:
        raise UsageError(f"plan={given}: {error}") from error
    text = text.strip().removesuffix(END)
    if END in text:
        raise UsageError(f"plan= holds {END} before its end: give one chain, which ends there")
    chain = parse(text + END)
    if not chain.objects:
        raise UsageError(
            f"plan={given[:60]!r} is no file and plans no object. Write each object as {OBJ_START}red"
            f" circle{OBJ_END} {BOX_START}(0,0),(500,500){BOX_END}"
        )
    outside = [fault for fault in chain.faults if "outside" in fault]
    if outside:
        raise UsageError(
            f"plan=: {'; '.join(outside)}. Boxes are (x1,y1),(x2,y2) with numbers from 0 to {CANVAS}"
        )
    return text + END


class Progress:
    """While its block runs, shows on stderr how many tokens and images are drawn.

    A large model takes minutes for an image. On a terminal one line is rewritten, elsewhere lines follow one
    another.

    Args:
        total: the images.
        batch: how many of them are drawn together.
    """

    def __init__(self, total: int, batch: int) -> None:
        self._total, self._batch, self._done = total, batch, 0
        self._part, self._step, self._last = "", 0, 0
        self._chain, self._steps = 0, 0  # steps of the last chain; steps in all
        self._began_s = time.monotonic()
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._rewrites = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._print, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def step(self, part: str, step: int, last: int) -> None:
        """Notes a step of the batch that is drawn, as `Policy.watch` reports it."""
        if not self._steps:
            self._began_s = time.monotonic()  # the model is loaded
        self._part, self._step, self._last = part, step, last
        self._chain = step if part == "chain" else self._chain
        self._steps += 1

    @contextmanager
    def counted(self, done: int) -> Iterator[None]:
        """So many images are drawn; nothing is shown while the block prints something else."""
        with self._lock:
            self._done = done
            if self._rewrites:
                print(CLEAR, end="", file=sys.stderr, flush=True)
            yield

    def text(self) -> str:
        """What is drawn so far."""
        elapsed_s, left = time.monotonic() - self._began_s, self._left()
        eta_s = None if left is None else elapsed_s * left
        status = Status(state="running", step=self._done, total=self._total, eta_s=eta_s)
        tokens = f"  {self._part} token {self._step}/{self._last}" if self._part else ""
        return line("images", status, elapsed_s) + tokens

    def _left(self) -> float | None:
        """The work that is left, as a share of that done; None where it is not known."""
        if not self._steps:  # the policy reports none
            return self._total / self._done - 1 if self._done else None
        if self._part == "chain" and self._done == 0:
            return None
        batches = math.ceil((self._total - self._done) / self._batch)
        steps = self._last - self._step + (batches - 1) * (self._chain + self._last)
        return steps / self._steps

    def _print(self) -> None:
        while not self._ended.wait(REWRITE_EVERY_S if self._rewrites else LINE_EVERY_S):
            with self._lock:
                start, end = (CLEAR, "") if self._rewrites else ("", "\n")
                print(start + self.text(), end=end, file=sys.stderr, flush=True)
        if self._rewrites:
            print(CLEAR, end="", file=sys.stderr, flush=True)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns an OSError of the block into a StorageError that names the folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or out}: {error.strerror}. "
            "Free some space, or name another folder with out=FOLDER"
        ) from error


def draw(
    request: Request, samples: Stage, checkpoint: Path, on_step: Callable[[str, int, int], None]
) -> Iterator[Sample]:
    """The samples, batch by batch, with the settings of the stage that draws a benchmark's prompts."""
    evaluation, seed = samples.settings["evaluation"], samples.settings["seed"]
    sampling = Sampling(**evaluation["rollout"])
    policy = load_to_draw(samples.settings["policy"], checkpoint)
    policy.watch(on_step)
    for start in range(0, request.count, evaluation["batch_size"]):
        indices = range(start, min(start + evaluation["batch_size"], request.count))
        seeds = of_batch((derive(seed, "generate", index) for index in indices), sampling.random)
        if request.chain is None:
            yield from policy.rollout([request.prompt] * len(indices), seeds, sampling)
        else:
            drawing = Drawing(prompt=request.prompt, chain=request.chain)
            yield from policy.draw([drawing] * len(indices), seeds, sampling)


def write(sample: Sample, out: Path) -> list[Path]:
    """Adds a sample to the folder, its row last. Returns the paths of image, overlay and chain."""
    with locks.wait_for(out / ".lock", lambda owner: None):
        folder = SampleFolder(out)
        index = len(folder.rows())
        folder.keep(index)
        image = out / f"images/{index:05d}.png"
        overlay = out / f"plans/{index:05d}.png"
        chain = out / f"chains/{index:05d}.txt"
        for path in (overlay, chain):
            path.parent.mkdir(exist_ok=True)
        draw_overlay(sample.image, sample.chain).save(overlay)
        chain.write_text(sample.chain.text + "\n", encoding="utf-8")
        folder.append(index, [sample])
    return [image, overlay, chain]


def show(number: str, sample: Sample, paths: list[Path]) -> None:
    """Prints the chain of a sample, its faults and its files."""
    # a control character that the model sampled must not move the cursor
    printable = [char if char.isprintable() else ascii(char)[1:-1] for char in sample.chain.text]
    print(f"{number}  {''.join(printable)}")
    print(f"  faults  {'; '.join(sample.chain.faults) or 'none'}")
    for name, path in zip(("image", "plan", "chain"), paths, strict=True):
        print(f"  {name:<7} {path}")


if __name__ == "__main__":
    sys.exit(main())
