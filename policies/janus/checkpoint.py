"""Checkpoint folders in transformers' layout: what `save_pretrained` writes, loaded with strict checks."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import JanusForConditionalGeneration

REMEDY = "give a folder that save_pretrained wrote for Janus; a damaged one must be made or fetched again"


def load(folder: Path) -> JanusForConditionalGeneration:
    """The model of a checkpoint folder in evaluation mode, all weights present.

    Raises:
        ValueError: the folder is missing, is of another architecture, or lacks weights.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: {REMEDY}")
    _check_architecture(folder / "config.json")
    try:
        model, report = JanusForConditionalGeneration.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are reported, by name
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder} cannot be read as a Janus checkpoint ({error}): {REMEDY}") from error
    missing = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if missing:
        raise ValueError(
            f"{folder} is not a whole Janus checkpoint: {len(missing)} weights are missing or of another shape,"
            f" first {missing[0]}: {REMEDY}"
        )
    return model.eval()


def _check_architecture(file: Path) -> None:
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is no model configuration ({error}): {REMEDY}") from error
    if found != "janus":
        raise ValueError(f"{file} is of model_type {found!r}, allowed is 'janus': {REMEDY}")


def save(model: JanusForConditionalGeneration, folder: Path) -> None:
    """Writes config and safetensors; the caller adds the tokenizer."""
    model.save_pretrained(folder, safe_serialization=True)
