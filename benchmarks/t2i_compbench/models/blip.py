"""BLIP-VQA (arXiv 2201.12086) as T2I-CompBench uses it (`BLIP_vqa.py`, 1b70949): the probability of
yes against no.

An image is encoded once for all its questions. They stand side by side in one row and do not attend to
each other, so that cross-attention computes the keys and values of the image once, too. For the decoder,
questions of different lengths are never padded, because the library's code ignores the mask of the states
that it attends to.

Shape letters: B images, P their positions, T tokens of all questions of an image, D width, N questions, L
tokens of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from benchmarks.t2i_compbench.models.blip_original import (
    HEAD_WIDTH,
    TEXT_EPS,
    VISION_EPS,
    WORDS,
    blip_model,
    read_checkpoint,
)
from harness.experts.pixels import normalised_3HW, squeezed, unit_3HW
from harness.experts.pretrained import Pretrained, blocks, freeze, read_serving
from harness.names import HUB_ID
from harness.paths import user_path
from harness.protocols import Vqa

if TYPE_CHECKING:
    import torch

WHERE = "benchmarks.scoring.vqa"
ORIGINAL = (
    "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_base_vqa_capfilt_large.pth"
)
ORIGINAL_NAME = ORIGINAL.rpartition("/")[2]
IMAGE_SIZE = 480  # of the original; copies in transformers' layout were made at 384 and know their own
LONGEST = 35  # tokens of a question, its first and last included
YES, NO, DECODE, ENCODE = 2748, 2053, 30522, 30523  # ids; the last two begin an answer and a question
KNOWN = {"[CLS]": 101, "[SEP]": 102, "yes": YES, "no": NO}  # to tell BERT-base-uncased by
FILES = (".pth", ".pt", ".bin", ".safetensors")

Ids = Sequence[Sequence[Sequence[int]]]  # of the tokens of every question of every image


class BlipVqa(Vqa):
    """P(yes) / (P(yes) + P(no)) in float32.

    Args:
        checkpoint: the original `.pth`, which runs at 480 pixels; or the hub id or folder of a copy in
            transformers' layout, an approximation that runs at its own size and is named as such; a file
            of another name is named, too. None: not given, which `missing` says and `load` and `yes`
            refuse.
        tokenizer: hub id or folder of BERT-base-uncased's tokenizer.
        serving: what changes no answer: `batch_size`, images at once, and `device`, `auto` or a torch device.

    Raises:
        ValueError: a setting that cannot be, or a path where nothing is.
    """

    def __init__(self, *, checkpoint: str | None, tokenizer: str, serving: Mapping[str, Any]) -> None:
        device, self._batch = read_serving(WHERE, serving)
        shared = {"where": WHERE, "device": device, "dtype": "float32"}
        self._tokens = Pretrained(model=tokenizer, setting="tokenizer", **shared)
        self._weights: Pretrained | None = None
        if checkpoint:
            _check_there(checkpoint)
            self._weights = Pretrained(model=checkpoint, setting="checkpoint", **shared)
        self.given = self._weights is not None
        self._original = self._weights is None or Path(self._weights.model).is_file()
        self.external: tuple[str, ...] = (self._weights.model,) if self._weights and self._original else ()
        self.name = self._called()

    def _called(self) -> str:
        if self._weights is None or Path(self._weights.model).name == ORIGINAL_NAME:
            return "BLIP-VQA"
        return (
            f"BLIP-VQA ({Path(self._weights.model).name})"
            if self._original
            else "BLIP-VQA (hub copy, approximate)"
        )

    def missing(self) -> list[str]:
        """The checkpoint, where none is given, and what the hub's cache lacks."""
        return [*(self._weights.missing() if self._weights else [_not_given()]), *self._tokens.missing()]

    def load(self) -> None:
        """Reads the weights and the tokenizer, which `yes` does otherwise when it is first asked.

        Raises:
            ValueError: they are not there, or another model's; says what to do.
        """
        _ = self._model, self._tokenizer

    def yes(self, images: Sequence[Image], questions: Sequence[Sequence[str]]) -> list[list[float]]:
        """The probability of every question of every image, unrounded. An image without a question is not
        looked at.

        Args:
            images: of any size and mode.
            questions: of each image; cleaned already (T2I-CompBench's rules say how), they are read as
                they are, cut to 35 tokens.

        Raises:
            ValueError: not one list of questions for each image; no weights; or the weights give no numbers.
        """
        if len(images) != len(questions):
            raise ValueError(
                f"{len(images)} images and {len(questions)} lists of questions: give one list for each image"
            )
        asked = [place for place, few in enumerate(questions) if few]
        found: list[list[float]] = [[] for _ in questions]
        if asked:
            self.load()
            every = iter(
                self._tokenizer(list(chain(*questions)), truncation=True, max_length=LONGEST).input_ids
            )
            ids = [list(islice(every, len(questions[place]))) for place in asked]
            values = probabilities(self._model, [images[place] for place in asked], ids, self._batch)
            for place, of_image in zip(asked, values, strict=True):
                found[place] = of_image
        return found

    @cached_property
    def _model(self) -> Any:
        if self._weights is None:
            raise ValueError(_not_given())
        if not self._original:
            from transformers import BlipForQuestionAnswering

            return self._weights.load(BlipForQuestionAnswering, amend=_as_official)
        file = Path(self._weights.model)
        try:
            model = blip_model(read_checkpoint(file), image_size=IMAGE_SIZE)
        except ValueError as error:
            raise ValueError(f"{WHERE}.checkpoint={file}: {error}. The original is {ORIGINAL}") from error
        return freeze(model, self._weights.device())

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import BertTokenizer

        found = self._tokens.processor(BertTokenizer)
        ids = {word: found.convert_tokens_to_ids(word) for word in KNOWN}
        odd = {word: id for word, id in ids.items() if id != KNOWN[word]}
        if odd:
            told = ", ".join(f"{word} is {known} (and {KNOWN[word]} in BLIP)" for word, known in odd.items())
            raise ValueError(
                f"{WHERE}.tokenizer={self._tokens.model} is not BERT-base-uncased's tokenizer: there "
                f"{told}. Its files are missing, or "
                "another model's; give google-bert/bert-base-uncased or a folder that holds it. "
                f"{self._tokens.advice()}"
            )
        return found


def _check_there(checkpoint: str) -> None:
    path = user_path(checkpoint)
    if not path.exists() and (path.suffix in FILES or not HUB_ID.fullmatch(checkpoint)):
        raise ValueError(
            f"{WHERE}.checkpoint={checkpoint}: there is no such file or folder, and it is no hub id. "
            f"{_not_given()}"
        )


def _not_given() -> str:
    return (
        f"BLIP-VQA needs its original checkpoint {ORIGINAL_NAME}: fetch {ORIGINAL} and set "
        f"{WHERE}.checkpoint=FILE or "
        "BLIP_VQA_CHECKPOINT (a copy on the hub, in transformers' layout, is an approximation)"
    )


def _as_official(config: Any) -> None:
    """What the configurations of the hub's copies leave to the library's defaults, which are not BLIP's.

    Raises:
        ValueError: it is no BLIP with words for beginning questions and answers.
    """
    vision, text = config.vision_config, config.text_config
    if text.vocab_size != WORDS:
        raise ValueError(
            f"{WHERE}.checkpoint: the vocabulary there has {text.vocab_size} words, and BLIP-VQA's has "
            f"{WORDS}"
        )
    vision.layer_norm_eps, text.layer_norm_eps = VISION_EPS, TEXT_EPS
    for tower in (vision, text):
        tower.num_attention_heads = tower.hidden_size // HEAD_WIDTH


def probabilities(model: Any, images: Sequence[Image], ids: Ids, batch: int) -> list[list[float]]:
    """The probability of every question of every image; each image has at least one.

    Args:
        model: a `BlipForQuestionAnswering`; the images are made as large as it wants them.
        images: of any size and mode.
        ids: the tokens of the questions of each, `[CLS]` first.
        batch: images at once.

    Raises:
        ValueError: a probability is not finite.
    """
    import torch

    side, found = model.config.vision_config.image_size, []
    with torch.inference_mode():
        for places in blocks(range(len(images)), batch):
            pixels_B3HW = torch.stack(
                [normalised_3HW(unit_3HW(squeezed(images[place], side))) for place in places]
            )
            found += answers(model, pixels_B3HW.to(model.device), [ids[place] for place in places])
    if not all(map(math.isfinite, chain(*found))):
        raise ValueError(f"{WHERE}: the weights give no finite probabilities: they are damaged")
    return found


def answers(model: Any, pixels_B3HW: torch.Tensor, ids: Ids) -> list[list[float]]:
    """The same of one batch of normalised pixels."""
    import torch

    states_BPD = model.vision_model(pixels_B3HW).last_hidden_state
    tokens_BT, positions_BT, mask_B1TT = (one.to(states_BPD.device) for one in _side_by_side(ids))
    asked_BTD = model.text_encoder(
        tokens_BT, position_ids=positions_BT, attention_mask=mask_B1TT, encoder_hidden_states=states_BPD
    ).last_hidden_state
    lengths = [list(map(len, questions)) for questions in ids]
    asked: list[torch.Tensor] = []
    for row_TD, of_image in zip(asked_BTD, lengths, strict=True):
        asked += row_TD[: sum(of_image)].split(of_image)
    values = torch.empty(len(asked))
    for length in set(chain(*lengths)):
        equal = [number for number, one_LD in enumerate(asked) if len(one_LD) == length]
        values[equal] = _yes_N(model.text_decoder, torch.stack([asked[number] for number in equal]))
    every = iter(values.tolist())
    return [list(islice(every, len(few))) for few in ids]


def _side_by_side(ids: Ids) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The questions of each image as one row: tokens_BT, positions_BT that restart for each question, and
    mask_B1TT, 0 within a question.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokens, positions, owners = [], [], []
    for questions in ids:
        tokens.append(
            torch.tensor(list(chain.from_iterable((ENCODE, *question[1:]) for question in questions)))
        )
        positions.append(torch.cat([torch.arange(len(question)) for question in questions]))
        numbered = [torch.full((len(question),), number) for number, question in enumerate(questions)]
        owners.append(torch.cat(numbered))
    owner_BT = pad_sequence(owners, batch_first=True, padding_value=-1)
    others_BTT = owner_BT[:, :, None] != owner_BT[:, None]
    mask_B1TT = torch.zeros(others_BTT.shape).masked_fill(others_BTT, torch.finfo(torch.float32).min)[:, None]
    return pad_sequence(tokens, batch_first=True), pad_sequence(positions, batch_first=True), mask_B1TT


def _yes_N(decoder: Any, questions_NLD: torch.Tensor) -> torch.Tensor:
    """From the decoder's first word, of which only yes and no are computed: the rest of the softmax
    cancels.
    """
    import torch

    start_N1 = torch.full((len(questions_NLD), 1), DECODE, device=questions_NLD.device)
    states_N1D = decoder.bert(
        start_N1, encoder_hidden_states=questions_NLD, is_decoder=True, use_cache=False
    ).last_hidden_state
    head, words = decoder.cls.predictions, [YES, NO]
    logits_N12 = torch.nn.functional.linear(
        head.transform(states_N1D), head.decoder.weight[words], head.decoder.bias[words]
    )
    yes_N, no_N = logits_N12[:, 0].unbind(1)
    return torch.sigmoid(yes_N - no_N).cpu()
