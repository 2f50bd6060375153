"""T2I-CompBench behind the harness's `Benchmark` protocol: its prompts; its scorers are not here yet."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from benchmarks.t2i_compbench.files import STEMS, prompt_file, read_captions, read_prompts
from harness.types import Prompt, Record, Sample, Score

SOURCE = "the folder examples/dataset of a checkout of github.com/Karine-Huang/T2I-CompBench"
UNSCORED = "the scorers of T2I-CompBench are not part of this version of the harness"


class T2ICompBench:
    """Prompts of the official files, never copied into the project.

    val is X_val.txt, in file order and with repeated prompts, as published scores are made on. dev is taken out of
    X_train.txt: of its distinct prompts, `dev_per_category` that lie evenly over the file. train is the rest of
    X_train.txt, and the caption lists. A val prompt has the id `color/0012` (its line, from 0), one of the train file
    `color/train/0012`.

    Args:
        root: the folder of the official prompt files; None is refused with the way to get them.
        categories: those of the study, in the order of its table.
        dev_per_category: train prompts held out for tuning; 0 for none.
        n_prompts: only the first so many prompts of each category and split; None for all.
        captions: text files with one caption a line, which join the train prompts with a category of their own
            (the file's name). How long they are decides how often GRPO sees them.
    """

    def __init__(
        self, *, root: str | None, categories: Sequence[str], dev_per_category: int, n_prompts: int | None, captions: Sequence[str]
    ) -> None:
        self.categories = _known(categories)
        for name, value, least in (("dev_per_category", dev_per_category, 0), ("n_prompts", n_prompts, 1)):
            if not (name == "n_prompts" and value is None) and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ValueError(f"benchmarks.{name}={value!r}: give a whole number from {least}")
        self._root = _folder(root, self.categories)
        self._captions = _lists(captions)
        self.external = (str(root), *captions)
        self._dev_per_category, self._n_prompts = dev_per_category, n_prompts
        _say_once(f"note: {UNSCORED}. A study on it keeps its samples and reports every score as unscored")

    def prompts(self, split: str) -> list[Prompt]:
        """The prompts of a split, category by category.

        Raises:
            ValueError: there is no such split, or a file cannot be read as prompts.
        """
        if split == "val":
            return [prompt for category in self.categories for prompt in self._val(category)[: self._n_prompts]]
        if split == "dev":
            return [prompt for category in self.categories for prompt in self._train_file(category, dev=True)[: self._n_prompts]]
        if split == "train":
            official = [prompt for category in self.categories for prompt in self._train_file(category, dev=False)[: self._n_prompts]]
            return [*official, *(prompt for name in self._captions for prompt in self._caption_list(name)[: self._n_prompts])]
        raise ValueError(f"T2I-CompBench has no split {split!r}; it has train, dev and val")

    def records(self, seed: int, count: int) -> Iterable[Record]:
        """There are none.

        Raises:
            ValueError: always; it says what SFT can train on.
        """
        raise ValueError(
            "T2I-CompBench holds prompts alone, no chains and pictures to imitate: train on GoT data with data=got, "
            "or leave SFT out with trainers=grpo or trainers=frozen"
        )

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [Score(value=None, unscored=UNSCORED) for _ in samples]

    def _val(self, category: str) -> list[Prompt]:
        texts = read_prompts(prompt_file(self._root, category, "val"))
        return [Prompt(id=f"{category}/{line:04d}", text=text, category=category) for line, text in enumerate(texts)]

    def _train_file(self, category: str, *, dev: bool) -> list[Prompt]:
        """The train file's prompts that are held out (each once), or all others (as often as they stand there)."""
        texts = read_prompts(prompt_file(self._root, category, "train"))
        distinct, count = list(dict.fromkeys(texts)), self._dev_per_category
        if count >= len(distinct):
            raise ValueError(f"benchmarks.dev_per_category={count} leaves no {category} prompt to train on: {len(distinct)} are distinct")
        held_out = {distinct[place * len(distinct) // count] for place in range(count)}
        prompts = [Prompt(id=f"{category}/train/{line:04d}", text=text, category=category) for line, text in enumerate(texts)]
        if not dev:
            return [prompt for prompt in prompts if prompt.text not in held_out]
        return [prompts[texts.index(text)] for text in distinct if text in held_out]

    def _caption_list(self, name: str) -> list[Prompt]:
        texts = read_captions(self._captions[name])
        return [Prompt(id=f"{name}/{line:06d}", text=text, category=name) for line, text in enumerate(texts)]


def _known(categories: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in categories if name not in STEMS]
    if unknown or not categories or len(set(categories)) < len(categories):
        raise ValueError(f"benchmarks.categories={list(categories)}: give one or more of {', '.join(STEMS)}, each once")
    return tuple(categories)


def _folder(root: str | None, categories: Sequence[str]) -> Path:
    """The folder, in which all files of the categories lie."""
    if not root:
        raise ValueError(f"T2I-CompBench's prompts are not here: set T2I_COMPBENCH_DIR, or benchmarks.root=FOLDER, to {SOURCE}")
    folder = Path(root)
    missing = [file.name for name in categories for part in ("val", "train") if not (file := prompt_file(folder, name, part)).is_file()]
    if missing:
        lacks = f"lacks {', '.join(missing)}" if folder.is_dir() else "is no folder"
        raise ValueError(f"benchmarks.root={root} {lacks}: set T2I_COMPBENCH_DIR, or benchmarks.root=FOLDER, to {SOURCE}")
    return folder


def _lists(captions: Sequence[str]) -> dict[str, Path]:
    """Name -> caption list."""
    if not isinstance(captions, list | tuple):
        raise ValueError(f"benchmarks.captions={captions!r}: give a list of text files, [FILE, ...]")
    files = {Path(path).stem: Path(path) for path in captions}
    if len(files) < len(captions):
        raise ValueError(f"benchmarks.captions={list(captions)}: two files have one name, which their prompts go by; rename one")
    for path in files.values():
        if not path.is_file():
            raise ValueError(f"benchmarks.captions: {path} is no file: give text files with one caption a line")
    return files


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)
