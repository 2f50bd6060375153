from __future__ import annotations

import sys
import traceback

import pytest

from harness import secrets

KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    for name, value in {
        "OPENAI_API_KEY": KEY,
        "LAB_TOKEN": f"{KEY}-longer",
        "HF_TOKEN": "short",
        "HF_TOKEN_PATH": "/home/me/token",
        "KEYBOARD": "qwertz-de-nodeadkeys",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"HTTP 401: the key {KEY} is wrong", "HTTP 401: the key *** is wrong"),
        (f"{KEY}-longer", "***"),
        ("https://me:pass@word@host/v1?a=b", "https://***@host/v1?a=b"),
        ("http://ghp_0123@host and http://host/a@b", "http://***@host and http://host/a@b"),
        ("a short text, /home/me/token, qwertz-de-nodeadkeys", None),
    ],
)
def test_secrets_are_masked_and_other_texts_stay(text, expected):
    assert secrets.masked(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"judge": {"url": "https://me:hunter2@host"}}, "the plan: judge.url holds an address with a user"),
        (
            {"arms": [f"judge.key={KEY}"]},
            "the plan: arms holds the value of the environment variable OPENAI_",
        ),
        (["export HF_TOKEN=hf_abcdef"], "the plan holds the value of a key or password"),
        ("ALL,JUDGE_PASSWORD=hunter2", "the plan holds the value of a key or password"),
    ],
)
def test_a_setting_that_holds_a_secret_is_refused_by_its_name_without_its_value(settings, said):
    with pytest.raises(ValueError) as refused:
        secrets.check(settings, "the plan")
    assert str(refused.value).startswith(said) and "environment variable" in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (KEY, "hunter2", "hf_abcdef"))


@pytest.mark.parametrize(
    "settings",
    [
        {"serving": {"url": "http://127.0.0.1:8000/v1", "key_variable": "OPENAI_API_KEY"}, "steps": 3},
        ["export HF_TOKEN=$(cat ~/.token)", 'export HF_TOKEN="$(pass hf)"', "ALL,HF_TOKEN"],
        "a monkey=3 and https://arxiv.org/abs/2505.17022, me@host",
    ],
)
def test_names_of_variables_and_plain_addresses_are_allowed(settings):
    secrets.check(settings, "the plan")


def test_what_a_process_prints_is_masked(capsys):
    with secrets.masked_output():
        print(f"the key is {KEY}", "!")
        try:
            raise RuntimeError(f"{KEY} was refused")
        except RuntimeError:
            traceback.print_exc()
        sys.stderr.writelines([f"{KEY}\n"])
        assert sys.stderr.encoding and not sys.stderr.isatty()
    out, errors = capsys.readouterr()
    assert out == "the key is *** !\n"
    assert KEY not in errors and "RuntimeError: *** was refused" in errors and errors.endswith("***\n")
