"""A judge in this process: Qwen2.5-VL or Qwen3-VL through transformers.

The model stays in memory beside the policy (a 7B takes 16 GB in bfloat16). A served one is faster
(`harness.experts.judge.server`).

Shapes: B questions, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.experts.judge.cache import AnswerCache, ask_each_once
from harness.experts.judge.expected import LEAST_MASS, PREFILL, expected_score
from harness.experts.judge.server import check_settings
from harness.experts.pretrained import Pretrained, blocks
from harness.protocols import ModelJudge
from harness.settings import whole_number
from harness.types import Answer, Question

if TYPE_CHECKING:
    import torch

AFTER_ONE = ("0", "}", "}\n", ",", ".")  # tokens that may follow a 1: another digit, or the number's end


class MllmJudge(ModelJudge):
    """Asks a model in this process. The first question loads it; judges with equal settings share it.

    Args:
        model: hub id, or a folder in the layout of `save_pretrained`.
        dtype: the dtype of the weights.
        score: `text`: the score that the model writes; `expected`: the mean of 0 to 10 under the model's own
            probabilities, from one forward pass.
        max_tokens: the length limit of an answer.
        retry_temperature: the temperature for questions that are asked again; the first answer is greedy.
        min_pixels: images with a smaller area are enlarged.
        max_pixels: images with a larger area are reduced.
        serving: settings that change no answer: `device`, `batch_size`, and `cache`, a folder for answers or
            null.

    Raises:
        ValueError: a setting has a value that is not allowed.
    """

    def __init__(
        self,
        *,
        model: str,
        dtype: str,
        score: str,
        max_tokens: int,
        retry_temperature: float,
        min_pixels: int,
        max_pixels: int,
        serving: Mapping[str, Any],
    ) -> None:
        check_settings(score, max_tokens, retry_temperature)
        self.limits = {
            name: whole_number(f"judge.{name}", value)
            for name, value in (("min_pixels", min_pixels), ("max_pixels", max_pixels))
        }
        if min_pixels > max_pixels:
            raise ValueError(f"judge.min_pixels={min_pixels} exceeds judge.max_pixels={max_pixels}")
        if set(serving) != {"device", "batch_size", "cache"}:
            raise ValueError(
                f"judge.serving has {', '.join(sorted(serving))}: it takes device, batch_size and cache"
            )
        self.model = model
        self._score, self._max_tokens, self._retry_temperature = score, max_tokens, retry_temperature
        self._batch_size = whole_number("judge.serving.batch_size", serving["batch_size"])
        self._weights = (model, dtype, serving["device"], min_pixels, max_pixels)
        Pretrained(where="judge", model=model, device=serving["device"], dtype=dtype)
        self._settings = f"{model} {dtype} {score} {max_tokens} {retry_temperature} {min_pixels} {max_pixels}"
        self.cache = AnswerCache(serving["cache"]) if serving["cache"] else None

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order.

        Raises:
            ValueError: there are no weights, or they belong to another family of models.
        """
        return ask_each_once(questions, self._settings, self.cache, self._ask_all)

    def _ask_all(self, questions: list[Question]) -> Iterator[tuple[int, Answer]]:
        """Yields (question's index, answer) in batches of questions of one kind and similar length."""
        import torch

        loaded = _load(*self._weights)
        with torch.inference_mode():
            for (attempt, wants_expected), indices in self._by_kind(questions).items():
                for batch in blocks(indices, self._batch_size):
                    batch_questions = [questions[index] for index in batch]
                    if wants_expected:
                        answers = loaded.weigh(batch_questions)
                    else:
                        answers = loaded.write(
                            batch_questions, self._max_tokens, self._retry_temperature, attempt
                        )
                    yield from zip(batch, answers, strict=True)

    def _by_kind(self, questions: list[Question]) -> dict[tuple[int, bool], list[int]]:
        """Indices of the questions that can share a batch, by (attempt, wants the expected score).

        The longest come first, so that memory runs out early or never.
        """
        kinds = [(question.attempt, self._score == "expected" and question.scored) for question in questions]
        indices: dict[tuple[int, bool], list[int]] = {kind: [] for kind in sorted(set(kinds))}
        for index, kind in enumerate(kinds):
            indices[kind].append(index)
        for members in indices.values():
            members.sort(key=lambda index: _length(questions[index]), reverse=True)
        return indices


def _length(question: Question) -> float:
    """The approximate number of tokens: one per four characters, and one per 28 x 28 pixels."""
    return len(question.text) / 4 + sum(image.width * image.height / 784 for image in question.images)


@cache
def _load(model: str, dtype: str, device: str, min_pixels: int, max_pixels: int) -> LoadedMllm:
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

    from harness.experts.judge.processor import ImageOnlyQwen2_5VLProcessor, ImageOnlyQwen3VLProcessor

    kinds: dict[str, tuple[type, type]] = {
        "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, ImageOnlyQwen2_5VLProcessor),
        "qwen3_vl": (Qwen3VLForConditionalGeneration, ImageOnlyQwen3VLProcessor),
    }
    weights = Pretrained(where="judge", model=model, device=device, dtype=dtype)
    family = weights.processor(AutoConfig).model_type
    if family not in kinds:
        raise ValueError(
            f"judge.model={model} is a {family}: in-process judges are {' and '.join(kinds)};"
            " serve others (judge=server)"
        )
    model_kind, processor_kind = kinds[family]
    # this backend gives the same pixels with and without torchvision
    processor = weights.processor(processor_kind, backend="pil")
    processor.image_processor.size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    processor.tokenizer.padding_side = "left"
    return LoadedMllm(weights.load(model_kind), processor)


class LoadedMllm:
    """A model and its processor."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor

    def write(
        self, questions: Sequence[Question], max_tokens: int, temperature: float, attempt: int
    ) -> list[Answer]:
        """Written answers: greedy at first; later attempts are sampled, with their number as seed."""
        import torch
        from transformers import GenerationConfig

        inputs = self._inputs([_conversation(question) for question in questions])
        ends = self.model.generation_config.eos_token_id
        greedy = {"do_sample": False}
        sampled = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        config = GenerationConfig(
            **(sampled if attempt else greedy),
            repetition_penalty=1.0,  # a checkpoint's own would penalize digits that occur in the question
            max_new_tokens=max_tokens,
            eos_token_id=ends,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        with torch.random.fork_rng(enabled=attempt > 0):
            if attempt:
                torch.manual_seed(attempt)
            ids_BT = self.model.generate(**inputs, generation_config=config)
        written_BT = ids_BT[:, inputs["input_ids"].shape[1] :]
        ended_B = torch.isin(written_BT, torch.tensor(ends, device=written_BT.device)).any(1).tolist()
        texts = self.processor.tokenizer.batch_decode(written_BT, skip_special_tokens=True)
        return [
            Answer(text=text, finish="stop" if ended else "length")
            for text, ended in zip(texts, ended_B, strict=True)
        ]

    def weigh(self, questions: Sequence[Question]) -> list[Answer]:
        """Expected scores from one forward pass.

        The answer is begun up to a 1: the position before it weighs all digits, the one after it 1 and 10.
        """
        begun = {"role": "assistant", "content": [{"type": "text", "text": f"{PREFILL}1"}]}
        conversations = [[*_conversation(question), begun] for question in questions]
        inputs = self._inputs(conversations, continue_final_message=True)
        logits_B2V = self.model(**inputs, logits_to_keep=2, use_cache=False).logits.float()
        answers = []
        for logits_2V in logits_B2V:
            first = self._probabilities(logits_2V[0], tuple("0123456789"))
            after_one = self._probabilities(logits_2V[1], AFTER_ONE)
            answers.append(_expected_answer(first, after_one))
        return answers

    def _probabilities(self, logits_V: torch.Tensor, words: Sequence[str]) -> dict[str, float]:
        """Probabilities over the whole vocabulary of those words that are one token."""
        ids = {word: self.processor.tokenizer.encode(word, add_special_tokens=False) for word in words}
        probability_V = logits_V.softmax(-1)
        return {word: probability_V[tokens[0]].item() for word, tokens in ids.items() if len(tokens) == 1}

    def _inputs(
        self, conversations: list[list[dict[str, Any]]], *, continue_final_message: bool = False
    ) -> Any:
        # control tokens within a text are read as plain text, so that no chain can forge a turn
        return self.processor.apply_chat_template(
            conversations,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=not continue_final_message,
            continue_final_message=continue_final_message,
            sanitize_control_tokens=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        ).to(self.model.device)


def _conversation(question: Question) -> list[dict[str, Any]]:
    """One user message, in the order of `harness.experts.judge.dialects.messages`."""
    lead, rest = question.text[: question.lead], question.text[question.lead :]
    content: list[dict[str, Any]] = []
    if lead:
        content.append({"type": "text", "text": lead})
    content += [{"type": "image", "image": image.convert("RGB")} for image in question.images]
    if rest:
        content.append({"type": "text", "text": rest})
    return [{"role": "user", "content": content}]


def _expected_answer(first: Mapping[str, float], after_one: Mapping[str, float]) -> Answer:
    expected, mass = expected_score(first, after_one)
    if mass < LEAST_MASS:
        return Answer(text=None, mass=mass, failure=f"the model gave scores a probability of {mass:.2f} only")
    return Answer(text=None, expected=expected, mass=mass)
