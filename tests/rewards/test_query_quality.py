from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards.judge
from agent.action import Action, ToolRequest
from agent.trajectory import Shown, ToolCall, Turn
from retrieval.passage import Passage
from rewards.answer import exact_match
from rewards.judge.judge import JudgeRequest, Verdict
from rewards.query_quality import QueryQualityReward
from tests.rewards.builders import PASSAGES, QUESTION, answer, context, group, invalid, search, trajectory

ASKED = {"q": QUESTION}


def score(*turns, finish=None, question=QUESTION, passages=None, **params) -> float:
    reward = QueryQualityReward(context(passages), **params)
    return float(reward(group(trajectory(*turns, finish=finish)), {"q": question}).outcome[0])


def goods(*turns, passages=None, **params) -> list[bool]:
    (rows,) = QueryQualityReward(context(passages), **params).query_scores([(trajectory(*turns), QUESTION)])
    return [row.good == 1.0 for row in rows]


def test_a_query_is_useful_that_shows_the_answer_of_an_open_hop() -> None:
    assert goods(search(["a", "x"]), search(["b", "z"])) == [True, True]
    assert goods(search(["x"]), search(["a"]), search(["y"])) == [False, True, False]
    assert goods(search(["a"]), search(["z"])) == [True, False], "the bridge bears the name, but the hop is resolved"
    assert goods(search([])) == [False]


def test_a_query_is_novel_while_at_most_k_documents_repeat() -> None:
    first = search(["x", "y", "z"])
    assert goods(first, search(["x", "a"])) == [False, True], "one repeat is allowed"
    assert goods(first, search(["x", "y", "a"])) == [False, False]
    assert goods(first, search(["x", "y", "a"]), max_overlap=2) == [False, True]
    assert goods(first, search(["x", "a"]), max_overlap=0) == [False, False]
    assert goods(search(["a"]), search(["a"])) == [True, False], "nothing new is never novel"


def test_documents_are_compared_by_their_text() -> None:
    passages = PASSAGES | {"y2": replace(PASSAGES["y"], id="y2")}
    copies = (search(["x", "y"]), search(["x", "y2", "a"]))
    assert goods(*copies, passages=passages) == [False, False]


def test_what_was_opened_counts_as_seen() -> None:
    opened = Turn(
        action_ids=(1,),
        action_logprobs=(0.0,),
        action_versions=(0,),
        action=Action(kind="call", requests=(ToolRequest(tool="open", argument="x"),)),
        calls=(ToolCall(tool="open", argument="x", hits=(), status="ok", latency_s=0.0),),
        shown=(Shown(number=1, passage_id="x"), Shown(number=2, passage_id="y")),
    )
    assert goods(opened, search(["x", "y", "a"])) == [False], "the window is no query, and its documents repeat"


def test_every_search_of_a_turn_is_a_query() -> None:
    assert goods(search(["a"], num_queries=3)) == [True, False, False]


def by_hand(right: bool, good: Sequence[bool], well_formed: bool) -> float:
    bad = sum(not g for g in good)
    return (max(1 - 0.1 * bad, 0.7) if right else min(0.1 * sum(good), 0.3)) + 0.1 * well_formed


steps = st.lists(st.lists(st.sampled_from("abcxyz"), max_size=3).map(search) | st.just(invalid()), max_size=7)


@given(steps, st.sampled_from(["Oskel", "oskel.", "Lomira", "in Oskel", " "]))
def test_it_equals_the_formula_whether_placed_on_turns_or_not(before, text: str) -> None:
    t = trajectory(*before, answer(text))
    right = exact_match(text, QUESTION.golden_answers) == 1.0
    well_formed = bool(text.strip()) and not any(turn.action.kind == "invalid" for turn in before)
    wanted = by_hand(right, goods(*before, answer(text)), well_formed)
    assert score(*t.turns) == pytest.approx(wanted)
    placed = QueryQualityReward(context(), placed="turns")(group(t), ASKED)
    assert placed.turn[0].sum() == pytest.approx(wanted) and np.isnan(placed.outcome).all()


def test_turns_get_what_their_queries_changed() -> None:
    def turns(*steps) -> list[float]:
        return QueryQualityReward(context(), placed="turns")(group(trajectory(*steps)), ASKED).turn[0].tolist()

    assert turns(search(["a"]), search(["x"]), answer("Oskel")) == pytest.approx([0.0, -0.1, 1.1])
    assert turns(search(["a"]), search(["x"]), answer("no")) == pytest.approx([0.1, 0.0, 0.1])
    many = [search([]) for _ in range(5)]
    assert turns(*many, answer("Oskel")) == pytest.approx([-0.1, -0.1, -0.1, 0.0, 0.0, 1.1])


@given(steps, steps)
def test_a_right_answer_is_always_above_a_wrong_one(one, other) -> None:
    for last in ((answer("no"),), ()):
        assert score(*one, answer("Oskel")) > score(*other, *last) + 0.25


def test_f1_can_say_what_is_right() -> None:
    text = "Oskel Oskel Oskel of harbour"
    assert score(answer("old Oskel"), correct_by="f1", threshold=0.6) == pytest.approx(1.1)
    assert score(answer("old Oskel"), correct_by="f1") == pytest.approx(0.1)
    assert score(answer(text), correct_by="f1") == pytest.approx(0.1)


HONEST = (search(["a", "x"]), search(["b", "z"]), answer("Oskel"))


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param((search(["a"]), search(["a"]), search(["a"]), answer("Oskel")), id="the same query again"),
        pytest.param((search(["a", "b", "x", "y"], num_queries=12), answer("Oskel")), id="query spamming"),
        pytest.param((search(["x", "y"]), answer("Oskel")), id="a search for show"),
        pytest.param((invalid(), answer("Oskel")), id="a forged observation"),
        pytest.param((search(["a"]), search(["b"]), search(["c"]), search(["x"])), id="never answering"),
        pytest.param((search(["a"]), search(["b"]), answer(PASSAGES["b"].text)), id="copying a passage"),
        pytest.param((answer("cannot be determined"),), id="a refusal"),
    ],
)
def test_cheats_earn_less(cheat) -> None:
    assert score(*cheat) <= score(*HONEST) - 0.1 + 1e-9


class StubJudge:
    """Says these scores in turn, and remembers what it was asked."""

    name = "stub"

    def __init__(self, *says: float) -> None:
        self.says, self.asked_for = list(says), []

    def ask(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        self.asked_for.append(list(requests))
        return [Verdict(score=self.says.pop(0)) for _ in requests]


def test_a_judge_says_what_is_useful_and_is_asked_once_for_novel_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = StubJudge(1.0, 0.0, 1.0)
    monkeypatch.setattr(rewards.judge, "open_judge", lambda spec: judge)
    bare = replace(QUESTION, hops=())
    one = trajectory(search(["x"], "one"), search(["x"], "again"), search(["y"], "two"), answer("Oskel"))
    two = replace(trajectory(search(["z"], "three"), answer("Lomira"), sample=1), view=1)
    reward = QueryQualityReward(context(), judge="stub")
    assert reward.needs == {"golden_answers"}
    assert reward(group(one, two), {"q": bare}).outcome.tolist() == pytest.approx([1 - 0.2 + 0.1, 0.1 + 0.1])
    (asked,) = judge.asked_for
    assert [r.fields["query"] for r in asked] == ["one", "two", "three"]
    assert asked[0].fields == {
        "question": QUESTION.text,
        "query": "one",
        "passages": [PASSAGES["x"].contents],
        "golds": ["Oskel"],
    }
    assert asked[2].fields["question"] == QUESTION.paraphrases[0], "the wording that was asked"


def test_a_judge_that_fails_is_not_good_but_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards.judge, "open_judge", lambda spec: StubJudge(float("nan"), 1.0))
    members = (trajectory(search(["x"]), answer("Oskel")), trajectory(search(["y"]), answer("Oskel"), sample=1))
    np.testing.assert_allclose(
        QueryQualityReward(context(), judge="stub")(group(*members), ASKED).outcome, [np.nan, 1.1]
    )


def test_what_does_not_apply_is_not_scored() -> None:
    assert np.isnan(score(*HONEST, question=replace(QUESTION, hops=())))
    assert np.isnan(score(*HONEST, question=replace(QUESTION, golden_answers=())))
    assert np.isnan(score(*HONEST[:2], finish="cut")) and np.isnan(score(*HONEST[:2], finish="retrieval_outage"))
    assert score(finish="token_limit") == 0.0


def test_bad_input_is_refused() -> None:
    for params, message in [
        ({"ceiling": 0.6}, r"a wrong answer could earn as much as a right one: ceiling 0\.6"),
        ({"floor": 1.2}, r"floor 1\.2, and floor at most 1"),
        ({"gamma": -1}, r"gamma must be a finite number >= 0, got -1"),
        ({"threshold": 0}, "threshold must be above 0 and at most 1, got 0"),
        ({"correct_by": "bleu"}, r"correct_by must be one of .* got 'bleu'"),
        ({"placed": "steps"}, r"placed must be one of .* got 'steps'"),
    ]:
        with pytest.raises(ValueError, match=message):
            QueryQualityReward(context(), **params)
    with pytest.raises(ValueError, match="was shown passage 'a', which the reward's corpus does not have"):
        score(*HONEST, passages={"x": Passage(id="x", title="", text="x")})


def test_the_queries_alone_are_the_share_of_good_ones_whatever_is_answered() -> None:
    for last in (answer("Oskel"), answer("no")):
        t = trajectory(search(["a"]), search(["a"], num_queries=2), invalid(), search(["b"]), last)
        scores = QueryQualityReward(context(), placed="good")(group(t), ASKED)
        np.testing.assert_array_equal(scores.turn[0], [1.0, 0.0, np.nan, 1.0, np.nan])
        assert np.isnan(scores.outcome).all()
    mixed = trajectory(search(["a"], num_queries=2), answer("no"))
    assert QueryQualityReward(context(), placed="good")(group(mixed), ASKED).turn[0][0] == 0.5
