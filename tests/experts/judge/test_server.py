"""The client of a judge's server, against a server that fails: retries, waiting, errors, unscored answers."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time

import pytest
from PIL import Image
from scripted_server import Script, reply, reset, slow, status

from harness.experts.judge import connection
from harness.experts.judge.connection import Rejected, ServerGone
from harness.experts.judge.server import ServerJudge
from harness.types import Answer, Question

KEY = "sk-very-secret-0123456789"
SERVING = {
    "key_variable": None,
    "concurrency": 8,
    "timeout_s": 5,
    "tries": 3,
    "patience_s": 20,
    "cache": None,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The client's waits, a hundredth as long."""
    for name in ("BACKOFF_S", "BACKOFF_MOST_S", "POLL_S", "POLL_MOST_S"):
        monkeypatch.setattr(connection, name, getattr(connection, name) / 100)


def judge(url: str, *, flavour: str = "vllm", score: str = "text", **serving) -> ServerJudge:
    return ServerJudge(
        model="m",
        flavour=flavour,
        score=score,
        max_tokens=64,
        retry_temperature=0.7,
        serving={"url": url, **SERVING, **serving},
    )


def question(text: str = "how well?", **changes) -> Question:
    return Question(**{"kind": "prompt_image", "text": text, **changes})


def ask(script: Script, *questions: Question, **settings) -> list[Answer]:
    with script:
        return judge(script.url, **settings).ask(list(questions) or [question()])


def test_a_question_is_sent_as_one_message_text_image_text():
    script, image = Script(reply()), Image.new("RGB", (3, 2), "teal")
    (answer,) = ask(script, question("fixed\nvaries", lead=6, images=(image,)))
    assert answer == Answer(text='{"score": 7}')
    (body,) = script.bodies
    assert body | {"messages": 0} == {
        "messages": 0, "model": "m", "max_tokens": 64, "temperature": 0.0, "top_p": 1.0,
        "top_k": -1, "repetition_penalty": 1.0
    }  # fmt: skip
    ((message),) = body["messages"]
    first, sent_image, last = message["content"]
    assert (first, last) == ({"type": "text", "text": "fixed\n"}, {"type": "text", "text": "varies"})
    kind, _, data = sent_image["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert sent.format == "PNG" and sent.tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("flavour", "fields"),
    [
        ("vllm", {"max_tokens", "top_k", "repetition_penalty"}),
        ("sglang", {"max_tokens", "top_k", "repetition_penalty"}),
        ("openai", {"max_completion_tokens"}),
        ("transformers", {"max_tokens"}),
    ],
)
def test_a_server_is_sent_only_fields_that_it_knows(flavour, fields):
    script = Script(reply())
    ask(script, flavour=flavour)
    assert set(script.bodies[0]) == {"model", "messages", "temperature", "top_p", *fields}


def test_a_second_attempt_may_be_answered_otherwise():
    script = Script(reply())
    ask(script, question(attempt=1))
    assert script.bodies[0]["temperature"] == 0.7 and script.bodies[0]["seed"] == 1


def test_answers_come_in_the_order_of_the_questions():
    def by_number(body):
        number = int(body["messages"][0]["content"][0]["text"])
        return slow((number * 7) % 5 / 100, reply(f"answer {number}"))

    script = Script(by_body=by_number)
    answers = ask(script, *(question(str(number)) for number in range(40)))
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(40)]


def test_no_more_requests_are_in_flight_than_allowed():
    script = Script(slow(0.02, reply()))
    ask(script, *(question(str(number)) for number in range(20)), concurrency=3)
    assert script.most_flying <= 3 and len(script.bodies) == 20


def test_equal_questions_are_asked_once():
    def same():
        return Image.new("RGB", (4, 4), "red")

    script = Script(reply())
    asked = [
        question(images=(same(),)),
        question(images=(same(),)),
        question(images=(Image.new("RGB", (4, 4), "blue"),)),
        question("else"),
    ]
    answers = ask(script, *asked, *asked)
    assert len(answers) == 8 and len(script.bodies) == 3


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (reply(None, refusal="I would rather not"), Answer(text="I would rather not", finish="refusal")),
        (reply(None), Answer(text=None)),
        (reply("half", "length"), Answer(text="half", finish="length")),
        (reply("half", "abort"), Answer(text="half", finish="abort")),
        (reply("half", None), Answer(text="half", finish="length")),  # it may be cut
        (reply("", "content_filter"), Answer(text=None, finish="content_filter")),
    ],
)
def test_an_answer_comes_with_how_it_ended(step, answer):
    assert ask(Script(step)) == [answer]


@pytest.mark.parametrize(
    "step",
    [
        status(500, "boom"),
        status(503, "busy"),
        status(429, "slow down", Retry_After="0"),
        status(429, "slow down"),
        status(408),
        status(200, "not json"),
        reset,
    ],
)
def test_a_passing_failure_is_tried_again(step):
    script = Script(step, reply())
    assert ask(script) == [Answer(text='{"score": 7}')]
    assert len(script.bodies) == 2


def test_the_first_reset_is_no_try_and_the_others_are():
    script = Script(reset)
    (answer,) = ask(script)
    assert "the connection broke" in answer.failure and len(script.bodies) == 1 + SERVING["tries"]


def test_retry_after_is_obeyed():
    script = Script(status(429, Retry_After="0.4"), reply())
    with script:
        asking = judge(script.url)
        asking.ask([question("warm up")])
        script.bodies.clear()
        begun = time.monotonic()
        asking.ask([question()])
    assert time.monotonic() - begun >= 0.4


@pytest.mark.parametrize(
    ("step", "reason"),
    [(status(500, "boom"), "HTTP 500: boom"), (slow(0.3, reply()), "no answer within 0.1 s")],
)
def test_what_fails_every_time_is_unanswered_with_the_reason(step, reason):
    script = Script(step)
    (answer,) = ask(script, timeout_s=0.1)
    assert answer.text is None and reason in answer.failure and "tried 3 times" in answer.failure
    assert len(script.bodies) == 3


def test_one_questions_failure_is_not_the_others():
    script = Script(by_body=lambda body: status(500) if "bad" in json.dumps(body) else reply())
    answers = ask(script, question("bad"), question("good"))
    assert answers[0].failure and answers[1] == Answer(text='{"score": 7}')


@pytest.mark.parametrize(
    "body", ['{"choices": []}', '{"error": "x"}', '{"choices": [{"message": {"content": [1]}}]}']
)
def test_what_is_no_chat_completion_is_a_failure(body):
    (answer,) = ask(Script(status(200, body)))
    assert "the server's answer is no" in answer.failure


def error(code, **more) -> str:
    return json.dumps({"choices": None, "error": {"code": code, "message": "the reason"}, **more})


@pytest.mark.parametrize(
    "body",
    [
        *(error(code) for code in (429, "429", 500, 502, "rate_limit_exceeded", "something new", None, 0)),
        error(503, choices=[]),
        '{"error": "the reason"}',
        '{"object": "error", "message": "the reason", "code": 500}',
        '{"choices": [{"finish_reason": "error", "error": {"code": 502}, "message": {"content": ""}}]}',
    ],
)
def test_an_error_with_status_200_is_treated_as_its_code(body):
    script = Script(status(200, body), reply())
    assert ask(script) == [Answer(text='{"score": 7}')] and len(script.bodies) == 2


@pytest.mark.parametrize("code", [400, "401", "context_length_exceeded"])
def test_a_refusal_with_status_200_is_raised_with_its_reason(code):
    script = Script(status(200, error(code)))
    with pytest.raises(Rejected, match=r"HTTP 40[01]: .*the reason"):
        ask(script)
    assert len(script.bodies) == 1


def test_an_error_that_stays_is_told_with_the_question():
    (answer,) = ask(Script(status(200, error("something new"))))
    assert "the reason" in answer.failure and "tried 3 times" in answer.failure


def test_a_warning_beside_an_answer_is_no_error():
    body = {"error": {}, "choices": [{"message": {"content": "8"}, "finish_reason": "stop", "error": None}]}
    assert ask(Script(status(200, json.dumps(body)))) == [Answer(text="8")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": '{"score": '}, {"type": "text", "text": "7}"}], '{"score": 7}'),
        ([{"type": "thinking", "thinking": "3?"}, {"type": "text", "text": "7"}], "7"),
        (["7"], "7"),
        ([], None),
    ],
)
def test_an_answer_may_come_in_parts(content, text):
    assert ask(Script(reply(content))) == [Answer(text=text)]


def test_no_content_at_the_token_limit_is_cut():
    assert ask(Script(reply(None, "length"))) == [Answer(text=None, finish="length")]


@pytest.mark.parametrize("code", [301, 400, 401, 403, 404, 413, 422])
def test_our_own_mistakes_are_raised_with_what_the_server_said(code):
    script = Script(status(code, "the   image is\nbad"))
    with pytest.raises(Rejected, match=f"HTTP {code}: the image is bad"):
        ask(script)
    assert len(script.bodies) == 1


def refusing(*words: str, code: int = 400) -> Script:
    """A server that refuses questions with one of the words."""

    def by_body(body):
        bad = any(word in json.dumps(body["messages"]) for word in words)
        return status(code, "maximum context length is 4096") if bad else reply()

    return Script(by_body=by_body)


@pytest.mark.parametrize("code", [400, 413, 422])
@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_question_that_alone_is_refused_is_a_failure_with_the_servers_text(code, place):
    asked = [question("long" if number == place else str(number)) for number in range(8)]
    answers = ask(refusing("long", code=code), *asked)
    assert f"HTTP {code}: maximum context length is 4096" in answers.pop(place).failure
    assert answers == [Answer(text='{"score": 7}')] * 7


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_refusal_that_concerns_every_question_ends_the_run(code):
    with pytest.raises(Rejected):
        ask(refusing("bad", code=code), *(question(text) for text in ("good", "bad", "fine")))


def test_a_kind_of_question_that_is_always_refused_ends_the_run():
    asked = [question("good"), question("bad one", kind="semantic"), question("bad two", kind="semantic")]
    with pytest.raises(Rejected, match="maximum context length"):
        ask(refusing("bad"), *asked)


def test_a_lone_refusal_ends_the_run_unless_others_of_its_kind_were_answered(tmp_path):
    script = refusing("bad")
    with script:
        asking = judge(script.url, cache=str(tmp_path))
        with pytest.raises(Rejected):
            asking.ask([question("bad")])
        asking.ask([question("good")])
        assert asking.ask([question("bad")])[0].failure
        later = judge(script.url, cache=str(tmp_path))
        assert [bool(answer.failure) for answer in later.ask([question("good"), question("bad")])] == [
            False,
            True,
        ]


def test_an_empty_purse_is_not_waited_for():
    with pytest.raises(Rejected, match="insufficient_quota"):
        ask(Script(status(429, '{"error": {"code": "insufficient_quota"}}')))


def test_a_server_that_stays_busy_is_waited_for_with_patience_only():
    with pytest.raises(ServerGone, match=r"HTTP 429.*waited for 0\.3 s"):
        ask(Script(status(429)), patience_s=0.3)


def test_the_key_is_sent_and_shown_nowhere(monkeypatch, capsys):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    script = Script(reply())
    ask(script, key_variable="JUDGE_KEY")
    assert script.headers[0]["Authorization"] == f"Bearer {KEY}"
    echo = f"Incorrect API key provided: {KEY}"
    with pytest.raises(Rejected, match="JUDGE_KEY") as raised:
        ask(Script(status(401, echo)), key_variable="JUDGE_KEY")
    (answer,) = ask(Script(status(500, echo)), key_variable="JUDGE_KEY")
    gone = Script(reply())
    with gone:
        pass
    asking = judge(gone.url, key_variable="JUDGE_KEY", patience_s=0.05)
    with pytest.raises(ServerGone) as left:
        asking.ask([question()])
    shown = [
        repr(raised.value),
        str(raised.value.__cause__),
        str(raised.value.__context__),
        repr(left.value),
        repr(answer),
        repr(vars(asking)),
    ]
    assert all(KEY not in text for text in [*shown, *capsys.readouterr()]) and "***" in str(raised.value)


@pytest.mark.parametrize(
    ("value", "said"), [(None, "is empty"), ("two words", "holds no key"), ("snowman \u2603", "holds no key")]
)
def test_a_key_that_is_none_is_named_by_its_variable(monkeypatch, value, said):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if value:
        monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(ValueError, match=f"JUDGE_KEY .*{said}") as raised:
        ask(Script(reply()), key_variable="JUDGE_KEY")
    assert value is None or value not in str(raised.value)


def test_a_proxy_does_not_stand_between_us_and_ourselves(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(Script(reply())) == [Answer(text='{"score": 7}')]


def test_a_server_that_dies_is_waited_for_and_nothing_is_lost(capsys):
    script = Script(slow(0.01, reply()))
    script.start()

    def restart():
        while len(script.bodies) < 20:
            time.sleep(0.005)
        script.stop()
        time.sleep(0.4)
        script.start()

    trouble = threading.Thread(target=restart)
    trouble.start()
    answers = judge(script.url).ask([question(str(number)) for number in range(200)])
    trouble.join()
    script.stop()
    assert answers == [Answer(text='{"score": 7}')] * 200
    said = capsys.readouterr().err
    assert f"{script.url} does not answer" in said and "answers again after" in said


def test_a_gateway_without_its_server_is_waited_for_too(capsys):
    script = Script(status(502, "no upstream"), models_status=502)
    with script:
        threading.Timer(0.3, lambda: setattr(script, "models_status", 200)).start()
        script.steps = (status(502, "no upstream"), reply())
        assert judge(script.url).ask([question()]) == [Answer(text='{"score": 7}')]
    assert "answers again" in capsys.readouterr().err


def test_a_server_that_stays_away_ends_the_run_with_advice():
    script = Script(reply())
    with script:
        pass
    begun = time.monotonic()
    with pytest.raises(ServerGone, match=r"patience_s.*checkpoints are kept.*run the same command again"):
        judge(script.url, patience_s=1.0).ask([question(str(number)) for number in range(30)])
    assert time.monotonic() - begun < 15, "30 questions wait together, not one after another"


def test_answers_are_kept_on_disk_for_the_next_process(tmp_path):
    script = Script(reply())
    with script:
        asked = [question("one"), question("two"), question("two", attempt=1)]
        first = judge(script.url, cache=str(tmp_path / "answers"))
        assert first.ask(asked) == [Answer(text='{"score": 7}')] * 3 and (
            first.cache.hits,
            first.cache.misses,
        ) == (0, 3)
        again = judge(script.url, cache=str(tmp_path / "answers"))
        assert again.ask([*asked, question("three")]) == [Answer(text='{"score": 7}')] * 4
        assert (again.cache.hits, again.cache.misses) == (3, 1) and len(script.bodies) == 4
        judge(script.url, cache=str(tmp_path / "answers"), flavour="sglang").ask(asked)
        assert len(script.bodies) == 7


def test_failures_are_not_kept(tmp_path):
    script = Script(*[status(500)] * 3, reply())
    with script:
        asking = judge(script.url, cache=str(tmp_path))
        assert asking.ask([question()])[0].failure
        assert asking.ask([question()]) == [Answer(text='{"score": 7}')]


def tops(**probabilities: float) -> list[dict]:
    return [
        {"token": token, "logprob": math.log(value) if value else -9999.0, "bytes": None}
        for token, value in probabilities.items()
    ]


def place(token: str, **probabilities: float) -> dict:
    return {"token": token, "logprob": -0.1, "top_logprobs": tops(**probabilities)}


OPENING = [place('{"'), place("score"), place('":'), place(" ")]


def test_an_expected_score_is_the_mean_over_the_first_digit():
    script = Script(
        reply(
            '{"score": 7}',
            logprobs={
                "content": [*OPENING, place("7", **{"7": 0.6, "8": 0.3, "1": 0.01, "x": 0.09}), place("}")]
            },
        )
    )
    (answer,) = ask(script, score="expected")
    assert answer.text == '{"score": 7}' and answer.mass == pytest.approx(0.91)
    assert answer.expected == pytest.approx((7 * 0.6 + 8 * 0.3 + 0.01) / 0.91)
    (body,) = script.bodies
    assert body["logprobs"] is True and body["top_logprobs"] == 20
    assert body["structured_outputs"] == {"regex": r"\{\"score\": (10|[0-9])\}"}


def test_a_one_that_was_written_says_itself_whether_it_is_ten():
    places = [
        *OPENING,
        place("1", **{"1": 0.8, "9": 0.2}),
        place("0", **{"0": 0.5, "}": 0.25, "5": 0.25}),
        place("}"),
    ]
    (answer,) = ask(Script(reply('{"score": 10}', logprobs={"content": places})), score="expected")
    assert answer.expected == pytest.approx(9 * 0.2 + 0.8 * (2 / 3 * 10 + 1 / 3))


@pytest.mark.parametrize(
    ("flavour", "fields"),
    [
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}),
        ("sglang", {"continue_final_message": True}),
    ],
)
def test_a_likely_one_that_was_not_written_is_asked_about(flavour, fields):
    first = reply(
        '{"score": 9}', logprobs={"content": [*OPENING, place("9", **{"9": 0.5, "1": 0.4}), place("}")]}
    )
    script = Script(first, reply("0", logprobs={"content": [place("0", **{"0": 0.9, "}": 0.1})]}))
    (answer,) = ask(script, score="expected", flavour=flavour)
    assert answer.expected == pytest.approx((9 * 0.5 + 0.4 * (0.9 * 10 + 0.1)) / 0.9)
    second = script.bodies[1]
    assert (
        second["messages"][1] == {"role": "assistant", "content": '{"score": 1'} and second["max_tokens"] == 1
    )
    assert fields.items() <= second.items() and not {"structured_outputs", "regex"} & set(second)


def test_where_ten_is_one_token_a_one_is_a_one():
    places = [place('{"score": '), place("10", **{"10": 0.5, "1": 0.5}), place("}")]
    script = Script(reply('{"score":10}', logprobs={"content": places}))
    (answer,) = ask(script, score="expected", flavour="openai")
    assert answer.expected == pytest.approx(5.5) and len(script.bodies) == 1
    assert script.bodies[0]["response_format"]["json_schema"]["strict"] is True


def test_a_model_that_wants_to_write_something_else_is_unscored():
    script = Script(
        reply('{"score": 7}', logprobs={"content": [*OPENING, place("7", **{"7": 0.3, "I": 0.7})]})
    )
    (answer,) = ask(script, score="expected")
    assert "0.30" in answer.failure and answer.mass == pytest.approx(0.3)


@pytest.mark.parametrize("given", [None, {}, {"content": []}, {"content": [place('{"score": 7}')]}])
def test_without_logprobs_the_written_score_is_taken_and_that_is_said_once(capsys, given):
    script = Script(reply('{"score": 7}', logprobs=given))
    answers = ask(script, question("a"), question("b"), score="expected")
    assert answers == [Answer(text='{"score": 7}')] * 2
    assert capsys.readouterr().err.count("gives no log-probs") == 1


def test_a_question_that_asks_for_no_score_is_not_constrained():
    script = Script(reply("[]"))
    ask(script, question(scored=False), score="expected")
    assert not {"logprobs", "structured_outputs"} & set(script.bodies[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flavour": "tgi"}, "judge.flavour='tgi': allowed are vllm, sglang, openai, transformers"),
        ({"score": "mean"}, "judge.score='mean'"),
        ({"flavour": "transformers", "score": "expected"}, "gives no log-probs"),
        ({"url": "localhost:8000"}, "serving.url=localhost:8000"),
        ({"url": "http://me:pass@host/v1"}, r"serving.url=\*\*\*@host/v1 must hold no user or password"),
        ({"key_variable": "sk-abc"}, "must be the name of an environment variable"),
        ({"concurrency": 0}, "serving.concurrency=0"),
        ({"patience_s": 0}, "serving.patience_s=0"),
        ({"tries": 1.5}, "serving.tries=1.5"),
    ],
)
def test_wrong_settings_are_refused_without_secrets(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        judge(**{"url": "http://127.0.0.1:1/v1", **changes})
    assert "pass@" not in str(raised.value) and "sk-abc" not in str(raised.value)
