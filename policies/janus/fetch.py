"""Stage programs `checkpoint`: the starting checkpoint as links to a local folder, or to files fetched from the hub.

Weights are not copied into the stage: a 7B has 15 GB. Files from the hub lie where huggingface_hub keeps them (HF_HOME).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from policies.janus import folder as folders

if TYPE_CHECKING:
    from harness.protocols import Workspace

MB = 2**20


def link(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Makes `checkpoint/` of the local files in `settings["files"]` (name: path)."""
    _link(work, {name: Path(path) for name, path in settings["files"].items()})


def download(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Fetches a repository's checkpoint, makes `checkpoint/` of it and notes its commit in `source.json`.

    Raises:
        ValueError: it cannot be had, or is no Janus checkpoint; says why and what to do.
    """
    repository, revision = settings["repository"], settings["revision"]
    with _advice(repository, revision):
        folder = _fetch(repository, revision, work)
    _link(work, {file.name: file for file in folders.read(folder).files})
    source = {"repository": repository, "revision": revision, "commit": folder.name}
    (work.folder / "source.json").write_text(json.dumps(source, indent=1), encoding="utf-8")


def _link(work: Workspace, files: dict[str, Path]) -> None:
    target = work.folder / "checkpoint"
    target.mkdir(exist_ok=True)
    for place in target.iterdir():  # of an attempt that was killed
        place.unlink()
    for name, file in files.items():
        (target / name).symlink_to(file.absolute())


def _fetch(repository: str, revision: str, work: Workspace) -> Path:
    """The folder of the revision in the cache of huggingface_hub, with every file that is needed."""
    try:
        listed = {
            file.filename: file for file in snapshot_download(repository, revision=revision, dry_run=True)
        }
    except DryRunError:  # the hub cannot be asked: what was fetched earlier will do
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=[folders.CONFIG, folders.TOKENIZER]
            )
        )
    names = folders.needed(listed)
    if folders.CONFIG not in names:
        raise ValueError(f"{repository} has no {folders.CONFIG}: {folders.REMEDY}")
    sizes = {name: listed[name].file_size or 0 for name in names}
    done = 0
    for name in names:

        def report(count: int, before: int = done) -> None:
            work.progress((before + count) // MB, sum(sizes.values()) // MB)

        bar = _bar(report)
        file = hf_hub_download(repository, name, revision=revision, tqdm_class=bar)
        done += sizes[name]
        work.progress(done // MB, sum(sizes.values()) // MB)
    return Path(file).parent


def _bar(report: Callable[[int], None]) -> type[tqdm]:
    """A progress bar that reports the bytes of its file instead of drawing them."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self._bytes = options.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            self._bytes += int(n or 0)
            report(self._bytes)

    return Bar


@contextmanager
def _advice(repository: str, revision: str) -> Iterator[None]:
    """Turns what huggingface_hub says into what to do; fetched files are kept, so running again goes on."""
    setting = f"policies.checkpoint={repository}"
    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{setting} is gated: accept its terms on its page, and set HF_TOKEN to a token of that account"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{setting}: there is no such folder here, and the hub has no such model that may be read:"
            " check the name, or set HF_TOKEN where it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"policies.revision={revision}: {repository} has no such branch, tag or commit"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{setting}: the hub cannot be reached (or HF_HUB_OFFLINE is set) and the model was not fetched before: fetch it where there"
            f" is a network with `hf download {repository}`, into the same HF_HOME or with --local-dir, and give that folder"
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(
            f"{setting} cannot be fetched ({error}): run the same command again, it goes on where it stopped"
        ) from error
