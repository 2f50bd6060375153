"""Fetches T2I-CompBench's prompts, UniDet's label file and the prompts' noun phrases for `harness.fetch`.

The prompt files come from one commit and must have the SHA-256 sums of `sources.json`. The label file is
checked by its content (`labels`). Neither is part of the project. The environment variable
T2I_COMPBENCH_MIRROR names a server with the same paths as https://raw.githubusercontent.com.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from benchmarks.download import Published, Source, fill, has_sum
from benchmarks.t2i_compbench.files import GET, OLD_COLOR_VAL, STEMS, prompt_file, read_prompts, sums
from benchmarks.t2i_compbench.labels import read_labels
from harness.paths import user_path

MIRROR = "T2I_COMPBENCH_MIRROR"
PROMPTS = "Karine-Huang/T2I-CompBench/{commit}/examples/dataset/"
COMMIT, OLD_COMMIT = "1b7094991a57f3c22abdd4f6e8ba6c1a15517073", "7710d059c3391fe97fbf9e2ad3813ed0e7d87979"
LABELS = "unidet_labels.csv"
LABELS_PATH = (
    "xingyizhou/UniDet/94cd0e8612e558c1dff64d2928bc969856c9a802/datasets/label_spaces/learned_mAP+M.csv"
)
SETTINGS = Path(__file__).parent.with_suffix(".yaml")  # of the benchmark
BY_HAND = (
    "clone github.com/Karine-Huang/T2I-CompBench elsewhere, copy its folder examples/dataset here and set "
    "T2I_COMPBENCH_DIR to it"
)


def prompts(to: Path) -> None:
    """Fetch the prompt files and the label file into the folder `to`, except those that it holds already.

    Raises:
        ValueError: a file cannot be fetched or is not the published one; says what to do.
        OSError: a file cannot be written.
    """
    fill(to, list(_published()), Source(mirror=MIRROR, by_hand=BY_HAND))


def noun_phrases(to: Path) -> None:
    """Write the noun phrases of val and train prompts by spaCy's `en_core_web_sm` (`language.export`).

    The prompts are read from the place that the benchmark's settings name: T2I_COMPBENCH_DIR, or the cache.

    Raises:
        ValueError: the prompts or the model are missing; says how to get them.
    """
    from benchmarks.t2i_compbench.language.export import write_export

    root = user_path(OmegaConf.load(SETTINGS).root)
    files = []
    for category in STEMS:
        files += [prompt_file(root, category, part) for part in ("val", "train")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{root} lacks {', '.join(missing)}: {GET}")
    old = root / OLD_COLOR_VAL
    if old.is_file():
        files.append(old)
    texts: dict[str, None] = {}
    for file in files:
        texts.update(dict.fromkeys(read_prompts(file)))
    to.parent.mkdir(parents=True, exist_ok=True)
    write_export(texts, to)


def _published() -> Iterator[Published]:
    for name, digest in sums().items():
        commit = OLD_COMMIT if name == OLD_COLOR_VAL else COMMIT
        yield Published(
            name=name, path=PROMPTS.format(commit=commit) + Path(name).name, check=has_sum(digest)
        )
    yield Published(name=LABELS, path=LABELS_PATH, check=_holds_labels)


def _holds_labels(file: Path) -> None:
    read_labels(file)
