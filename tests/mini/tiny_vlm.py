"""A tiny Qwen vision-language model that looks at colors, and `transformers serve` to serve it.

`train` teaches it this repository's questions: a red picture scores 10 and holds a box, a blue one
scores 2 and holds nothing, a layout scores 8, a description 6. Nothing else can be expected of it.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from harness.chain import draw_layout, parse
from harness.experts.grounding.grounder import QUESTIONS
from harness.experts.judge import rubric
from harness.types import Question
from rewards.judged import RUBRICS, Rubric

RED, BLUE = (220, 30, 30), (30, 30, 220)
PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
BOX = [7, 7, 49, 49]  # pixels: within the smallest picture as the model sees it, 56 x 56
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' or part.type == 'image_url' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = [
    *(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
        "<|box_end|>",
    ),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
]
WORDS = [
    "a",
    "the",
    "red",
    "blue",
    "green",
    "circle",
    "square",
    "ring",
    "on",
    "left",
    "of",
    "right",
    "above",
    "two",
    "vase",
    "dog",
    "A",
]
GROUNDING = rubric.Rubric("grounding", "name", folder=QUESTIONS)


def picture(color: tuple[int, int, int], size: int = 112) -> Image.Image:
    return Image.new("RGB", (size, size), color)


def lessons(rng: random.Random) -> Iterator[tuple[Question, str]]:
    """Endless questions with their right answers."""
    while True:
        color = tuple(min(255, max(0, value + rng.randrange(-25, 26))) for value in rng.choice((RED, BLUE)))
        red = color[0] > color[2]
        shown = (picture(color, rng.choice((12, 24, 56, 112))),)
        said = " ".join(rng.choices(WORDS, k=rng.randrange(1, 10)))
        chain = " ".join(rng.choices(WORDS, k=rng.randrange(0, 20)))
        yield _question("prompt_image", shown, prompt=said), _score(10 if red else 2)
        yield _question("semantic", (), prompt=said, chain=chain), _score(6)
        yield _question("spatial", (_layout(rng),), prompt=said), _score(8)
        text = GROUNDING.fill({"name": " ".join(said.split()[:3])})
        boxes = json.dumps([{"bbox_2d": BOX}] if red else [])
        yield (
            Question(kind="grounding", text=text, lead=GROUNDING.lead, images=shown, scored=False),
            f"```json\n{boxes}\n```",
        )


def _question(kind: str, images: tuple[Image.Image, ...], **fields: str) -> Question:
    rubric = Rubric(kind, *fields)
    return Question(kind=kind, text=rubric.fill(fields), lead=rubric.lead, images=images)


def _score(score: int) -> str:
    return json.dumps({"score": score})


def _layout(rng: random.Random) -> Image.Image:
    left, top = rng.randrange(500), rng.randrange(500)
    right, bottom = left + rng.randrange(50, 500), top + rng.randrange(50, 500)
    box = f"<|box_start|>({left},{top}),({right},{bottom})<|box_end|>"
    return draw_layout(parse(f"<|obj_start|>{rng.choice(WORDS)}<|obj_end|> {box}<begin_of_image>"), 112)


def tokenizer() -> Any:
    """Byte-level BPE that isolates digits, as Qwen's does, trained on our questions."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    raw = Tokenizer(models.BPE())
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, behavior="isolated"), byte_level]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [path.read_text(encoding="utf-8") for path in RUBRICS.glob("*.txt")] + [
        GROUNDING.template.template,
        " ".join(WORDS),
    ]
    texts += ['```json\n[{"bbox_2d": [1, 1, 9, 9]}]\n```', "system\nuser\nassistant\n"]
    raw.train_from_iterator(texts, trainer)
    written = json.loads(raw.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=written["vocab"],
        merges=[tuple(merge) for merge in written["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
        chat_template=TEMPLATE,
    )


def untrained(family: str, words: Any, seed: int = 0) -> Any:
    """A random model of `qwen2_5_vl` or `qwen3_vl` with a vocabulary for the tokenizer `words`."""
    import torch
    import transformers

    torch.manual_seed(seed)
    text = {
        **{
            "vocab_size": len(words),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        **{
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "head_dim": 16,
        },
        **{"bos_token_id": None, "eos_token_id": words.convert_tokens_to_ids("<|im_end|>")},
    }
    ids = {
        f"{name}_token_id": words.convert_tokens_to_ids(f"<|{name}|>")
        for name in ("vision_start", "vision_end")
    }
    ids |= {f"{kind}_token_id": words.convert_tokens_to_ids(f"<|{kind}_pad|>") for kind in ("image", "video")}
    vision: dict[str, Any] = {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 64,
        "out_hidden_size": 64,
    }
    if family == "qwen2_5_vl":
        text["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
        vision |= {
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        }
        config = transformers.Qwen2_5_VLConfig(
            text_config=text, vision_config=vision, tie_word_embeddings=True, **ids
        )
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    else:
        text["rope_parameters"] = {
            "rope_type": "default",
            "mrope_section": [2, 3, 3],
            "mrope_interleaved": True,
            "rope_theta": 10000.0,
        }
        vision |= {
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
        }
        config = transformers.Qwen3VLConfig(
            text_config=text, vision_config=vision, tie_word_embeddings=True, **ids
        )
        model = transformers.Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = words.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.pad_token_id = words.convert_tokens_to_ids("<|endoftext|>")
    return model.eval()


def processor(family: str, words: Any) -> Any:
    from transformers import Qwen2VLImageProcessorPil

    from harness.experts.judge.processor import ImageOnlyQwen2_5VLProcessor, ImageOnlyQwen3VLProcessor

    kind = ImageOnlyQwen2_5VLProcessor if family == "qwen2_5_vl" else ImageOnlyQwen3VLProcessor
    images = Qwen2VLImageProcessorPil(size=PIXELS, patch_size=14 if family == "qwen2_5_vl" else 16)
    return kind(images, words, chat_template=TEMPLATE)


def write(folder: Path, family: str = "qwen2_5_vl", *, steps: int = 0) -> None:
    """A checkpoint folder, trained for `steps`; without, its weights are large enough that answers vary.

    Its processor is remote code, so that a server without torchvision loads it.
    """
    import torch

    from harness.experts.judge import processor as own

    words = tokenizer()
    model, reader = untrained(family, words), processor(family, words)
    if steps:
        train(model, reader, steps)
    else:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
    own.ImageOnlyQwen2_5VLProcessor.register_for_auto_class("AutoProcessor")
    model.save_pretrained(folder)
    reader.save_pretrained(folder)


def train(model: Any, reader: Any, steps: int, batch: int = 8) -> float:
    """Teaches the lessons; returns the last loss."""
    import torch

    words, rng = reader.tokenizer, random.Random(0)
    words.padding_side = "left"
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    endless, loss = lessons(rng), float("nan")
    model.train()
    for _ in range(steps):
        asked = [next(endless) for _ in range(batch)]
        inputs = encode(reader, [question for question, _ in asked], [answer for _, answer in asked])
        lengths = [len(words(f"{answer}<|im_end|>\n")["input_ids"]) for _, answer in asked]
        labels = inputs["input_ids"][:, -max(lengths) :].clone()
        for row, length in zip(labels, lengths, strict=True):
            row[:-length] = -100
        logits = model(**inputs, logits_to_keep=max(lengths) + 1).logits[:, :-1]
        last = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        last.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss = last.item()
    model.eval()
    return loss


def encode(reader: Any, questions: list[Question], answers: list[str] | None = None) -> Any:
    """The inputs of a batch, each with its answer if given."""
    talks = []
    for row, question in enumerate(questions):
        parts: list[dict[str, Any]] = [{"type": "text", "text": question.text[: question.lead]}]
        parts += [{"type": "image", "image": image} for image in question.images]
        parts.append({"type": "text", "text": question.text[question.lead :]})
        talk = [{"role": "user", "content": parts}]
        talks.append(
            [*talk, {"role": "assistant", "content": [{"type": "text", "text": answers[row]}]}]
            if answers
            else talk
        )
    return reader.apply_chat_template(
        talks,
        tokenize=True,
        return_dict=True,
        add_generation_prompt=answers is None,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )


class Server:
    """`transformers serve` with one folder, on loopback; started at once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self, *, patience_s: float = 300) -> None:
        """Returns once it answers; after a stop, on the same port."""
        shared = self._folder.parent
        (shared / "hub").mkdir(exist_ok=True)
        log = shared / f"serve-{os.getpid()}-{time.time_ns()}.log"
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(self._folder)]
        command += ["--device", "cpu", "--dtype", "float32", "--trust-remote-code"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_CACHE": str(shared / "hub"),
            "HF_MODULES_CACHE": str(log.with_suffix(".modules")),  # servers would write over each other's
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        environment.pop("PYTHONPATH", None)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=shared
            )
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers(log.read_text(encoding="utf-8", errors="replace")):
                return
            time.sleep(0.1)
        self.stop()
        written = log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the server did not start:\n{written[-3000:]}")

    def _answers(self, written: str) -> bool:
        """Whether the server is ready; learns its port from the log."""
        import httpx2

        named = re.search(r"running on http://127\.0\.0\.1:([0-9]+)", written)
        if named is None:
            return False
        self._port = int(named.group(1))
        health = self.url.removesuffix("v1") + "health"
        try:
            return httpx2.get(health, timeout=2, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
