"""Stage program `pipeline`: the pipeline is on this machine, and its exact version is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.protocols import Workspace

POINTER = "pipeline.json"
INSTALL = 'pip install "diffusers>=0.42"'


def fetch(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Writes `checkpoint/pipeline.json`: {pipeline, revision, folder}; `revision` is a commit of the hub, or None for a folder.

    Raises:
        ValueError: diffusers is not installed, or the hub does not give the pipeline.
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
                f"the pipeline {pipeline} cannot be fetched: {error}\nCheck its name, set HF_TOKEN for one whose licence must be accepted, "
                "or give a folder that holds it with policies.pipeline=FOLDER"
            ) from error
        revision = Path(folder).name  # the hub's cache calls a snapshot by its commit
    checkpoint = work.folder / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / POINTER).write_text(
        json.dumps({"pipeline": pipeline, "revision": revision, "folder": str(folder)}), encoding="utf-8"
    )


def diffusers() -> Any:
    """The library, without the bars it draws while it loads.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ValueError(f"this policy needs the library diffusers ({error}): {INSTALL}") from error
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
