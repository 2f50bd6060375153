"""Stage program `pipeline`: fetches the pipeline and records its exact version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.protocols import Workspace

POINTER = "pipeline.json"
INSTALL = 'pip install "diffusers>=0.42"'


def fetch(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Writes `checkpoint/pipeline.json`: {pipeline, revision, folder}.

    `revision` is a commit of the hub, or None for a folder.

    Raises:
        ValueError: diffusers is not installed, or the pipeline cannot be fetched from the hub.
    """
    library = diffusers()
    pipeline, revision, folder = settings["pipeline"], None, settings["pipeline"]
    if not Path(pipeline).is_dir():
        try:
            folder = library.DiffusionPipeline.download(
                pipeline, revision=settings["revision"], use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the pipeline {pipeline} cannot be fetched: {error}\nCheck its name, set HF_TOKEN if its"
                " license must be accepted, or give a folder that holds it with policies.pipeline=FOLDER"
            ) from error
        revision = Path(folder).name  # the hub's cache names a snapshot after its commit
    checkpoint = work.folder / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    pointer = {"pipeline": pipeline, "revision": revision, "folder": str(folder)}
    (checkpoint / POINTER).write_text(json.dumps(pointer), encoding="utf-8")


def diffusers() -> Any:
    """The library, with its progress bars switched off.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ValueError(f"this policy needs the library diffusers ({error}): {INSTALL}") from error
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
