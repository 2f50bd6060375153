"""Checkpoint folders in transformers' layout: what `save_pretrained` writes, loaded with strict checks."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import JanusForConditionalGeneration


def load(folder: Path) -> JanusForConditionalGeneration:
    """The model of a checkpoint folder in evaluation mode, all weights present.

    Raises:
        ValueError: the folder is missing, is of another architecture, or lacks weights.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: give a folder written by save_pretrained for Janus, or delete a damaged one")
    try:
        model, report = JanusForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} cannot be read as a Janus checkpoint: {error}") from error
    missing = sorted(report["missing_keys"]) + [str(key) for key in report.get("mismatched_keys", ())]
    if missing:
        raise ValueError(
            f"{folder} is not a whole Janus checkpoint: {len(missing)} weights are missing or of another shape, first {missing[0]}"
        )
    return model.eval()


def save(model: JanusForConditionalGeneration, folder: Path) -> None:
    """Writes config and safetensors; the caller adds the tokenizer."""
    model.save_pretrained(folder, safe_serialization=True)
