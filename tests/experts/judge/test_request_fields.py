"""The fields of a request: those of a model's family, and those that the user sets, adds or leaves out."""

from __future__ import annotations

import json

import pytest
from scripted_server import Script, reply, status

from harness.experts.judge.server import ServerJudge
from harness.types import Answer, Question


def question(**changes) -> Question:
    return Question(kind="prompt_image", text="how well?", **changes)


def judge(url: str, *, cache: str | None = None, **changes) -> ServerJudge:
    serving = {"key_variable": None, "concurrency": 2, "timeout_s": 5, "tries": 1, "patience_s": 5}
    settings = {"model": "m", "flavour": "vllm", "score": "text", "max_tokens": 64, "retry_temperature": 0.7}
    return ServerJudge(**settings | changes, serving={"url": url, "cache": cache, **serving})


def ask(script: Script, *questions: Question, **changes) -> list[Answer]:
    with script:
        return judge(script.url, **changes).ask(list(questions) or [question()])


@pytest.mark.parametrize("model", ["gpt-5-mini", "gpt-5", "o3", "o4-mini", "openai/gpt-5.1", "gpt-10"])
@pytest.mark.parametrize("attempt", [0, 1])
def test_openais_reasoning_models_are_sent_no_sampling(model, attempt):
    script = Script(reply())
    ask(script, question(attempt=attempt), flavour="openai", model=model)
    assert set(script.bodies[0]) == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "olmo", "my-o3"])
def test_other_models_are(model):
    script = Script(reply())
    ask(script, flavour="openai", model=model)
    assert {"temperature", "top_p"} <= set(script.bodies[0])


def test_fields_are_set_left_out_and_added():
    extra = {
        "temperature": None,
        "top_p": 0.9,
        "reasoning_effort": "low",
        "max_tokens": None,
        "max_completion_tokens": 9,
        "not_there": None,
    }
    script = Script(reply())
    ask(script, extra=extra)
    body = script.bodies[0]
    assert "temperature" not in body and "max_tokens" not in body and "not_there" not in body
    assert (body["top_p"], body["reasoning_effort"], body["max_completion_tokens"]) == (0.9, "low", 9)


def test_the_familys_fields_can_be_added_again():
    script = Script(reply())
    ask(script, flavour="openai", model="gpt-5.1", extra={"temperature": 0})
    assert script.bodies[0]["temperature"] == 0


def test_answers_to_other_fields_are_kept_apart(tmp_path):
    script = Script(reply())
    with script:
        for extra in (None, {}, {"seed": 1}, {"seed": 2}):
            judge(script.url, extra=extra, cache=str(tmp_path)).ask([question()])
    assert len(script.bodies) == 3


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"model": "x"}, "judge.extra.model is not allowed: this field is judge.model"),
        ({"messages": []}, "judge.extra.messages"),
        ({"stream": True}, "judge.extra.stream"),
        ("low", "judge.extra='low' must hold fields"),
        ({"stop": {1, 2}}, "JSON"),
    ],
)
def test_fields_that_are_the_judges_own_are_refused(extra, message):
    with pytest.raises(ValueError, match=message):
        judge("http://127.0.0.1:1/v1", extra=extra)


def test_a_reasoning_model_gives_no_expected_score():
    with pytest.raises(ValueError, match=r"gpt-5 .*gives no log-probs; take judge.score=text"):
        judge("http://127.0.0.1:1/v1", flavour="openai", model="gpt-5", score="expected")


def completion(message: dict, **more) -> Script:
    choice = {"message": {"content": None, **message}, "finish_reason": "length"}
    return Script(status(200, json.dumps({"choices": [choice], **more})))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            completion({}, usage={"completion_tokens_details": {"reasoning_tokens": 64}}),
            "all 64 tokens on thinking",
        ),
        (completion({"reasoning_content": "Let me see"}), "its tokens on"),
    ],
)
def test_tokens_spent_on_thinking_are_reported_as_such(script, said):
    (answer,) = ask(script)
    assert said in answer.failure and "judge.max_tokens" in answer.failure and answer.finish == "length"


def test_thinking_beside_an_answer_is_no_failure():
    script = Script(reply("8", reasoning_content="Let me see"))
    assert ask(script) == [Answer(text="8")]
