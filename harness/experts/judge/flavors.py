"""What is sent to each kind of OpenAI-compatible server, and what is read from its answer."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.experts.judge.expected import PREFILL
from harness.types import Answer, Question

if TYPE_CHECKING:
    from PIL.Image import Image

TOP_LOGPROBS = 20  # what all servers give at most
ONLY_A_SCORE = r"\{\"score\": (10|[0-9])\}"
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "score",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"score": {"type": "integer", "enum": list(range(11))}},
            "required": ["score"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """Names and values of fields that servers disagree on; a field that a server does not know may be a 400 or 422 there."""

    length: str = "max_tokens"
    plain: Mapping[str, Any] = field(
        default_factory=dict
    )  # undo what the model's own generation config would change
    constrained: Mapping[str, Any] | None = (
        None  # an answer that is {"score": N}; None where log-probs are not given either
    )
    prefilled: Mapping[str, Any] | None = (
        None  # goes on with the assistant's message; None where that is not possible
    )


FLAVOURS = {
    "vllm": Flavour(
        plain={"top_k": -1, "repetition_penalty": 1.0},
        constrained={"structured_outputs": {"regex": ONLY_A_SCORE}},
        prefilled={"continue_final_message": True, "add_generation_prompt": False},
    ),
    "sglang": Flavour(
        plain={"top_k": -1, "repetition_penalty": 1.0},
        constrained={"regex": ONLY_A_SCORE},
        prefilled={"continue_final_message": True},
    ),
    "openai": Flavour(length="max_completion_tokens", constrained={"response_format": _SCHEMA}),
    "transformers": Flavour(),
}


def messages(question: Question) -> list[dict[str, Any]]:
    """One user message: the rubric's fixed beginning, the images as PNG, the rest of the text."""
    parts = [
        _text(question.text[: question.lead]),
        *map(_picture, question.images),
        _text(question.text[question.lead :]),
    ]
    return [{"role": "user", "content": [part for part in parts if part.get("text") != ""]}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(image: Image) -> dict[str, Any]:
    """PNG, because JPEG would change the reward."""
    written = io.BytesIO()
    image.convert("RGB").save(written, format="PNG", compress_level=1)
    address = f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": address, "detail": "high"}}


def read_answer(content: Mapping[str, Any]) -> Answer:
    """The first choice of a chat completion; a failure where it is none."""
    try:
        choice = content["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason") or "stop"
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        return Answer(
            text=None, failure=f"the server's answer is no chat completion ({type(error).__name__}: {error})"
        )
    if text is not None and not isinstance(text, str):
        return Answer(text=None, failure=f"the server's answer is no text but a {type(text).__name__}")
    return Answer(text=text or refusal, finish="refusal" if refusal else finish)


def logprobs(content: Mapping[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """Every token of the answer with the probabilities of the likeliest tokens in its place; [] where the server gave none."""
    places = (content["choices"][0].get("logprobs") or {}).get("content") or []
    return [
        (
            str(place["token"]),
            {str(top["token"]): math.exp(top["logprob"]) for top in place.get("top_logprobs") or ()},
        )
        for place in places
    ]


def first_digit(places: Sequence[tuple[str, dict[str, float]]]) -> int | None:
    """The index of the token that begins the number, where it is a token of its own."""
    for index, (token, tops) in enumerate(places):
        if any(character.isdigit() for character in token):
            return index if token.strip().isdigit() and tops else None
    return None


def continued(question: Question, flavour: Flavour) -> dict[str, Any]:
    """The fields of a request for what follows when the answer has begun with a score of 1."""
    assert flavour.prefilled is not None
    return {
        "messages": [*messages(question), {"role": "assistant", "content": f"{PREFILL}1"}],
        **flavour.prefilled,
    }
