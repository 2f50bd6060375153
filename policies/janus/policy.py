"""A loaded Janus: the `Policy` the trainers and the evaluation work with."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from harness import plan
from harness.protocols import Sampling, TokenLogprobs
from harness.types import Prompt, Record, Sample, Tokens
from policies.janus import checkpoint, vq
from policies.janus.engine import Engine
from policies.janus.likelihood import Likelihood
from policies.janus.precision import products
from policies.janus.text import ChainTokenizer

TRAINED = ("model.language_model.", "lm_head.", "model.generation_embeddings.", "model.generation_aligner.", "model.generation_head.")
BESIDE_WEIGHTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


class JanusPolicy:
    """Plans and draws with one checkpoint folder in transformers' layout.

    `precision` is that of matrix products in rollouts and log-probs alike (`policies.janus.precision`).
    """

    def __init__(self, folder: Path, *, template: str, precision: str = "float32", trainable: bool = False, device: str = "cpu") -> None:
        self._folder = folder
        self._products = functools.partial(products, precision, device)
        self.module = checkpoint.load(folder).to(device)
        self._text = ChainTokenizer.load(folder, template)
        if len(self._text) > self.module.lm_head.out_features:
            raise ValueError(f"{folder}: the tokenizer has {len(self._text)} ids but the model {self.module.lm_head.out_features} rows")
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(trainable and name.startswith(TRAINED))
        special = {"bos": self._text.bos, "pad": self._text.pad}
        self.engine = Engine(self.module, boi=self._text.boi, **special)
        self._likelihood = Likelihood(self.module, **special)

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (prompt, seed), as one batch; images are decoded by the checkpoint's own VQ."""
        if not prompts:
            return []
        with self._products():
            drawn = self.engine.rollout([self._text.prompt_ids(prompt.text) for prompt in prompts], seeds, sampling)
        images = vq.decode(self.module.model.vqmodel, [tokens.image for tokens in drawn.tokens])
        return [
            Sample(
                prompt=prompt,
                plan=plan.parse(self._text.chain_text(tokens.chain)),
                image=image,
                tokens=tokens,
                logprobs=logprobs,
                seed=seed,
            )
            for prompt, seed, tokens, logprobs, image in zip(prompts, seeds, drawn.tokens, drawn.logprobs, images, strict=True)
        ]

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Ids of training records.

        Raises:
            ValueError: a chain does not end with begin-of-image, or an image is not of the size this checkpoint draws.
        """
        for record in records:
            self._check(record)
        codes = vq.encode(self.module.model.vqmodel, [record.image for record in records])
        return [
            Tokens(prompt=self._text.prompt_ids(record.prompt.text), chain=self._text.chain_ids(record.chain), image=image)
            for record, image in zip(records, codes, strict=True)
        ]

    def _check(self, record: Record) -> None:
        config = self.module.config.vq_config
        side = config.num_patches * 2 ** (len(config.channel_multiplier) - 1)
        if record.image.size != (side, side):
            wrong = "x".join(map(str, record.image.size))
            raise ValueError(f"the image of record {record.prompt.id} is {wrong}, this checkpoint draws {side}x{side}: give it that size")
        if not record.chain.endswith(plan.END):
            raise ValueError(f"the chain of record {record.prompt.id} must end with {plan.END}, got {record.chain[-40:]!r}")

    def logprobs(self, tokens: Sequence[Tokens], sampling: Sampling, *, unconditional: Sequence[bool] = ()) -> TokenLogprobs:
        with self._products():
            return self._likelihood.logprobs(tokens, sampling, unconditional)

    def save(self, folder: Path) -> None:
        """Writes weights and tokenizer to `folder`, in transformers' layout."""
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.module, folder)
        for name in BESIDE_WEIGHTS:
            if (self._folder / name).is_file() and self._folder != folder:
                shutil.copyfile(self._folder / name, folder / name)


def device() -> str:
    """Where policies run: the GPU the launcher made visible, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"
