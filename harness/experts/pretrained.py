"""What the frozen models of transformers share: checked settings, loading when first used, advice where there are no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.settings import choice, whole_number

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


class Pretrained:
    """A model in transformers' layout, by hub id or folder; nothing is imported or read before `load`.

    Args:
        where: the configuration node of the expert, for messages (`clip.similarity`).
        model: hub id, or a folder as `save_pretrained` writes it.
        device: a torch device, or `auto` for the first GPU where there is one.
        dtype: of the weights.
        setting: what `model` is called there.

    Raises:
        ValueError: a setting is none of those.
    """

    def __init__(self, *, where: str, model: str, device: str, dtype: str, setting: str = "model") -> None:
        if not isinstance(model, str) or not model:
            raise ValueError(f"{where}.{setting}={model!r}: give a hub id or a folder")
        if model.startswith((".", "~", "/")) and not Path(model).expanduser().exists():
            raise ValueError(f"{where}.{setting}={model}: there is no such folder")
        if device not in ("auto", "cpu", "mps") and device.partition(":")[0] != "cuda":
            raise ValueError(f"{where}.serving.device={device}: allowed are auto, cpu, mps, cuda and cuda:N")
        choice(f"{where}.dtype", dtype, DTYPES)
        self.model, self._setting, self._device, self._dtype = (
            str(Path(model).expanduser()),
            f"{where}.{setting}",
            device,
            dtype,
        )

    def device(self) -> torch.device:
        import torch

        return torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device
        )

    def dtype(self) -> torch.dtype:
        import torch

        return getattr(torch, self._dtype)

    def load(self, kind: Any, *, amend: Callable[[Any], None] | None = None) -> Any:
        """The model of class `kind`, frozen, on its device.

        Args:
            kind: a class of transformers.
            amend: puts right what the configuration there says wrong, before the model is made.

        Raises:
            ValueError: there are no weights, or they are another model's.
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
                f"{self._setting}={self.model} is no whole {kind.__name__}: {len(missing)} of its weights are not there, "
                f"such as {', '.join(missing[:3])}"
            )
        return freeze(model, self.device())

    def processor(self, kind: Any, *, vocabulary: int | None = None, **options: Any) -> Any:
        """The model's processor or tokenizer of class `kind`; with `vocabulary`, one that knows just so many tokens.

        Raises:
            ValueError: its files are not there, or are another model's. Without them some tokenizers load empty.
        """
        found = self._from(kind, kind.__name__, **options)
        if vocabulary is not None and (known := len(getattr(found, "tokenizer", found))) != vocabulary:
            raise ValueError(
                f"{self._setting}={self.model}: the tokenizer there has {known} tokens where the model has {vocabulary}: the files of the "
                "tokenizer are missing, or another model's"
            )
        return found

    def missing(self) -> list[str]:
        """That the model is neither a folder here nor in the hub's cache; nothing is fetched."""
        from huggingface_hub import constants

        snapshots = Path(constants.HF_HUB_CACHE, f"models--{self.model.replace('/', '--')}", "snapshots")
        if Path(self.model).exists() or any(snapshots.glob("*")):
            return []
        return [
            f"{self._setting}={self.model} is not in the hub's cache: it is fetched when first needed. {self.advice()}"
        ]

    def _from(self, kind: Any, wanted: str, **options: Any) -> Any:
        try:
            return kind.from_pretrained(self.model, **options)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{self._setting}={self.model}: no {wanted} could be loaded from there ({first_line(error)}). {self.advice()}"
            ) from error

    def advice(self) -> str:
        """How the files are had."""
        if Path(self.model).is_dir():
            return "It must be a whole folder in transformers' layout: config, weights, and the files of tokenizer and image processor"
        return (
            f"Without a network here, fetch it elsewhere (hf download {self.model} --local-dir FOLDER), copy the folder, and give "
            f"{self._setting}=FOLDER"
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


def by_halves(look: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """What `look` says of all items at once, or of their halves where the GPU's memory does not hold so many.

    Raises:
        torch.OutOfMemoryError: it does not hold one.
    """
    import torch

    try:
        return look(items)
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return [*by_halves(look, items[:middle]), *by_halves(look, items[middle:])]
