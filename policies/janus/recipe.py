"""The `policies=` components for Janus: torch-free until a checkpoint is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.names import HUB_ID
from harness.protocols import Config, ModelSizes, Race
from harness.types import Stage
from policies.janus import folder as folders
from policies.janus import sizes

PRECISIONS = ("float32", "bfloat16", "auto")
WEIGHTS = ("float32", "bfloat16")

if TYPE_CHECKING:
    from policies.janus.policy import JanusPolicy


class Janus:
    """Janus-Pro or GoT-R1 from a published checkpoint, or any other of their layout.

    Args:
        checkpoint: a local folder, or the id of a model on the hub.
        revision: branch, tag or commit on the hub; of no effect for a folder.
        template: prompt template with `{caption}`.
        plans: whether a chain is written before the image is drawn (GoT-R1) or not (Janus-Pro).
        precision: of matrix products in training and rollouts: float32, bfloat16, or auto.
        weights: the dtype of the weights: float32, or bfloat16 if only adapters (LoRA) or nothing is trained.
        recompute: compute activations again in the backward pass instead of keeping them.
        pack: tokens in a row of training that several samples share; null = one sample to a row.
    """

    trainable = True
    encoding: ClassVar = {
        "precision": "auto",
        "weights": "bfloat16",
        "recompute": False,
        "pack": None,
    }  # its image tokenizer is float32

    def __init__(
        self,
        *,
        checkpoint: str,
        revision: str,
        template: str,
        plans: bool,
        precision: str,
        weights: str,
        recompute: bool,
        pack: int | None,
    ) -> None:
        _check_template(template)
        _check_precision(precision)
        if weights not in WEIGHTS:
            raise ValueError(f"policies.weights={weights!r}: allowed are {' and '.join(WEIGHTS)}")
        if weights == "bfloat16" and precision == "float32":
            raise ValueError(
                "policies.precision=float32 cannot be had with policies.weights=bfloat16: set one of them as the other"
            )
        for name, value in (("plans", plans), ("recompute", recompute)):
            if not isinstance(value, bool):
                raise ValueError(f"policies.{name}={value!r}: give true or false")
        if pack is not None and (not isinstance(pack, int) or isinstance(pack, bool) or pack < 1):
            raise ValueError(f"policies.pack={pack!r}: give a number of tokens from 1, or null")
        for name, value in (("checkpoint", checkpoint), ("revision", revision)):
            if not isinstance(value, str) or not value:
                raise ValueError(f"policies.{name}={value!r}: give a text")
        self._checkpoint, self._revision = checkpoint, revision
        self._settings = {
            "template": template,
            "plans": plans,
            "precision": precision,
            "weights": weights,
            "recompute": recompute,
            "pack": pack,
        }

    def start(self, config: Config) -> Stage:
        """The stage `checkpoint`: links to a folder's files, which count by content, or a download.

        Raises:
            ValueError: it is neither a folder nor a hub id, or the folder is no Janus checkpoint.
        """
        path = Path(self._checkpoint).expanduser().absolute()
        if path.is_dir():
            files = {file.name: str(file) for file in folders.read(path).files}
            external = tuple(files.values())
            return Stage(
                name="checkpoint",
                program="policies.janus.fetch.link",
                settings={"files": files},
                external=external,
            )
        if not HUB_ID.fullmatch(self._checkpoint):
            raise ValueError(
                f"policies.checkpoint={self._checkpoint}: there is no such folder, and it is no hub id (owner/name)"
            )
        settings = {"repository": self._checkpoint, "revision": self._revision}
        return Stage(name="checkpoint", program="policies.janus.fetch.download", settings=settings)

    def load(self, folder: Path, *, trainable: bool = False) -> JanusPolicy:
        from policies.janus.policy import JanusPolicy, device

        return JanusPolicy(folder, trainable=trainable, device=device(), **self._settings)

    def sizes(self, folder: Path | None) -> ModelSizes | None:
        return sizes.of(folder, self._checkpoint, self._settings)

    def races(self) -> Iterator[Race]:
        return _races()


class TinyJanus:
    """A Janus of about a million weights whose tokenizers are trained on the benchmark's own records.

    Args:
        template: prompt template with `{caption}`.
        precision: of matrix products in training and rollouts: float32, bfloat16, or auto.
        decoder: sizes of the Llama decoder (transformers' LlamaConfig fields).
        text: `vocabulary` size and number of `records` the text tokenizer is trained on.
        vq: sizes of JanusVQVAE and of its training, see `policies.janus.tiny`.
    """

    trainable = True

    def __init__(
        self,
        *,
        template: str,
        precision: str,
        decoder: dict[str, Any],
        text: dict[str, Any],
        vq: dict[str, Any],
    ) -> None:
        _check_template(template)
        _check_precision(precision)
        patch = 2 ** (len(vq["channel_multiplier"]) - 1)
        if vq["patch_size"] != patch:
            levels = len(vq["channel_multiplier"])
            raise ValueError(
                f"policies.vq.patch_size={vq['patch_size']}: with {levels} levels in channel_multiplier it must be {patch}"
            )
        if vq["image_size"] % patch:
            raise ValueError(
                f"policies.vq.image_size={vq['image_size']}: give a multiple of patch_size={patch}"
            )
        self.template, self.precision = template, precision
        self.settings = {"template": template, "decoder": dict(decoder), "text": dict(text), "vq": dict(vq)}

    def start(self, config: Config) -> Stage:
        """The stage `tokenizer`: text and image tokenizer trained, decoder at its random start."""
        settings = {**self.settings, "benchmark": config["benchmarks"], "seed": config["sft_seed"]}
        return Stage(name="tokenizer", program="policies.janus.tiny.build", settings=settings)

    def load(self, folder: Path, *, trainable: bool = False) -> JanusPolicy:
        from policies.janus.policy import JanusPolicy, device

        return JanusPolicy(
            folder, template=self.template, precision=self.precision, trainable=trainable, device=device()
        )

    def sizes(self, folder: Path | None) -> ModelSizes | None:
        return sizes.of_tiny(self.settings, self.precision)

    def races(self) -> Iterator[Race]:
        return _races()


def _races() -> Iterator[Race]:
    from policies.janus.policy import device

    bench = importlib.import_module(
        "policies.janus.bench"
    )  # by name, so that it is no source of the stages' keys: it decides no numbers
    return bench.races(device())


def _check_template(template: str) -> None:
    if template.count("{caption}") != 1:
        raise ValueError(
            f"policies.template={template!r}: it must hold {{caption}} once, where the prompt goes"
        )


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"policies.precision={precision!r}: allowed are {', '.join(PRECISIONS)}")
