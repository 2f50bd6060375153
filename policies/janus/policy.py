"""A loaded Janus: the `Policy` for trainers and evaluation."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from harness import devices
from harness.chain import END, parse
from harness.protocols import Policy
from harness.types import (
    Chain,
    Drawing,
    Prompt,
    Record,
    Sample,
    SampledChain,
    Sampling,
    TokenLogprobs,
    Tokens,
)
from policies.janus import checkpoint, vq
from policies.janus import folder as folders
from policies.janus.engine import Engine, GivenChain, Rollouts
from policies.janus.likelihood import Likelihood
from policies.janus.precision import products
from policies.janus.text import ChainTokenizer
from policies.janus.watched import OnStep

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
    """Writes chains and draws images with one checkpoint folder of either layout.

    Args:
        folder: the checkpoint.
        template: the prompt template, with `{caption}`.
        plans: whether a chain precedes the image; otherwise begin-of-image follows the prompt (Janus-Pro).
        got_tokens: with chains, append the tokens of GoT's chains that the tokenizer lacks.
        precision: the number format of matrix products in rollouts and log-probs
            (`policies.janus.precision`).
        weights: the dtype of the weights: float32, or bfloat16, which implies products in bfloat16. The image
            tokenizer is always in float32.
        recompute: see `Likelihood`.
        pack: see `Likelihood`.
        trainable: whether the drawing parts require a gradient.
        draws_only: keep only what `rollout`, `write` and `draw` need, laid out for them: less than half the
            memory of a rollout. The other methods then raise ValueError.
        device: the torch device.

    Raises:
        ValueError: the checkpoint is incomplete, or its tokenizer has ids beyond the model's rows.
    """

    module: JanusForConditionalGeneration

    def __init__(
        self,
        folder: Path,
        *,
        template: str,
        plans: bool = True,
        got_tokens: bool = True,
        precision: str = "float32",
        weights: str = "float32",
        recompute: bool = False,
        pack: int | None = None,
        trainable: bool = False,
        draws_only: bool = False,
        device: str = "cpu",
    ) -> None:
        self._folder, self._plans = folders.read(folder), plans
        self._products = functools.partial(
            products, "bfloat16" if weights == "bfloat16" else precision, device
        )
        self._text = ChainTokenizer.load(folder, template, got_tokens=plans and got_tokens)
        load = checkpoint.load_to_draw if draws_only else checkpoint.load
        self.module = load(folder, getattr(torch, weights), device)
        rows = self.module.lm_head.out_features
        if self._text.rows > rows:
            raise ValueError(
                f"{folder}: the tokenizer has ids up to {self._text.rows - 1} but the model only {rows} rows:"
                " give the tokenizer that belongs to these weights"
            )
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(trainable and name.startswith(TRAINED))
        special = {"bos": self._text.bos, "pad": self._text.pad}
        self.engine = Engine(self.module, boi=self._text.boi, **special)
        self._likelihood: Likelihood | None = None
        if draws_only:
            with self._products():
                self.engine.keep_weights()
        else:
            self._likelihood = Likelihood(self.module, recompute=recompute, pack=pack, **special)

    @property
    def image_size(self) -> tuple[int, int]:
        config = self.module.config.vq_config
        side = config.num_patches * 2 ** (len(config.channel_multiplier) - 1)
        return side, side

    def watch(self, on_step: OnStep) -> None:
        self.engine.on_step = on_step

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (prompt, seed), drawn as one batch."""
        if not prompts:
            return []
        if not self._plans:
            sampling = replace(sampling, max_chain_tokens=0)
        with self._products():
            prompt_ids = [self._text.prompt_ids(prompt.text) for prompt in prompts]
            rollouts = self.engine.rollout(prompt_ids, seeds, sampling)
        return self._samples(prompts, seeds, rollouts)

    def write(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[SampledChain]:
        """The chains that `rollout` would write for these pairs.

        Raises:
            ValueError: the policy writes no chains.
        """
        self._check_writes_chains()
        if not prompts:
            return []
        with self._products():
            prompt_ids = [self._text.prompt_ids(prompt.text) for prompt in prompts]
            rollouts = self.engine.write(prompt_ids, seeds, sampling)
        chains = []
        for tokens, logprobs in zip(rollouts.tokens, rollouts.logprobs, strict=True):
            chain = parse(self._text.chain_text(tokens.chain))
            forced = tokens.forced_end
            chains.append(SampledChain(chain=chain, ids=tokens.chain, logprobs=logprobs, forced_end=forced))
        return chains

    def draw(self, drawings: Sequence[Drawing], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (drawing, seed), drawn as one batch from chains that are given.

        Raises:
            ValueError: the policy writes no chains, or a chain does not end with begin-of-image, holds it
                earlier, or has more ids than `max_chain_tokens`.
        """
        self._check_writes_chains()
        if not drawings:
            return []
        chains = [self._given(drawing, sampling.max_chain_tokens) for drawing in drawings]
        prompts = [drawing.prompt for drawing in drawings]
        captions = [
            drawing.prompt.text if drawing.caption is None else drawing.caption for drawing in drawings
        ]
        with self._products():
            prompt_ids = [self._text.prompt_ids(caption) for caption in captions]
            rollouts = self.engine.draw(prompt_ids, chains, seeds, sampling)
        return self._samples(prompts, seeds, rollouts)

    def chain_ids(self, text: str) -> tuple[int, ...]:
        """The ids of the text of a chain, without specials in front."""
        return self._text.chain_ids(text)

    def _check_writes_chains(self) -> None:
        if not self._plans:
            raise ValueError(
                "this policy writes no chains (policies.plans=false), so it cannot draw from one: choose a"
                " policy that does, such as policies=got_r1_1b"
            )

    def _given(self, drawing: Drawing, limit: int) -> GivenChain:
        """The ids that the engine replays: those of the chain without a forced begin-of-image."""
        where, boi = f"the chain of prompt {drawing.prompt.id}", self._text.boi
        if isinstance(drawing.chain, str):
            ids, is_forced = self._text.chain_ids(drawing.chain), False
            if ids.count(boi) != 1 or ids[-1] != boi:
                raise ValueError(
                    f"{where} must end with {END} and hold it nowhere else: {drawing.chain[-60:]!r}"
                )
        else:
            ids, is_forced = drawing.chain.ids, drawing.chain.forced_end
        if is_forced:
            ids = ids[:-1]
        if len(ids) > limit or (is_forced and len(ids) < limit):
            raise ValueError(
                f"{where} has {len(ids)} ids{' and was cut there' if is_forced else ''}, and"
                f" rollout.max_chain_tokens={limit}:"
                + (" set it to the same number" if is_forced else " raise it, or shorten the text")
            )
        return GivenChain(ids, is_sampled=not isinstance(drawing.chain, str))

    def _samples(self, prompts: Sequence[Prompt], seeds: Sequence[int], rollouts: Rollouts) -> list[Sample]:
        """The samples with these ids; the checkpoint's own VQ decodes the images."""
        images = vq.decode(self.module.model.vqmodel, [tokens.image for tokens in rollouts.tokens])
        samples = []
        for index, tokens in enumerate(rollouts.tokens):
            chain = parse(self._text.chain_text(tokens.chain)) if self._plans else NO_CHAIN
            sample = Sample(
                prompt=prompts[index],
                chain=chain,
                image=images[index],
                tokens=tokens,
                logprobs=rollouts.logprobs[index],
                seed=seeds[index],
            )
            samples.append(sample)
        return samples

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Ids of training records. A policy that writes no chains leaves theirs out.

        Raises:
            ValueError: a chain does not end with begin-of-image, or an image does not have `image_size`.
        """
        self._check_complete()
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
                f"the image of record {record.prompt.id} is {wrong}, this checkpoint draws {right}:"
                " give it that size"
            )
        if self._plans and not record.chain.endswith(END):
            raise ValueError(
                f"the chain of record {record.prompt.id} must end with {END}, got {record.chain[-40:]!r}"
            )

    def logprobs(
        self,
        tokens: Sequence[Tokens],
        sampling: Sampling,
        *,
        unconditional: Sequence[bool] = (),
        measures: Sequence[str] = (),
    ) -> TokenLogprobs:
        with self._products():
            return self._check_complete().logprobs(tokens, sampling, unconditional, measures)

    def save(self, folder: Path) -> None:
        """Writes weights and tokenizer to `folder`, always in transformers' layout."""
        self._check_complete()
        folder.mkdir(parents=True, exist_ok=True)
        self._name_tokens()
        checkpoint.save(self.module, folder)
        self._text.save(folder)
        for file in self._folder.beside:
            if file.parent != folder:
                shutil.copyfile(file, folder / file.name)

    def _check_complete(self) -> Likelihood:
        """What scores tokens.

        Raises:
            ValueError: the policy was loaded to draw only.
        """
        if self._likelihood is None:
            raise ValueError(
                "this policy was loaded to draw only, so it cannot encode, score or be saved: load it with"
                " `load` of its recipe, not `load_to_draw`"
            )
        return self._likelihood

    def blocks(self) -> list[torch.nn.Module]:
        """The layers of the decoder."""
        return list(self.module.model.language_model.layers)

    def _name_tokens(self) -> None:
        """Stores the special ids for transformers' `generate`; its defaults are those of Llama and the 1B."""
        text = self._text
        special = GenerationConfig(bos_token_id=text.bos, eos_token_id=text.eos, pad_token_id=text.pad)
        special.generation_kwargs = {"boi_token_id": text.boi}  # where Janus looks for it
        self.module.generation_config = special
        if text.placeholder is not None:
            self.module.config.image_token_id = text.placeholder


def device() -> str:
    """The device for policies: the GPU that the launcher made visible, else the CPU."""
    return devices.automatic()
