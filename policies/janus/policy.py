"""A loaded Janus: the `Policy` the trainers and the evaluation work with."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from harness.chain import END, parse
from harness.protocols import Policy
from harness.types import Chain, Prompt, Record, Sample, Sampling, TokenLogprobs, Tokens
from policies.janus import checkpoint, vq
from policies.janus import folder as folders
from policies.janus.engine import Engine
from policies.janus.likelihood import Likelihood
from policies.janus.precision import products
from policies.janus.text import ChainTokenizer

if TYPE_CHECKING:
    from transformers import JanusForConditionalGeneration

TRAINED = (
    "model.language_model.",
    "lm_head.",
    "model.generation_embeddings.",
    "model.generation_aligner.",
    "model.generation_head.",
)
NO_CHAIN = Chain(text="", objects=(), bare_text="")


class JanusPolicy(Policy):
    """Plans and draws with one checkpoint folder, of either layout.

    Args:
        folder: the checkpoint.
        template: of the prompt, with `{caption}`.
        plans: whether a chain comes before the image; without one begin-of-image follows the prompt (Janus-Pro).
        precision: of matrix products in rollouts and log-probs alike (`policies.janus.precision`).
        weights: what the weights are held in: float32, or bfloat16, with which products are in bfloat16 too. The
            image tokenizer is in float32 always.
        recompute: see `Likelihood`.
        pack: see `Likelihood`.
        trainable: whether the drawing parts require a gradient.
        device: where it runs.

    Raises:
        ValueError: the folder is no whole checkpoint, or its tokenizer has ids that the model has no rows for.
    """

    module: JanusForConditionalGeneration

    def __init__(
        self,
        folder: Path,
        *,
        template: str,
        plans: bool = True,
        precision: str = "float32",
        weights: str = "float32",
        recompute: bool = False,
        pack: int | None = None,
        trainable: bool = False,
        device: str = "cpu",
    ) -> None:
        self._folder, self._plans = folders.read(folder), plans
        self._products = functools.partial(
            products, "bfloat16" if weights == "bfloat16" else precision, device
        )
        self._text = ChainTokenizer.load(folder, template)
        self.module = checkpoint.load(folder, getattr(torch, weights), device)
        if self._text.rows > self.module.lm_head.out_features:
            raise ValueError(
                f"{folder}: the tokenizer has ids up to {self._text.rows - 1} but the model only {self.module.lm_head.out_features} rows:"
                " give the tokenizer that belongs to these weights"
            )
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(trainable and name.startswith(TRAINED))
        special = {"bos": self._text.bos, "pad": self._text.pad}
        self.engine = Engine(self.module, boi=self._text.boi, **special)
        self._likelihood = Likelihood(self.module, recompute=recompute, pack=pack, **special)

    @property
    def image_size(self) -> tuple[int, int]:
        config = self.module.config.vq_config
        side = config.num_patches * 2 ** (len(config.channel_multiplier) - 1)
        return side, side

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (prompt, seed), as one batch; images are decoded by the checkpoint's own VQ."""
        if not prompts:
            return []
        if not self._plans:
            sampling = replace(sampling, max_chain_tokens=0)
        with self._products():
            drawn = self.engine.rollout(
                [self._text.prompt_ids(prompt.text) for prompt in prompts], seeds, sampling
            )
        images = vq.decode(self.module.model.vqmodel, [tokens.image for tokens in drawn.tokens])
        return [
            Sample(
                prompt=prompt,
                chain=parse(self._text.chain_text(tokens.chain)) if self._plans else NO_CHAIN,
                image=image,
                tokens=tokens,
                logprobs=logprobs,
                seed=seed,
            )
            for prompt, seed, tokens, logprobs, image in zip(
                prompts, seeds, drawn.tokens, drawn.logprobs, images, strict=True
            )
        ]

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Ids of training records; without plans their chains are left out.

        Raises:
            ValueError: a chain does not end with begin-of-image, or an image is not of the size this checkpoint draws.
        """
        for record in records:
            self._check(record)
        codes = vq.encode(self.module.model.vqmodel, [record.image for record in records])
        return [
            Tokens(
                prompt=self._text.prompt_ids(record.prompt.text),
                chain=self._text.chain_ids(record.chain) if self._plans else (self._text.boi,),
                image=image,
                forced_end=not self._plans,
            )
            for record, image in zip(records, codes, strict=True)
        ]

    def _check(self, record: Record) -> None:
        if record.image.size != self.image_size:
            wrong, right = ("x".join(map(str, size)) for size in (record.image.size, self.image_size))
            raise ValueError(
                f"the image of record {record.prompt.id} is {wrong}, this checkpoint draws {right}: give it that size"
            )
        if self._plans and not record.chain.endswith(END):
            raise ValueError(
                f"the chain of record {record.prompt.id} must end with {END}, got {record.chain[-40:]!r}"
            )

    def logprobs(
        self, tokens: Sequence[Tokens], sampling: Sampling, *, unconditional: Sequence[bool] = ()
    ) -> TokenLogprobs:
        with self._products():
            return self._likelihood.logprobs(tokens, sampling, unconditional)

    def save(self, folder: Path) -> None:
        """Writes weights and tokenizer to `folder` in transformers' layout, whatever the layout they came in."""
        folder.mkdir(parents=True, exist_ok=True)
        self._name_tokens()
        checkpoint.save(self.module, folder)
        self._text.save(folder)
        for file in self._folder.beside:
            if file.parent != folder:
                shutil.copyfile(file, folder / file.name)

    def blocks(self) -> list[torch.nn.Module]:
        """The layers of the decoder."""
        return list(self.module.model.language_model.layers)

    def _name_tokens(self) -> None:
        """Writes down which ids are special, for transformers' own `generate`, which would take those of Llama and of the 1B."""
        text = self._text
        special = GenerationConfig(bos_token_id=text.bos, eos_token_id=text.eos, pad_token_id=text.pad)
        special.generation_kwargs = {"boi_token_id": text.boi}  # where Janus looks for it
        self.module.generation_config = special
        if text.placeholder is not None:
            self.module.config.image_token_id = text.placeholder


def device() -> str:
    """Where policies run: the GPU the launcher made visible, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"
