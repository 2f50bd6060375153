"""The `policies=` component for Janus: torch-free until a checkpoint is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.protocols import Config
from harness.types import Stage

PRECISIONS = ("float32", "bfloat16", "auto")

if TYPE_CHECKING:
    from policies.janus.policy import JanusPolicy


class TinyJanus:
    """A Janus of about a million weights whose tokenizers are trained on the benchmark's own records.

    Args:
        template: prompt template with `{caption}`.
        precision: of matrix products in training and rollouts: float32, bfloat16, or auto.
        decoder: sizes of the Llama decoder (transformers' LlamaConfig fields).
        text: `vocabulary` size and number of `records` the text tokenizer is trained on.
        vq: sizes of JanusVQVAE and of its training, see `policies.janus.tiny`.
    """

    def __init__(self, *, template: str, precision: str, decoder: dict[str, Any], text: dict[str, Any], vq: dict[str, Any]) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"policies.precision={precision!r}: allowed are {', '.join(PRECISIONS)}")
        if template.count("{caption}") != 1:
            raise ValueError(f"policies.template={template!r}: it must hold {{caption}} once, where the prompt goes")
        patch = 2 ** (len(vq["channel_multiplier"]) - 1)
        if vq["patch_size"] != patch:
            levels = len(vq["channel_multiplier"])
            raise ValueError(f"policies.vq.patch_size={vq['patch_size']}: with {levels} levels in channel_multiplier it must be {patch}")
        if vq["image_size"] % patch:
            raise ValueError(f"policies.vq.image_size={vq['image_size']}: give a multiple of patch_size={patch}")
        self.template, self.precision = template, precision
        self.settings = {"template": template, "decoder": dict(decoder), "text": dict(text), "vq": dict(vq)}

    def start(self, config: Config) -> Stage:
        """The stage `tokenizer`: text and image tokenizer trained, decoder at its random start."""
        settings = {**self.settings, "benchmark": config["benchmarks"], "seed": config["sft_seed"]}
        return Stage(name="tokenizer", program="policies.janus.tiny.build", settings=settings)

    def load(self, folder: Path, *, trainable: bool = False) -> JanusPolicy:
        from policies.janus.policy import JanusPolicy, device

        return JanusPolicy(folder, template=self.template, precision=self.precision, trainable=trainable, device=device())
