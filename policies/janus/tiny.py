"""Stage program `tokenizer`: makes the starting checkpoint of the tiny Janus.

It trains a small BPE on the benchmark's texts and a small JanusVQVAE on its images. The decoder keeps its
random weights. The result is an ordinary transformers checkpoint folder. An interrupted run resumes from the
text tokenizer and from the last saved step of the image tokenizer, and ends with the same bytes. So do
several processes, of which the first one writes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate
from tokenizers import Tokenizer
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
)

from harness import team
from harness.files import writing
from harness.types import Record
from policies.janus import checkpoint, text, vq

if TYPE_CHECKING:
    from harness.protocols import Workspace

RESUME_FILES = ("training.pt", "tokenizer.json")  # of an unfinished stage; see `harness.stages.program`
SAVE_EVERY = 100  # steps


def build(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Trains both tokenizers and writes `checkpoint/`."""
    torch.manual_seed(settings["seed"])
    benchmark = instantiate(settings["benchmark"], _convert_="all")
    sizes = settings["vq"]
    records = list(benchmark.records(settings["seed"], max(settings["text"]["records"], sizes["records"])))
    rank, _ = team.rank_and_size()
    own = (
        _text_tokenizer(records[: settings["text"]["records"]], settings, work).to_str() if rank == 0 else ""
    )
    tokenizer = Tokenizer.from_str(team.of_first(own))
    model = JanusForConditionalGeneration(_config(tokenizer, settings))
    _train_vq(model, records[: sizes["records"]], sizes, settings["seed"], work)
    if rank == 0:
        folder = work.folder / "checkpoint"
        checkpoint.save(model, folder)
        text.save(tokenizer, folder)


def _text_tokenizer(records: list[Record], settings: dict[str, Any], work: Workspace) -> Tokenizer:
    saved = work.folder / RESUME_FILES[1]
    if saved.is_file():
        return Tokenizer.from_file(str(saved))
    template = settings["template"]
    texts = (template.replace("{caption}", record.prompt.text) + record.chain for record in records)
    tokenizer = text.train(texts, settings["text"]["vocabulary"])
    with writing(saved, durable=True) as new:
        tokenizer.save(str(new))
    return tokenizer


def _config(tokenizer: Tokenizer, settings: dict[str, Any]) -> JanusConfig:
    sizes = settings["vq"]
    width = settings["decoder"]["hidden_size"]
    side = sizes["image_size"] // sizes["patch_size"]
    return JanusConfig(
        text_config=LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            bos_token_id=tokenizer.token_to_id(text.BOS),
            # no pad id: it would keep the pad row of the embedding at zero
            eos_token_id=tokenizer.token_to_id(text.EOS),
            tie_word_embeddings=False,
            **settings["decoder"],
        ).to_dict(),
        # the class requires the reading tower, but drawing does not use it: as small as possible
        vision_config=JanusVisionConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=sizes["image_size"],
            patch_size=sizes["patch_size"],
            projection_dim=width,
            num_image_tokens=side**2,
        ).to_dict(),
        vq_config=JanusVQVAEConfig(
            embed_dim=sizes["embed_dim"],
            num_embeddings=sizes["codes"],
            latent_channels=sizes["latent_channels"],
            base_channels=sizes["base_channels"],
            channel_multiplier=sizes["channel_multiplier"],
            num_res_blocks=sizes["res_blocks"],
            projection_dim=width,
            image_token_embed_dim=width,
        ).to_dict(),
        tie_word_embeddings=False,
    )


def _train_vq(
    model: JanusForConditionalGeneration,
    records: list[Record],
    sizes: dict[str, Any],
    seed: int,
    work: Workspace,
) -> None:
    pixels = vq.pixels([record.image for record in records])
    training = vq.Training(
        model.model.vqmodel,
        pixels,
        learning_rate=sizes["learning_rate"],
        steps=sizes["steps"],
        batch_size=sizes["batch_size"],
        seed=seed,
    )
    saved = work.folder / RESUME_FILES[0]
    training.restore(saved)
    for step in work.steps(training.done, training.steps):
        work.progress(step + 1, training.steps, training.step())
        stopping, last = work.stopping(), step + 1 == training.steps
        if team.rank_and_size()[0] == 0 and (stopping or last or (step + 1) % SAVE_EVERY == 0):
            _save(training, saved, last=last)
    model.model.vqmodel.eval()


def _save(training: vq.Training, saved: Path, *, last: bool) -> None:
    """Saves the training. When it has ended and the disk has no room for it, its result may still fit."""
    try:
        training.save(saved)
    except (OSError, RuntimeError) as error:
        if not last:
            raise
        print(f"warning: {saved} was not written: {error}", file=sys.stderr)
