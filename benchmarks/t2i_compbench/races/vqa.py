"""The official way to BLIP-VQA's answers beside ours, on one random model of small size: same weights,
images and answers.

The official program (`BLIPvqa_eval`, 1b70949) goes through all images eight times, once for each
question, and asks blank ones where a prompt has fewer phrases. All systems run the same code, so that
only what is left out differs: the official one is thus faster than the program, which also computes 30524
words of an answer where two are wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.t2i_compbench.models.blip import Ids, probabilities
from benchmarks.t2i_compbench.models.blip_original import HEAD_WIDTH, TEXT_EPS, VISION_EPS
from harness.protocols import Race

QUESTIONS = {
    2: 142,
    3: 83,
    4: 18,
    5: 21,
    6: 26,
    7: 9,
    8: 1,
}  # questions of a complex val prompt -> prompts, by the rules for noun phrases
MOST = 8
IMAGES, BATCH = 32, 16
PICTURE, SIDE, PATCH, WIDTH, LAYERS = 256, 160, 16, 192, 4
TOKENS = 6  # of a question of those prompts, on average
FIRST, LAST, WORD = 101, 102, 1000

Answers = list[list[float]]  # of the questions of each image


def vqa_race() -> Iterator[Race]:
    """Four systems; the second and third leave out one thing each, ours both. All answer the same
    questions.
    """
    work = Work(IMAGES)
    probabilities(
        work.model, work.images[:1], work.ids[:1], BATCH
    )  # not timed: the first call is slower than others
    yield Race(
        work=(
            f"random BLIP of width {WIDTH} and {LAYERS} layers at {SIDE} pixels: yes-no questions of "
            "T2I-CompBench's complex prompts"
        ),
        setting=f"{IMAGES} images, float32",
        amount=IMAGES,
        unit="images",
        counts={"answers": sum(map(len, work.ids))},
        count_unit="answers",
        systems={name: partial(_timed, way) for name, way in work.ways().items()},
    )


class Work:
    """Images, each with as many questions as T2I-CompBench's complex val prompts have in the mean, and a
    model to ask (default: the small one).
    """

    def __init__(self, images: int, model: Any = None) -> None:
        random = np.random.default_rng(0)
        counts = sorted(chain.from_iterable([count] * prompts for count, prompts in QUESTIONS.items()))
        self.model = random_blip(WIDTH, LAYERS, SIDE) if model is None else model
        self.images = [
            Image.fromarray(random.integers(0, 256, (PICTURE, PICTURE, 3), dtype=np.uint8))
            for _ in range(images)
        ]
        self.ids: Ids = []
        for place in range(images):
            count = counts[(2 * place + 1) * len(counts) // (2 * images)]
            words = [random.integers(WORD, 30000, TOKENS - 2).tolist() for _ in range(count)]
            self.ids.append([[FIRST, *of_question, LAST] for of_question in words])

    def ways(self) -> Mapping[str, Callable[[], Answers]]:
        blank = [[*few, *[[FIRST, LAST]] * (MOST - len(few))] for few in self.ids]
        return {
            "official": partial(self._passes, blank),
            "image once": partial(self._ask, self.images, blank),
            "blanks skipped": partial(self._passes, self.ids),
            "ours": partial(self._ask, self.images, self.ids),
        }

    def _ask(self, images: Sequence[Image.Image], ids: Ids) -> Answers:
        return probabilities(self.model, images, ids, BATCH)

    def _passes(self, ids: Ids) -> Answers:
        """One pass for each question, of all images that have it."""
        found: Answers = [[] for _ in ids]
        for number in range(MOST):
            places = [place for place, few in enumerate(ids) if number < len(few)]
            values = self._ask(
                [self.images[place] for place in places], [[ids[place][number]] for place in places]
            )
            for place, value in zip(places, values, strict=True):
                found[place] += value
        return found


def random_blip(width: int, layers: int, side: int) -> Any:
    """A `BlipForQuestionAnswering` of random weights whose answers differ, for images of `side` pixels."""
    import torch
    from transformers import BlipConfig, BlipForQuestionAnswering

    shared = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD_WIDTH,
    }
    config = BlipConfig(
        vision_config={**shared, "image_size": side, "patch_size": PATCH, "layer_norm_eps": VISION_EPS},
        text_config={**shared, "max_position_embeddings": 64, "layer_norm_eps": TEXT_EPS},
    )
    model = BlipForQuestionAnswering(config).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.normal_(std=width**-0.5, generator=generator)
    return model


def _timed(way: Callable[[], Answers]) -> Mapping[str, float]:
    begun = time.perf_counter()
    way()
    return {"answers": time.perf_counter() - begun}
