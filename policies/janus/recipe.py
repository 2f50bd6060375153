"""The `policies=` components for Janus: torch-free until a checkpoint is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.names import HUB_ID
from harness.paths import user_path
from harness.protocols import PolicyRecipe
from harness.settings import choice, flag, text, whole_number
from harness.types import Config, Stage
from policies.janus import folder as folders

PRECISIONS = ("float32", "bfloat16", "auto")
WEIGHTS = ("float32", "bfloat16")

if TYPE_CHECKING:
    from policies.janus.policy import JanusPolicy


class Janus(PolicyRecipe):
    """Janus-Pro or GoT-R1 from a published checkpoint, or any other of their layout.

    Args:
        checkpoint: a local folder, or the id of a model on the hub.
        revision: branch, tag or commit on the hub; of no effect for a folder.
        template: prompt template with `{caption}`.
        plans: whether a chain is written before the image is drawn (GoT-R1) or not (Janus-Pro).
        got_tokens: with chains, append the tokens of GoT's boxes and objects that the tokenizer lacks; false
            for models that write other chains.
        precision: of matrix products in training and rollouts: float32, bfloat16, or auto.
        weights: the dtype of the weights: float32, or bfloat16 if only adapters (LoRA) or nothing is trained.
        recompute: compute activations again in the backward pass instead of keeping them.
        pack: tokens in a row of training that several samples share; null = one sample to a row. CPUs ignore
            it: there no row has padding.
    """

    encoding: ClassVar = {
        "precision": "auto",
        "weights": "bfloat16",
        "recompute": False,
        "pack": None,
    }  # its image tokenizer is float32
    sizes = "policies.janus.sizes.of_janus"
    races = "policies.janus.bench.races"
    gpu = "policies.janus.gpu.bench.bench"
    real_size = "policies.janus.real_size.real_sizes"

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
        got_tokens: bool = True,
    ) -> None:
        _check_template(template)
        _check_precision(precision)
        choice("policies.weights", weights, WEIGHTS)
        if weights == "bfloat16" and precision == "float32":
            raise ValueError(
                "policies.precision=float32 does not go with policies.weights=bfloat16: set both to the same"
            )
        flag("policies.plans", plans)
        flag("policies.got_tokens", got_tokens)
        flag("policies.recompute", recompute)
        if pack is not None:
            whole_number("policies.pack", pack, hint=" (tokens), or null")
        text("policies.checkpoint", checkpoint)
        text("policies.revision", revision)
        self.checkpoint, self._revision, self.writes_chains = checkpoint, revision, plans
        self.settings: dict[str, Any] = {
            "template": template,
            "plans": plans,
            "got_tokens": got_tokens,
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
        path = user_path(self.checkpoint).absolute()
        if path.is_dir():
            files = {file.name: str(file) for file in folders.read(path).files}
            external = tuple(files.values())
            return Stage(
                name="checkpoint",
                program="policies.janus.fetch.link",
                settings={"files": files},
                external=external,
            )
        if not HUB_ID.fullmatch(self.checkpoint):
            raise ValueError(
                f"policies.checkpoint={self.checkpoint}: there is no such folder, and it is no hub id"
                " (owner/name)"
            )
        settings = {"repository": self.checkpoint, "revision": self._revision}
        return Stage(name="checkpoint", program="policies.janus.fetch.download", settings=settings)

    def load(self, folder: Path, *, trainable: bool = False) -> JanusPolicy:
        return self._policy(folder, trainable=trainable)

    def load_to_draw(self, folder: Path) -> JanusPolicy:
        return self._policy(folder, draws_only=True)

    def _policy(self, folder: Path, **how: Any) -> JanusPolicy:
        from policies.janus.policy import JanusPolicy, device

        return JanusPolicy(folder, device=device(), **self.settings, **how)


class TinyJanus(PolicyRecipe):
    """A Janus of about a million weights whose tokenizers are trained on the benchmark's own records.

    Args:
        template: prompt template with `{caption}`.
        precision: of matrix products in training and rollouts: float32, bfloat16, or auto.
        decoder: sizes of the Llama decoder (transformers' LlamaConfig fields).
        text: `vocabulary` size and number of `records` the text tokenizer is trained on.
        vq: sizes of JanusVQVAE and of its training, see `policies.janus.tiny`.
    """

    writes_chains = True
    sizes = "policies.janus.sizes.of_tiny_janus"
    races = "policies.janus.bench.races"
    gpu = "policies.janus.gpu.bench.bench"
    real_size = "policies.janus.real_size.real_sizes"

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
                f"policies.vq.patch_size={vq['patch_size']}: with {levels} levels in channel_multiplier it"
                f" must be {patch}"
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
        return Stage(
            name="tokenizer", program="policies.janus.tiny.build", settings=settings, parallel=0, halves=True
        )

    def load(self, folder: Path, *, trainable: bool = False) -> JanusPolicy:
        return self._policy(folder, trainable=trainable)

    def load_to_draw(self, folder: Path) -> JanusPolicy:
        return self._policy(folder, draws_only=True)

    def _policy(self, folder: Path, **how: Any) -> JanusPolicy:
        from policies.janus.policy import JanusPolicy, device

        return JanusPolicy(folder, template=self.template, precision=self.precision, device=device(), **how)


def _check_template(template: str) -> None:
    if template.count("{caption}") != 1:
        raise ValueError(
            f"policies.template={template!r}: it must hold {{caption}} once, where the prompt goes"
        )


def _check_precision(precision: str) -> None:
    choice("policies.precision", precision, PRECISIONS)
