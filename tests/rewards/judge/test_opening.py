"""A judge from a config: what is accepted, and what a wrong config is told."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewards.judge import open_judge, read_judge_settings
from rewards.judge.rules import RulesJudge

REPOSITORY = Path(__file__).resolve().parents[3]
ENDPOINT = {"kind": "endpoint", "url": "http://127.0.0.1:1", "model": "m"}


def test_none_is_no_judge_and_rules_need_nothing() -> None:
    assert open_judge(None) is None
    for spec in ("rules", {"kind": "rules"}):
        judge = open_judge(spec)
        assert isinstance(judge, RulesJudge) and judge.name == "rules"
        assert (judge.asked, judge.failed, judge.cached, judge.cost) == (0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt", r"judge must be 'rules', \{kind: rules, ...\} or .*; kind is 'gpt'"),
        ("endpoint", "an endpoint needs its url and model"),
        ({}, "kind is None"),
        ({"kind": "model"}, "kind is 'model'"),
        (["rules"], "got list"),
        (7, "got int"),
        (
            {"kind": "rules", "url": "http://x"},
            "kind rules: url: there is no such setting; known settings: kind, encoder",
        ),
        ({"kind": "endpoint", "model": "m"}, "judge of kind endpoint: url: is missing; give it"),
        ({"kind": "endpoint", "url": "http://x"}, "model: is missing; give it"),
        (ENDPOINT | {"url": "x:80"}, "url: must begin with http:// or https://"),
        (ENDPOINT | {"url": "http://u:p@x"}, "holds a user name or password.*use api_key_env"),
        (ENDPOINT | {"timeout_s": 0}, "timeout_s: it should be greater than 0"),
        (ENDPOINT | {"max_concurrency": 0}, "max_concurrency: it should be greater than or equal to 1"),
        (ENDPOINT | {"max_requests": 0}, "max_requests: it should be greater than or equal to 1"),
        (ENDPOINT | {"max_tokens": 0}, "max_tokens"),
        (ENDPOINT | {"max_cost": 0}, "max_cost"),
        (ENDPOINT | {"retry": 1}, "retry: there is no such setting; did you mean 'retries'"),
        (ENDPOINT | {"temperature": float("nan")}, "temperature"),
        (ENDPOINT | {"max_cost": 1.0}, "max_cost needs a price"),
        (ENDPOINT | {"extra_body": {"messages": []}}, "extra_body sets messages, which the judge sets itself"),
        (ENDPOINT | {"api_key": "s3cret"}, "api_key: there is no such setting: .*whose name api_key_env gives"),
        (ENDPOINT | {"api_key_env": "sk-s3cret"}, "NAME of an environment variable"),
        (ENDPOINT | {"api_key_env": "WAYMARK_NO_SUCH_KEY"}, "no such environment variable is set; export it"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong_and_never_shows_a_key(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        open_judge(spec)
    assert "s3cret" not in str(raised.value)


def test_a_key_that_no_header_carries_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "s3cret\n")
    with pytest.raises(ValueError, match="the environment variable JUDGE_KEY holds no key") as raised:
        open_judge(ENDPOINT | {"api_key_env": "JUDGE_KEY"})
    assert "s3cret" not in str(raised.value)


def test_settings_are_checked_without_a_server_key_or_cache() -> None:
    settings = read_judge_settings(ENDPOINT | {"api_key_env": "WAYMARK_NO_SUCH_KEY", "cache": "/proc/no/such"})
    assert settings.kind == "endpoint"


def test_rules_load_neither_http_nor_an_encoder() -> None:
    code = (
        "import sys; from rewards.judge import open_judge; open_judge('rules'); "
        "print([m for m in ('httpx', 'sentence_transformers', 'torch') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
