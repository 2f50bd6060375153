"""Frozen models of transformers: checked settings, loading at first use, advice if weights are missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import devices
from harness.paths import user_path
from harness.settings import choice, whole_number

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


class Pretrained:
    """A model in transformers' layout, by hub id or folder. Nothing is imported or read before `load`.

    Args:
        where: the configuration node of the expert, for messages (`clip.similarity`).
        model: hub id, or a folder in the layout of `save_pretrained`.
        device: a torch device, or `auto`: the first GPU if there is one, else the CPU.
        dtype: the dtype of the weights.
        setting: the name of the setting for `model` in that node.

    Raises:
        ValueError: a setting is none of those.
    """

    def __init__(self, *, where: str, model: str, device: str, dtype: str, setting: str = "model") -> None:
        if not isinstance(model, str) or not model:
            raise ValueError(f"{where}.{setting}={model!r}: give a hub id or a folder")
        if model.startswith((".", "~", "/")) and not user_path(model).exists():
            raise ValueError(f"{where}.{setting}={model}: there is no such folder")
        if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", device):
            raise ValueError(f"{where}.serving.device={device}: allowed are auto, cpu, mps, cuda and cuda:N")
        choice(f"{where}.dtype", dtype, DTYPES)
        self.model, self._setting = str(user_path(model)), f"{where}.{setting}"
        self._where, self._device, self._dtype = where, device, dtype

    def device(self) -> torch.device:
        """The device of the setting.

        Raises:
            ValueError: it is a CUDA device that torch does not see.
        """
        import torch

        if self._device == "auto":
            return torch.device(devices.automatic())
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = torch.device(self._device)
        if device.type == "cuda" and (device.index or 0) >= count:
            raise ValueError(
                f"{self._where}.serving.device={self._device}: torch {torch.__version__} sees {count} CUDA"
                " devices here. Give auto or cpu, or set CUDA_VISIBLE_DEVICES"
            )
        return device

    def dtype(self) -> torch.dtype:
        import torch

        return getattr(torch, self._dtype)

    def load(self, kind: Any, *, amend: Callable[[Any], None] | None = None) -> Any:
        """The model of class `kind`, frozen, on its device.

        Args:
            kind: a class of transformers.
            amend: corrects mistakes in the model's configuration before the model is built.

        Raises:
            ValueError: there are no weights, or they belong to another model.
        """
        from transformers import AutoConfig

        config = self._from(AutoConfig, kind.__name__)
        theirs, ours = config.model_type, kind.config_class.model_type
        if theirs != ours:
            raise ValueError(
                f"{self._setting}={self.model} is of type {theirs}, and a {kind.__name__} is wanted ({ours})"
            )
        if amend:
            amend(config)
        model, info = self._from(
            kind, kind.__name__, config=config, dtype=self.dtype(), output_loading_info=True
        )
        if missing := sorted(info["missing_keys"]):
            raise ValueError(
                f"{self._setting}={self.model} is no whole {kind.__name__}: {len(missing)} of its weights are"
                f" not there, such as {', '.join(missing[:3])}"
            )
        return freeze(model, self.device())

    def processor(self, kind: Any, *, vocabulary: int | None = None, **options: Any) -> Any:
        """The model's processor or tokenizer, an object of class `kind`.

        `vocabulary` is the expected number of tokens: some tokenizers load empty if their files are missing.

        Raises:
            ValueError: its files are missing or belong to another model.
        """
        processor = self._from(kind, kind.__name__, **options)
        if vocabulary is None:
            return processor
        tokens = len(getattr(processor, "tokenizer", processor))
        if tokens != vocabulary:
            raise ValueError(
                f"{self._setting}={self.model}: the tokenizer there has {tokens} tokens where the model has"
                f" {vocabulary}: the files of the tokenizer are missing, or belong to another model"
            )
        return processor

    def missing(self) -> list[str]:
        """A message if the model is neither a local folder nor in the hub's cache. Fetches nothing."""
        from huggingface_hub import constants

        snapshots = Path(constants.HF_HUB_CACHE, f"models--{self.model.replace('/', '--')}", "snapshots")
        if Path(self.model).exists() or any(snapshots.glob("*")):
            return []
        return [
            f"{self._setting}={self.model} is not in the hub's cache: it is fetched when first needed."
            f" {self.advice()}"
        ]

    def _from(self, kind: Any, wanted: str, **options: Any) -> Any:
        try:
            return kind.from_pretrained(self.model, **options)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{self._setting}={self.model}: no {wanted} could be loaded from there"
                f" ({first_line(error)}). {self.advice()}"
            ) from error

    def advice(self) -> str:
        """How to get the files."""
        if Path(self.model).is_dir():
            return (
                "It must be a whole folder in transformers' layout: config, weights, and the files of"
                " tokenizer and image processor"
            )
        return (
            f"Without a network here, fetch it elsewhere (hf download {self.model} --local-dir FOLDER), copy"
            f" the folder, and give {self._setting}=FOLDER"
        )


def freeze(model: Any, device: torch.device) -> Any:
    return model.requires_grad_(False).eval().to(device)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def read_serving(where: str, serving: Mapping[str, Any]) -> tuple[str, int]:
    """`device` and `batch_size` of an expert's node `serving`, which changes no answer.

    Raises:
        ValueError: it has other entries, or the size is none.
    """
    if set(serving) != {"device", "batch_size"}:
        raise ValueError(
            f"{where}.serving has {', '.join(sorted(serving)) or 'nothing'}: it takes device and batch_size"
        )
    return serving["device"], whole_number(f"{where}.serving.batch_size", serving["batch_size"])


def blocks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def by_halves(process: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """The results of `process` for all items, halved as often as the GPU's memory requires.

    Raises:
        torch.OutOfMemoryError: the memory does not hold one item.
    """
    import torch

    try:
        return process(items)
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return [*by_halves(process, items[:middle]), *by_halves(process, items[middle:])]
