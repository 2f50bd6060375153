"""Proxies, certificates and keys that cannot be used are named by their variable, in one line."""

from __future__ import annotations

import pytest
from scripted_server import Script, reply

from harness.experts.judge.environment import PROXIES, is_direct, unusable_variables
from harness.experts.judge.server import ServerJudge
from harness.types import Answer, Question


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in (*PROXIES, "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


def judge(url: str, key_variable: str | None = None) -> ServerJudge:
    serving = {"concurrency": 2, "timeout_s": 1, "tries": 1, "patience_s": 1, "cache": None}
    return ServerJudge(
        model="m",
        flavour="vllm",
        score="text",
        max_tokens=64,
        retry_temperature=0.7,
        serving={"url": url, "key_variable": key_variable, **serving},
    )


UNUSABLE = [
    ("ALL_PROXY", "socks://127.0.0.1:1080", "unknown kind: allowed are http://, https://, socks5://"),
    ("all_proxy", "ftp://127.0.0.1:1080", "unknown kind"),
    ("HTTPS_PROXY", "http://host:port", "is no proxy's address"),
    ("http_proxy", "http://", "is no proxy's address"),
    ("SSL_CERT_FILE", "/nowhere/certificates.pem", "names no file"),
]


@pytest.mark.parametrize(("name", "value", "said"), UNUSABLE)
def test_what_cannot_be_used_is_one_line_that_names_the_variable(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    asking = judge("https://judge.example/v1")
    (line,) = asking.missing()
    assert f"{name}={value}" in line and said in line and "\n" not in line
    with pytest.raises(ValueError, match=name):
        asking.ask([Question(kind="prompt_image", text="how well?")])


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("is_installed", [False, True])
def test_socks_requires_its_package(monkeypatch, scheme, is_installed):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if is_installed else None)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:1080")
    lines = unusable_variables()
    assert [
        f"ALL_PROXY={scheme}://127.0.0.1:1080" in line and "pip install socksio" in line for line in lines
    ] == ([] if is_installed else [True])


@pytest.mark.parametrize("value", ["http://proxy:3128", "proxy:3128", "https://me:secret@proxy:3128", ""])
def test_a_usable_proxy_is_no_problem(monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert unusable_variables() == []


def test_a_proxys_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://me:secret@proxy:1080")
    (line,) = unusable_variables()
    assert "secret" not in line and "***@proxy:1080" in line


def test_a_server_that_is_reached_directly_needs_no_proxy(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    script = Script(reply())
    with script:
        asking = judge(script.url)
        assert asking.missing() == []
        assert asking.ask([Question(kind="a", text="b")]) == [Answer(text='{"score": 7}')]
    assert not is_direct("http://node7:8000/v1")
    monkeypatch.setenv("NO_PROXY", "node7")
    assert is_direct("http://node7:8000/v1") and not is_direct("http://node8:8000/v1")


def test_proxy_and_key_are_listed_together(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    first, second = judge("https://judge.example/v1", "JUDGE_KEY").missing()
    assert "ALL_PROXY" in first and "JUDGE_KEY" in second
