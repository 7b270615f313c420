"""A judge behind a real HTTP server: what is asked, what comes back, the bound on concurrency, and the budget."""

import asyncio
import json
import math
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rewards.judge.endpoint import EndpointJudge
from rewards.judge.judge import CRITERIA, Judge, JudgeRequest
from tests.conftest import REPOSITORY
from tests.rewards.judge.chat_server import GOOD, ChatServer
from tests.rewards.judge.requests import answer, filled

MakeJudge = Callable[..., EndpointJudge]
WRONG = json.dumps({"reason": "another city", "label": "incorrect"})


def by_answer(body: dict[str, Any]) -> str:
    """Right for Arlen alone."""
    return GOOD if json.loads(body["messages"][1]["content"])["answer"] == "Arlen" else WRONG


def test_verdicts_come_in_the_order_of_the_requests_and_equal_ones_are_asked_once(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    server.say = by_answer
    judge: Judge = judge_with()
    verdicts = judge.ask([answer("Besk"), answer("Arlen"), answer("Besk")])
    assert [v.score for v in verdicts] == [0.0, 1.0, 0.0]
    assert [v.label for v in verdicts] == ["incorrect", "correct", "incorrect"]
    assert verdicts[1].reason == "the same city"
    assert len(server.bodies) == 2
    assert (judge.asked, judge.failed, judge.cached) == (3, 0, 1)
    assert judge.ask([]) == []


def test_a_request_carries_model_decoding_and_the_schema_and_nothing_of_the_data_in_the_instructions(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    judge_with(temperature=0.3, max_answer_tokens=77, extra_body={"seed": 5, "top_p": None}).ask([answer("Arlen")])
    [body], [headers] = server.bodies, server.headers
    assert headers["path"] == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m", 0.3, 77, 5)
    assert "top_p" not in body
    described = body["response_format"]["json_schema"]
    assert body["response_format"]["type"] == "json_schema" and described["strict"] is True
    assert described["schema"]["properties"]["label"]["enum"] == ["correct", "incorrect"]
    assert described["schema"]["additionalProperties"] is False
    system, user = body["messages"]
    assert system["role"] == "system" and "Arlen" not in system["content"]
    assert json.loads(user["content"]) == dict(answer("Arlen").fields)


def test_every_criterion_is_asked_with_its_own_schema(server: ChatServer, judge_with: MakeJudge) -> None:
    def say(body: dict[str, Any]) -> str:
        said = body["response_format"]["json_schema"]["schema"]["properties"]
        name = "label" if "label" in said else "score"
        return json.dumps({"reason": "r", name: said["label"]["enum"][0] if name == "label" else 0.25})

    server.say = say
    verdicts = judge_with().ask([filled(criterion, "text") for criterion in CRITERIA])
    graded = {"relevance", "thought", "query"}
    assert [v.score for v in verdicts] == [0.25 if criterion in graded else 1.0 for criterion in CRITERIA]


def test_no_more_requests_are_on_their_way_than_allowed_over_all_threads(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    server.delay_s = 0.03
    judge = judge_with(max_concurrency=3)
    threads = [
        threading.Thread(target=judge.ask, args=([answer(f"{thread}-{i}") for i in range(8)],)) for thread in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.bodies) == 24
    assert server.most_at_once == 3, "the bound is reached, and never passed"
    assert (judge.asked, judge.failed) == (24, 0)


def test_it_may_be_asked_from_inside_an_event_loop(judge_with: MakeJudge) -> None:
    judge = judge_with()

    async def inside() -> float:
        return judge.ask([answer()])[0].score

    assert asyncio.run(inside()) == 1.0


@pytest.mark.parametrize(
    ("refused", "forms"),
    [
        (set(), ["json_schema"]),
        ({"json_schema"}, ["json_schema", "json_object"]),
        ({"json_schema", "json_object"}, ["json_schema", "json_object", "text"]),
    ],
)
def test_a_server_that_refuses_the_form_is_asked_in_a_weaker_one_and_from_then_on(
    server: ChatServer, judge_with: MakeJudge, refused: set[str], forms: list[str]
) -> None:
    server.refused_forms = refused
    judge = judge_with()
    assert [judge.ask([answer(text)])[0].score for text in ("a", "b")] == [1.0, 1.0]
    asked = [body.get("response_format", {}).get("type", "text") for body in server.bodies]
    assert asked == [*forms, forms[-1]]
    assert judge.requests == len(forms) + 1


def test_a_form_that_the_config_names_is_the_only_one_tried(server: ChatServer, judge_with: MakeJudge) -> None:
    server.refused_forms = {"json_schema"}
    [verdict] = judge_with(response_format="json_schema").ask([answer()])
    assert math.isnan(verdict.score) and "response_format is not supported" in (verdict.reason or "")
    assert len(server.bodies) == 1, "a bad request is not sent again"


def test_a_fence_and_a_thought_aloud_are_no_part_of_the_answer(server: ChatServer, judge_with: MakeJudge) -> None:
    server.say = lambda body: f"<think>is it {{}}?</think>\n```json\n{GOOD}\n```"
    assert judge_with().ask([answer()])[0].score == 1.0


def test_requests_beyond_the_budget_are_not_sent_and_fail_with_the_reason(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    judge = judge_with(max_requests=3)
    verdicts = judge.ask([answer(str(i)) for i in range(10)])
    assert sum(v.score == 1.0 for v in verdicts) == 3 == len(server.bodies)
    spent = [v for v in verdicts if math.isnan(v.score)]
    assert {v.reason for v in spent} == {"the judge's budget is exhausted: max_requests is 3"}
    assert (judge.asked, judge.failed, judge.requests) == (10, 7, 3)
    done = next(i for i, v in enumerate(verdicts) if v.score == 1.0)
    assert judge.ask([answer(str(done))])[0].score == 1.0, "what is known costs nothing and is still said"
    assert (judge.failed, judge.cached) == (7, 1)


def test_retries_count_against_the_budget(server: ChatServer, judge_with: MakeJudge) -> None:
    server.always = 500
    judge = judge_with(max_requests=2, retries=5)
    assert "max_requests is 2" in (judge.ask([answer()])[0].reason or "")
    assert len(server.bodies) == 2


def test_tokens_and_money_are_counted_by_what_the_server_says(server: ChatServer, judge_with: MakeJudge) -> None:
    judge = judge_with(
        price_per_million_prompt_tokens=10.0, price_per_million_answer_tokens=50.0, max_cost=0.005, max_concurrency=1
    )
    verdicts = judge.ask([answer(str(i)) for i in range(6)])
    # One answer costs (100 * 10 + 20 * 50) / 1e6 = 0.002: the third brings the sum to the limit or above.
    assert sum(v.score == 1.0 for v in verdicts) == 3
    assert judge.cost == pytest.approx(0.006) and judge.tokens == 360
    assert {v.reason for v in verdicts if v.reason != "the same city"} == {
        "the judge's budget is exhausted: max_cost is 0.005"
    }


def test_a_server_that_does_not_say_what_it_used_is_counted_by_its_characters(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    server.usage = None
    judge = judge_with(max_tokens=1, max_concurrency=1)
    first, second = judge.ask([answer("a"), answer("b")])
    assert first.score == 1.0 and "max_tokens is 1" in (second.reason or "")
    chars = sum(len(message["content"]) for message in server.bodies[0]["messages"])
    assert judge.tokens == -(-chars // 4) + -(-len(GOOD) // 4)
    assert judge.cost == 0.0


def test_a_request_too_long_is_not_sent(server: ChatServer, judge_with: MakeJudge) -> None:
    judge = judge_with(max_request_chars=5_000)
    long, short = judge.ask([answer("x" * 5_000), answer()])
    assert math.isnan(long.score) and "max_request_chars is 5000" in (long.reason or "")
    assert short.score == 1.0 and len(server.bodies) == 1


def test_a_closed_judge_leaves_no_thread_behind(judge_with: MakeJudge) -> None:
    judge = judge_with()
    judge.ask([answer()])
    assert "judge" in {thread.name for thread in threading.enumerate()}
    judge.close()
    judge.close()
    assert "judge" not in {thread.name for thread in threading.enumerate()}


def test_the_request_on_the_page_is_the_one_that_is_sent_and_its_answer_is_a_verdict(
    server: ChatServer, judge_with: MakeJudge
) -> None:
    page = (REPOSITORY / "docs" / "judge.md").read_text(encoding="utf-8")
    shown, answered = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    server.say = lambda body: answered["choices"][0]["message"]["content"]
    fields = json.loads(shown["messages"][1]["content"])
    [verdict] = judge_with(model=shown["model"]).ask([JudgeRequest(criterion="supports", fields=fields)])
    assert (verdict.score, verdict.label) == (1.0, "supported")
    [sent] = server.bodies
    start = shown["messages"][0]["content"].removesuffix("...")
    assert sent["messages"][0]["content"].startswith(start)
    shown["messages"][0] = sent["messages"][0]
    assert sent == shown
