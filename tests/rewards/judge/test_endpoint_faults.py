"""What can go wrong with a judge's server: each is a verdict of NaN that says why, is counted, and is never kept."""

import json
import math
import time
from collections.abc import Callable

import pytest

from rewards.judge.endpoint import EndpointJudge
from tests.rewards.judge.chat_server import GOOD, ChatServer
from tests.rewards.judge.requests import answer, filled

MakeJudge = Callable[..., EndpointJudge]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("The answer is correct.", "the answer is not JSON"),
        ('{"reason": "r", "label": "correct"', "the answer is not JSON"),
        ("", "the answer is not JSON"),
        (GOOD + GOOD, "the answer is not JSON"),
        ('{"reason": "r", "label": "incorrect", "label": "correct"}', "a key is given twice"),
        ("[" * 100_000, "the answer is not JSON"),
        ('["correct"]', "not an object of reason and label"),
        ('{"label": "correct"}', "not an object of reason and label"),
        ('{"reason": "r", "label": "correct", "score": 1}', "not an object of reason and label"),
        ('{"reason": "r", "label": "Correct"}', "allowed are correct, incorrect"),
        ('{"reason": "r", "label": ["correct"]}', "allowed are correct, incorrect"),
        ('{"reason": null, "label": "correct"}', "the reason is no text"),
    ],
)
def test_an_answer_that_does_not_follow_the_schema_fails_and_is_asked_again(
    server: ChatServer, judge_with: MakeJudge, said: str, reason: str
) -> None:
    judge = judge_with()
    server.say = lambda body: said
    [verdict] = judge.ask([answer()])
    assert math.isnan(verdict.score) and reason in (verdict.reason or "")
    assert (judge.asked, judge.failed, judge.cached) == (1, 1, 0)
    assert judge.last_failure == verdict.reason
    server.say = lambda body: GOOD
    assert judge.ask([answer()])[0].score == 1.0, "a failure is never kept"
    assert (judge.asked, judge.failed, judge.cached) == (2, 1, 0)


@pytest.mark.parametrize("score", ["1.5", "-0.1", "NaN", "Infinity", "true", '"1"', "null", "1e999"])
def test_a_score_outside_its_bounds_or_no_number_fails(server: ChatServer, judge_with: MakeJudge, score: str) -> None:
    server.say = lambda body: f'{{"reason": "r", "score": {score}}}'
    judge = judge_with()
    assert math.isnan(judge.ask([filled("relevance", "text")])[0].score)
    assert judge.failed == 1


def test_a_busy_server_is_asked_again_after_the_pause_that_it_asks_for(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    server.faults = [(429, {"Retry-After": "0.3"}), 503]
    began = time.monotonic()
    judge = judge_with()
    assert judge.ask([answer()])[0].score == 1.0
    assert time.monotonic() - began >= 0.3
    assert (len(server.bodies), judge.requests, judge.failed) == (3, 3, 0)


def test_a_pause_is_never_longer_than_allowed(server: ChatServer, judge_with: MakeJudge) -> None:
    server.faults = [(429, {"Retry-After": "3600"}), (429, {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"})]
    began = time.monotonic()
    assert judge_with(most_pause_s=0.1).ask([answer()])[0].score == 1.0
    assert time.monotonic() - began < 5


def test_a_server_that_fails_for_ever_fails_the_verdict_after_the_last_attempt(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    server.always = 500
    judge = judge_with(retries=3)
    verdicts = judge.ask([answer("a"), answer("b")])
    assert all(math.isnan(v.score) for v in verdicts)
    assert "4 attempts failed, the last with 500" in (verdicts[0].reason or "")
    assert (len(server.bodies), judge.asked, judge.failed) == (8, 2, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_the_server_calls_wrong_is_not_sent_again(server: ChatServer, judge_with: MakeJudge, status: int) -> None:
    server.always = status
    [verdict] = judge_with(response_format="text").ask([answer()])
    assert math.isnan(verdict.score) and str(status) in (verdict.reason or "")
    assert len(server.bodies) == 1


def test_a_server_that_takes_too_long_fails_the_verdict_in_time(server: ChatServer, judge_with: MakeJudge) -> None:
    server.delay_s = 2.0
    began = time.monotonic()
    judge = judge_with(timeout_s=0.1, retries=1)
    [verdict] = judge.ask([answer()])
    assert time.monotonic() - began < 1.5
    assert math.isnan(verdict.score) and "no answer within 0.1 s" in (verdict.reason or "")
    assert (judge.requests, judge.failed) == (2, 1)


def test_a_server_that_is_not_there_fails_the_verdict(server: ChatServer, judge_with: MakeJudge) -> None:
    judge = judge_with(retries=1)
    server.close()
    [verdict] = judge.ask([answer()])
    assert math.isnan(verdict.score) and "ConnectError" in (verdict.reason or "")


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>gateway</html>",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null, "refusal": "no"}}]}',
        b'{"error": "the model is overloaded"}',
        b"\xff\xfe",
    ],
)
def test_an_answer_without_a_message_fails_the_verdict(server: ChatServer, judge_with: MakeJudge, raw: bytes) -> None:
    server.faults = [raw]
    judge = judge_with()
    [verdict] = judge.ask([answer()])
    assert math.isnan(verdict.score) and "without a message" in (verdict.reason or "")
    assert judge.ask([answer()])[0].score == 1.0


def test_one_bad_answer_does_not_touch_the_others(server: ChatServer, judge_with: MakeJudge) -> None:
    server.say = lambda body: "no JSON" if "bad" in body["messages"][1]["content"] else GOOD
    judge = judge_with()
    scores = [v.score for v in judge.ask([answer("a"), answer("bad"), answer("c"), answer("bad")])]
    assert [s for s in scores if s == s] == [1.0, 1.0] and math.isnan(scores[1]) and math.isnan(scores[3])
    assert (judge.asked, judge.failed, judge.cached) == (4, 2, 0)


def test_the_key_is_sent_and_stands_in_no_reason_name_or_text_of_the_judge(
    server: ChatServer, judge_with: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "s3cret-key")
    server.always, server.error_text = 401, "Incorrect API key provided: s3cret-key"
    judge = judge_with(api_key_env="JUDGE_KEY")
    [verdict] = judge.ask([answer()])
    assert server.headers[0]["Authorization"] == "Bearer s3cret-key"
    assert "Incorrect API key provided: ***" in (verdict.reason or "")
    shown = [judge.name, repr(vars(judge)), judge.settings.model_dump_json(), json.dumps(server.bodies)]
    assert all("s3cret-key" not in text for text in shown)
