"""Requests to each kind of OpenAI-compatible server, and the reading of its answers."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.experts.judge.answers import CUT
from harness.experts.judge.expected import PREFILL
from harness.types import Answer, Question

if TYPE_CHECKING:
    from PIL.Image import Image

TOP_LOGPROBS = 20  # the most that every server gives
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
class Dialect:
    """The request fields that servers disagree on. A server may answer an unknown field with 400 or 422.

    Args:
        length: the name of the field that limits the answer's tokens.
        plain: fields that undo the sampling settings of the model's own generation config.
        constrained: fields for an answer {"score": N}; None for a server that gives no log-probs either.
        prefilled: fields to continue the assistant's message; None if the server cannot.
    """

    length: str = "max_tokens"
    plain: Mapping[str, Any] = field(default_factory=dict)
    constrained: Mapping[str, Any] | None = None
    prefilled: Mapping[str, Any] | None = None


DIALECTS = {
    "vllm": Dialect(
        plain={"top_k": -1, "repetition_penalty": 1.0},
        constrained={"structured_outputs": {"regex": ONLY_A_SCORE}},
        prefilled={"continue_final_message": True, "add_generation_prompt": False},
    ),
    "sglang": Dialect(
        plain={"top_k": -1, "repetition_penalty": 1.0},
        constrained={"regex": ONLY_A_SCORE},
        prefilled={"continue_final_message": True},
    ),
    "openai": Dialect(length="max_completion_tokens", constrained={"response_format": _SCHEMA}),
    "transformers": Dialect(),
}


class WeighedToken(NamedTuple):
    """A token of an answer, and the probabilities of the likeliest tokens at its position."""

    text: str
    probabilities: dict[str, float]


def messages(question: Question) -> list[dict[str, Any]]:
    """One user message: the rubric's fixed beginning, the images as PNG, the rest of the text."""
    content = [
        _text(question.text[: question.lead]),
        *map(_image, question.images),
        _text(question.text[question.lead :]),
    ]
    return [{"role": "user", "content": [item for item in content if item.get("text") != ""]}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(image: Image) -> dict[str, Any]:
    """The image as PNG: JPEG would change the reward."""
    png = io.BytesIO()
    image.convert("RGB").save(png, format="PNG", compress_level=1)
    url = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def read_answer(content: Mapping[str, Any]) -> Answer:
    """The first choice of a chat completion, or a failure if there is none.

    An answer without a finish reason may be cut.
    """
    try:
        choice = content["choices"][0]
        message, finish = choice["message"], str(choice.get("finish_reason") or CUT)
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        return Answer(
            text=None, failure=f"the server's answer is no chat completion ({type(error).__name__}: {error})"
        )
    if text is not None and not isinstance(text, str):
        return Answer(text=None, failure=f"the server's answer is no text but a {type(text).__name__}")
    return Answer(text=text or refusal, finish="refusal" if refusal else finish)


def read_tokens(content: Mapping[str, Any]) -> list[WeighedToken]:
    """The tokens of an answer with their alternatives; [] if the server gave no log-probs."""
    tokens = []
    for position in (content["choices"][0].get("logprobs") or {}).get("content") or []:
        alternatives = position.get("top_logprobs") or ()
        probabilities = {str(top["token"]): math.exp(top["logprob"]) for top in alternatives}
        tokens.append(WeighedToken(str(position["token"]), probabilities))
    return tokens


def first_digit(tokens: Sequence[WeighedToken]) -> int | None:
    """The index of the token that begins the number; None if it holds other characters too."""
    for index, token in enumerate(tokens):
        if any(character.isdigit() for character in token.text):
            return index if token.text.strip().isdigit() and token.probabilities else None
    return None


def continue_after_one(question: Question, dialect: Dialect) -> dict[str, Any]:
    """The fields of a request for the token that follows an answer that begins with a score of 1."""
    assert dialect.prefilled is not None
    begun = {"role": "assistant", "content": f"{PREFILL}1"}
    return {"messages": [*messages(question), begun], **dialect.prefilled}
