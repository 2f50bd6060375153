"""Stage programs `checkpoint`: links to the files of a local folder, or to files fetched from the hub.

Weights are not copied into the stage: a 7B has 15 GB. Files from the hub stay in the cache of
huggingface_hub (HF_HOME).
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
    """Fills `checkpoint/` with links to the local files in `settings["files"]` (name: path)."""
    _link(work, {name: Path(path) for name, path in settings["files"].items()})


def download(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Fetches a repository's checkpoint, links it in `checkpoint/` and writes its commit to `source.json`.

    Raises:
        ValueError: it cannot be fetched, or is no Janus checkpoint. The message says why and what to do.
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
    for leftover in target.iterdir():  # from an attempt that was killed
        leftover.unlink()
    for name, file in files.items():
        (target / name).symlink_to(file.absolute())


def _fetch(repository: str, revision: str, work: Workspace) -> Path:
    """The folder of the revision in the cache of huggingface_hub, with every required file."""
    try:
        files = snapshot_download(repository, revision=revision, dry_run=True)
    except DryRunError:  # the hub cannot be reached: use the files that were fetched earlier
        patterns = [folders.CONFIG, folders.TOKENIZER]
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    listed = {file.filename: file for file in files}
    names = folders.needed(listed)
    if folders.CONFIG not in names:
        raise ValueError(f"{repository} has no {folders.CONFIG}: {folders.REMEDY}")
    sizes = {name: listed[name].file_size or 0 for name in names}
    done, total = 0, sum(sizes.values()) // MB
    for name in names:

        def report(count: int, before: int = done) -> None:
            work.progress((before + count) // MB, total)

        bar = _bar(report)
        file = hf_hub_download(repository, name, revision=revision, tqdm_class=bar)
        done += sizes[name]
        work.progress(done // MB, total)
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
    """Replaces the errors of huggingface_hub by advice. Fetched files are kept, so a new run resumes."""
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
            f"{setting}: the hub cannot be reached (or HF_HUB_OFFLINE is set) and the model was not fetched"
            f" before: fetch it where there is a network with `hf download {repository}`, into the same"
            " HF_HOME or with --local-dir, and give that folder"
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(
            f"{setting} cannot be fetched ({error}): run the same command again to resume the download"
        ) from error
