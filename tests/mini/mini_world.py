"""The smallest world a real Janus trains in: a few prompts, 12x12 pictures, a reward that likes low
image codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from harness.protocols import Benchmark
from harness.stages.program import Stoppable
from harness.stages.ranks import ProgramCall, Ranks
from harness.types import Prompt, Record, Sample, Score

TEMPLATE = "User: {caption}\n\nAssistant:"
CAPTIONS = ("a red circle", "a blue square on the left of a red circle", "x", "a green ring")


class MiniBenchmark(Benchmark):
    """`captions` prompts in every split; a record shows a plain square of changing grey."""

    categories = ("color",)

    def __init__(self, *, captions: list[str]) -> None:
        assert isinstance(captions, list), "constructors are given plain lists"
        self._captions = captions

    def prompts(self, split: str) -> list[Prompt]:
        return [
            Prompt(id=f"{split}-{n}", text=text, category="color", facts={"n": n})
            for n, text in enumerate(self._captions)
        ]

    def records(self, seed: int, count: int) -> list[Record]:
        return [
            Record(
                prompt=Prompt(id=str(n), text=CAPTIONS[n % len(CAPTIONS)], category="color"),
                chain=f" a circle {'on ' * (n % 3)}<begin_of_image>",
                image=Image.new("RGB", (12, 12), ((n * 40 + seed) % 256, 90, 200)),
            )
            for n in range(count)
        ]

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [
            Score(value=None, unscored="x")
            if one.prompt.text == "x"
            else Score(value=_red(one), evidence={"n": 1})
            for one in samples
        ]


class LowCodes:
    """The share of image codes below 8 of 32; unscored where `silent` is the prompt."""

    name = "low"
    scope = "image"

    def __init__(self, *, silent: str | None = None) -> None:
        self._silent = silent

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        return [self._score(one) for one in samples]

    def _score(self, sample: Sample) -> Score:
        if sample.prompt.text == self._silent:
            return Score(value=None, unscored="silent")
        codes = sample.tokens.image
        return Score(value=sum(code < 8 for code in codes) / len(codes))


def _red(sample: Sample) -> float:
    reds = sample.image.getchannel("R").tobytes()
    return sum(reds) / len(reds) / 255


class Interrupted(Exception):
    pass


@dataclass
class FakeWorkspace(Stoppable):
    """Stops by an exception once `stop_at` is reported, as a kill would between two steps."""

    folder: Path
    stop_at: int | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.folder.mkdir(parents=True, exist_ok=True)

    def progress(
        self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None
    ) -> None:
        self.lines.append(
            {"step": step, "total": total, **json.loads(json.dumps(metrics or {}, allow_nan=False))}
        )
        self._check(step, total)
        if step == self.stop_at:
            raise Interrupted


@contextmanager
def with_ranks(call: ProgramCall, processes: int) -> Iterator[None]:
    """Other ranks of this machine make the call while the block makes it here; they end with the block."""
    with closing(Ranks(processes)) as team, team.together(call):
        yield


POLICY = {
    "_target_": "policies.janus.recipe.TinyJanus",
    "template": TEMPLATE,
    "precision": "float32",
    "decoder": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    },
    "text": {"vocabulary": 300, "records": 7},
    "vq": {
        "image_size": 12,
        "patch_size": 4,
        "codes": 16,
        "embed_dim": 8,
        "latent_channels": 32,
        "base_channels": 32,
        "channel_multiplier": [1, 1, 1],
        "res_blocks": 1,
        "records": 7,
        "batch_size": 4,
        "steps": 120,
        "learning_rate": 4.0e-3,
    },
}
BENCHMARK = {"_target_": "mini_world.MiniBenchmark", "captions": list(CAPTIONS)}
REWARDS = {"total": "low", "components": {"low": {"_target_": "mini_world.LowCodes", "silent": "x"}}}
SFT = {
    "steps": 5,
    "records": 7,
    "batch_size": 3,
    "micro_batch": None,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "condition_dropout": 0.4,
    "chain_dropout": 0.0,
    "fsdp": False,
    "checkpoint_every": 2,
}
GRPO = {
    "steps": 4,
    "prompts": 3,
    "samples": 3,
    "learning_rate": 1e-3,
    "warmup_steps": 1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "inner_epochs": 1,
    "advantage": {"_target_": "harness.trainers.advantage.Group"},
    "advantage_clip": None,
    "credit": "total",
    "aggregate": "sample",
    "ratio": {"_target_": "harness.trainers.ratio.TokenRatio", "clip_low": 0.2, "clip_high": 0.2},
    "kl": "k3",
    "kl_weight": 0.05,
    "zero_spread": "keep",
    "resample_batches": 10,
    "token_weights": "none",
    "truncated": "keep",
    "image_logprobs": "guided",
    "gap_tolerance": 1e-4,
    "micro_batch": 4,
    "rollout_batch": None,
    "unscored_tolerance": 1.0,
    "lora": None,
    "checkpoint_every": 2,
}
DPO = {
    "steps": 4,
    "pairs": 3,
    "samples": 3,
    "beta": 0.5,
    "renew_every": None,
    "learning_rate": 1e-3,
    "warmup_steps": 1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "image_logprobs": "guided",
    "micro_batch": 2,
    "rollout_batch": None,
    "unscored_tolerance": 1.0,
    "lora": None,
    "checkpoint_every": 3,
}
ROLLOUT = {
    "guidance": 1.0,
    "text_temperature": 1.0,
    "image_temperature": 1.0,
    "max_chain_tokens": 8,
    "random": "per_sample",
}
CHOSEN = {"split": "val", "categories": None, "prompts_per_category": None, "captions": None}
"""Settings under `evaluation` that choose all val prompts."""

READ = {"draw": True, "reading": {"roles": "name", "rule": "own"}}
"""Settings under `evaluation` that only interventions, or cells without images, change."""


DATA = {"_target_": "harness.data.records.BenchmarkRecords", "benchmark": BENCHMARK}


def sft_settings(**changes: Any) -> dict[str, Any]:
    return {"sft": SFT | changes, "policy": POLICY, "seed": 5}


def tokens_settings(**changes: Any) -> dict[str, Any]:
    return {"data": DATA, "listing": [], "policy": POLICY, "records": SFT["records"], "seed": 5, **changes}


def grpo_settings(rollout: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "grpo": GRPO | changes,
        "rollout": {**ROLLOUT, **(rollout or {})},
        "rewards": REWARDS,
        "policy": POLICY,
        "benchmark": BENCHMARK,
        "seed": 5,
    }


def dpo_settings(rollout: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    settings = grpo_settings(rollout)
    del settings["grpo"]
    return settings | {"dpo": DPO | changes}


def janus_config(*, vocabulary: int, codes: int, text: dict[str, Any], **vision: Any) -> Any:
    """A Janus with so many words and codes, a decoder as in `text`, and image towers as small as
    they can be (12x12 pictures).
    """
    from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

    width = text["hidden_size"]
    towers = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 12,
        "patch_size": 4,
        "projection_dim": width,
    }
    return JanusConfig(
        text_config=LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=False, **text).to_dict(),
        vision_config=JanusVisionConfig(**towers | vision).to_dict(),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=codes,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=[1, 1, 1],
            num_res_blocks=1,
            projection_dim=width,
            image_token_embed_dim=width,
        ).to_dict(),
        tie_word_embeddings=False,
    )


def write_janus(path: Path) -> None:
    """A tiny random Janus in a checkpoint folder: weights large enough that samples vary."""
    import torch
    from transformers import JanusForConditionalGeneration

    from policies.janus import checkpoint, text

    torch.manual_seed(3)
    tokenizer = text.train(["a red circle on the left of a blue square", TEMPLATE], 300)
    config = janus_config(
        vocabulary=tokenizer.get_vocab_size(),
        codes=32,
        text={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    )
    model = JanusForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vqmodel" not in name and parameter.ndim > 1:
                parameter.normal_(std=0.25)
        model.lm_head.weight[tokenizer.token_to_id(text.END)] *= 3  # chains end now and then
    checkpoint.save(model, path)
    text.save(tokenizer, path)
