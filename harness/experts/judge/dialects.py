"""Requests to each kind of OpenAI-compatible server, and the reading of its answers."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.experts.judge.answers import CUT
from harness.experts.judge.expected import PREFILL
from harness.types import Answer, Question

if TYPE_CHECKING:
    from PIL.Image import Image

NO_COMPLETION = "the server's answer is no chat completion"
STATUS_BY_NAME = {  # the names of errors that servers give in the place of a status
    **dict.fromkeys(
        ("rate_limit_exceeded", "rate_limit_error", "too_many_requests", "resource_exhausted"), 429
    ),
    **dict.fromkeys(("insufficient_quota", "throttled"), 429),
    **dict.fromkeys(("invalid_request_error", "invalid_request", "bad_request", "badrequesterror"), 400),
    **dict.fromkeys(("context_length_exceeded", "invalid_argument", "content_policy_violation"), 400),
    **dict.fromkeys(("invalid_api_key", "authentication_error", "unauthenticated"), 401),
    **dict.fromkeys(("permission_error", "permission_denied"), 403),
    **dict.fromkeys(("model_not_found", "not_found_error", "not_found", "notfounderror"), 404),
    **dict.fromkeys(
        ("server_error", "internal_error", "internal_server_error", "internal", "api_error"), 500
    ),
    **dict.fromkeys(("overloaded_error", "unavailable", "service_unavailable"), 503),
}
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
        sampling: whether fields of sampling (temperature, top_p, seed) are taken.
    """

    length: str = "max_tokens"
    plain: Mapping[str, Any] = field(default_factory=dict)
    constrained: Mapping[str, Any] | None = None
    prefilled: Mapping[str, Any] | None = None
    sampling: bool = True


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
REASONING = Dialect(length="max_completion_tokens", sampling=False)
_OPENAI_REASONING = re.compile(
    r"(?:.*/)?(?:o[1-9]|gpt-(?:[5-9]|[1-9][0-9]))(?![0-9])(?!.*-chat)", re.IGNORECASE
)


def dialect_of(flavour: str, model: str) -> Dialect:
    """The fields for a model on a server. OpenAI's reasoning models (o1, GPT-5) refuse some of its others."""
    if flavour == "openai" and _OPENAI_REASONING.match(model):
        return REASONING
    return DIALECTS[flavour]


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


def holds_error(content: Mapping[str, Any]) -> bool:
    """Whether an answer with status 200 is an error all the same, as proxies and routers send it."""
    choice = _choice(content)
    message = (choice or {}).get("message")
    return bool(_error(content, choice)) and not (isinstance(message, Mapping) and message.get("content"))


def error_status(content: Mapping[str, Any]) -> int | None:
    """The HTTP status that an error within an answer stands for; None if its code is unknown."""
    error = _error(content, _choice(content))
    if not isinstance(error, Mapping):
        return None
    for name in ("code", "status", "status_code", "http_status", "type"):
        code = str(error.get(name) or "").strip().lower()
        if code.isascii() and code.isdigit() and 400 <= int(code[:4]) <= 599:
            return int(code)
        if code in STATUS_BY_NAME:
            return STATUS_BY_NAME[code]
    return None


def _choice(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = content.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else None


def _error(content: Mapping[str, Any], choice: Mapping[str, Any] | None) -> Any:
    """The error of an answer: its own, that of its first choice, or the answer itself (old vLLM)."""
    if content.get("object") == "error":
        return content
    return content.get("error") or (choice or {}).get("error")


def _text_of(message: Mapping[str, Any]) -> str:
    """The text of a message: its content, or the text parts of it; thoughts are no part of the answer.

    Raises:
        TypeError: the content is neither.
    """
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TypeError(f"no text but a {type(content).__name__}")
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping):
            raise TypeError(f"no text but a list with a {type(part).__name__}")
        elif part.get("type", "text") in ("text", "output_text"):
            texts.append(str(part.get("text") or ""))
    return "".join(texts)


def read_answer(content: Mapping[str, Any]) -> Answer:
    """The first choice of a chat completion, or a failure if there is none.

    An answer without a finish reason may be cut.
    """
    choice = _choice(content)
    message = (choice or {}).get("message")
    if choice is None or not isinstance(message, Mapping):
        return Answer(text=None, failure=f"{NO_COMPLETION}: it has no message in choices")
    finish, refusal = str(choice.get("finish_reason") or CUT), str(message.get("refusal") or "")
    try:
        text = _text_of(message)
    except TypeError as error:
        return Answer(text=None, failure=f"the server's answer is {error}")
    if finish.lower() == CUT and not text and (thinking := _thinking(content, message)):
        return Answer(text=None, finish=finish, failure=thinking)
    return Answer(text=text or refusal or None, finish="refusal" if refusal else finish)


def _thinking(content: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    """The reason for an answer without text, if the model spent its tokens on thinking."""
    usage = content.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, Mapping) else None
    count = details.get("reasoning_tokens") if isinstance(details, Mapping) else None
    if not count and not message.get("reasoning_content") and not message.get("reasoning"):
        return None
    return (
        f"the model spent {f'all {count} tokens' if count else 'its tokens'} on thinking and wrote no answer:"
        " raise judge.max_tokens, or let it think less (OpenAI: ++judge.extra.reasoning_effort=low)"
    )


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
