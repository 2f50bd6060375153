"""The prompts of T2I-CompBench as splits, read from the official files. The project holds no copy of
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any

from benchmarks.t2i_compbench.annotations import read_annotations
from benchmarks.t2i_compbench.files import GET, OTHERS, STEMS, prompt_file, read_captions, read_prompts
from harness.settings import whole_number
from harness.types import Prompt


class Prompts:
    """Splits of the official files.

    val is X_val.txt, in file order and with repeated prompts, as published scores are made on. dev is
    taken out of X_train.txt: of its distinct prompts, `dev_per_category` that lie evenly over the file.
    train is the rest of X_train.txt, and the caption lists. A val prompt has the id `color/0012` (its
    line, from 0), one of the train file `color/train/0012`.

    Args:
        root: the folder of the official prompt files.
        categories: those of the study, in the order of its table.
        color_val: the file that holds the val prompts of color.
        dev_per_category: train prompts held out for tuning; 0 for none.
        n_prompts: only the first so many prompts of each category and split; None for all.
        captions: text files with one caption a line, which join the train prompts with a category of
            their own (the file's name). How long they are decides how often GRPO sees them.
        annotations: T2I-R1's file, whose nouns and attributes become the facts of the prompts it holds;
            None for no facts.

    Raises:
        ValueError: files are missing, or a setting is none of those allowed.
    """

    def __init__(
        self,
        *,
        root: Path,
        categories: Sequence[str],
        color_val: Path,
        dev_per_category: int,
        n_prompts: int | None,
        captions: Sequence[str],
        annotations: str | None,
    ) -> None:
        whole_number("benchmarks.dev_per_category", dev_per_category, least=0)
        if n_prompts is not None:
            whole_number("benchmarks.n_prompts", n_prompts)
        if annotations is not None and not Path(annotations).is_file():
            raise ValueError(
                f"benchmarks.annotations={annotations}: there is no such file. Give "
                "data/geneval_and_t2i_data_final.json of T2I-R1"
            )
        self._root, self._categories, self._color_val = root, categories, color_val
        self._dev_per_category, self._n_prompts = dev_per_category, n_prompts
        self._captions = _lists(captions)
        self._annotations = annotations

    def split(self, name: str) -> list[Prompt]:
        """The prompts of a split, category by category.

        Raises:
            ValueError: there is no such split, or a file cannot be read as prompts.
        """
        if name == "val":
            return self._first(map(self.val, self._categories))
        if name == "dev":
            return self._first(self._train_file(category, dev=True) for category in self._categories)
        if name == "train":
            official = [self._train_file(category, dev=False) for category in self._categories]
            return self._first([*official, *map(self._caption_list, self._captions)])
        raise ValueError(f"T2I-CompBench has no split {name!r}; it has train, dev and val")

    def _first(self, lists: Iterable[list[Prompt]]) -> list[Prompt]:
        """The first `n_prompts` of each list, list by list."""
        return list(chain.from_iterable(prompts[: self._n_prompts] for prompts in lists))

    def val(self, category: str) -> list[Prompt]:
        """All val prompts of a category in the order of their file, whatever `n_prompts`."""
        texts = enumerate(self._val_texts(category))
        return [
            Prompt(id=f"{category}/{line:04d}", text=text, category=category, facts=self._facts(text))
            for line, text in texts
        ]

    def places(self, category: str) -> dict[str, int]:
        """Id of a val prompt -> its line, which is its number in official results."""
        return {prompt.id: line for line, prompt in enumerate(self.val(category))}

    def texts(self, category: str) -> frozenset[str]:
        """Every text of a category's files, whatever the settings leave out."""
        return frozenset(
            (*self._val_texts(category), *read_prompts(prompt_file(self._root, category, "train")))
        )

    def _val_texts(self, category: str) -> list[str]:
        return read_prompts(
            self._color_val if category == "color" else prompt_file(self._root, category, "val")
        )

    def _train_file(self, category: str, *, dev: bool) -> list[Prompt]:
        """The train file's prompts that are held out (each once), or all others (as often as they stand
        there).
        """
        texts = read_prompts(prompt_file(self._root, category, "train"))
        distinct, count = list(dict.fromkeys(texts)), self._dev_per_category
        if count >= len(distinct):
            raise ValueError(
                f"benchmarks.dev_per_category={count} leaves no {category} prompt to train on: "
                f"{len(distinct)} are distinct"
            )
        held_out = {distinct[place * len(distinct) // count] for place in range(count)}
        prompts = [
            Prompt(id=f"{category}/train/{line:04d}", text=text, category=category, facts=self._facts(text))
            for line, text in enumerate(texts)
        ]
        if not dev:
            return [prompt for prompt in prompts if prompt.text not in held_out]
        return [prompts[texts.index(text)] for text in distinct if text in held_out]

    def _caption_list(self, name: str) -> list[Prompt]:
        texts = read_captions(self._captions[name])
        return [Prompt(id=f"{name}/{line:06d}", text=text, category=name) for line, text in enumerate(texts)]

    def _facts(self, text: str) -> Mapping[str, Any]:
        return self._known.get(text, {})

    @cached_property
    def _known(self) -> dict[str, Mapping[str, Any]]:
        """Prompt -> its facts, by the annotation file."""
        if self._annotations is None:
            return {}
        found = read_annotations(Path(self._annotations))
        return {
            text: {"nouns": list(one.nouns), "attributes": list(one.attributes)}
            for text, one in found.items()
        }


def known_categories(categories: Sequence[str]) -> tuple[str, ...]:
    """The categories, if each is one and is named once.

    Raises:
        ValueError: names those that there are.
    """
    known = (*STEMS, *OTHERS)
    unknown = [name for name in categories if name not in known]
    if unknown or not categories or len(set(categories)) < len(categories):
        raise ValueError(
            f"benchmarks.categories={list(categories)}: give one or more of {', '.join(known)}, each once"
        )
    return tuple(categories)


def has_prompts(folder: Path, category: str) -> bool:
    """Whether both of a category's prompt files are there."""
    return all(prompt_file(folder, category, part).is_file() for part in ("val", "train"))


def prompt_folder(root: str, categories: Sequence[str]) -> Path:
    """The folder, in which all prompt files of the categories lie.

    Raises:
        ValueError: they do not; says what to fetch or to set.
    """
    folder = Path(root)
    missing = []
    for name, part in product(categories, ("val", "train")):
        file = prompt_file(folder, name, part)
        if not file.is_file():
            missing.append(file.name)
    if missing:
        lacks = f"lacks {', '.join(missing)}" if folder.is_dir() else "is no folder"
        raise ValueError(f"T2I-CompBench's prompts are not here, benchmarks.root={root} {lacks}: {GET}")
    return folder


def _lists(captions: Sequence[str]) -> dict[str, Path]:
    """Name -> caption list."""
    if not isinstance(captions, list | tuple):
        raise ValueError(f"benchmarks.captions={captions!r}: give a list of text files, [FILE, ...]")
    files = {Path(path).stem: Path(path) for path in captions}
    if len(files) < len(captions):
        raise ValueError(
            f"benchmarks.captions={list(captions)}: two files have one name, which their prompts go "
            "by; rename one"
        )
    for path in files.values():
        if not path.is_file():
            raise ValueError(
                f"benchmarks.captions: {path} is no file: give text files with one caption a line"
            )
    return files
