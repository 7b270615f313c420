import math
from dataclasses import replace

import numpy as np
import pytest

from rewards.principles import PrinciplesReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory
from tests.rewards.fake_judge import FakeJudge

FIRST = {"thought": "I need the founder of Lomira.", "query": "founder of Lomira"}
SECOND = {
    "thought": "Tavo Rinsel founded Lomira; in which town did he grow up?",
    "query": "town where Tavo Rinsel grew up",
}


def scores(*turns, question=QUESTION, finish=None, **params):
    unit = group(trajectory(*turns, question=question, finish=finish))
    return PrinciplesReward(context(), **params)(unit, {question.id: question}).turn[0]


def total(*turns, **params) -> float:
    return float(np.nansum(scores(*turns, **params)))


def one(shown=("a",), *, thought="the founder of Lomira", query="founder of Lomira") -> float:
    """The score of a second turn, after a search that showed these passages."""
    return float(scores(search(list(shown)), search(["b"], query, thought=thought), aggregate="sum")[1])


def test_a_step_that_keeps_all_principles_has_one() -> None:
    values = scores(search(["a"], **FIRST), search(["b"], **SECOND), answer("Oskel"), aggregate="sum")
    np.testing.assert_allclose(values, [1.0, 1.0, np.nan])


@pytest.mark.parametrize(
    ("thought", "query", "kept"),
    [
        ("Tavo Rinsel founded Lomira", "town of Tavo Rinsel", 6),
        ("where did the founder grow up", "town of Tavo Rinsel", 5),  # no name or number of the passage
        ("so Rinsel it is", "town of Tavo Rinsel", 5),  # no word of the question
        ("", "town of Tavo Rinsel", 4),
        ("Tavo Rinsel founded Lomira", "town of youth", 5),  # no name
        ("Tavo Rinsel founded Lomira", "town of Tavo Rinsel, where he lived", 5),  # a pronoun
        ("Tavo Rinsel founded Lomira", "town of Tavo Rinsel " + "and the house " * 5, 5),  # 19 words
        ("Tavo Rinsel founded Lomira", " ", 3),
    ],
)
def test_each_principle_costs_its_share(thought: str, query: str, kept: int) -> None:
    assert one(thought=thought, query=query) == pytest.approx(kept / 6)


def test_a_search_after_all_supports_were_shown_is_not_justified() -> None:
    # T1 and the three of the query are lost, T2 and T3 are kept.
    assert one(("a", "b"), thought="Tavo Rinsel founded Lomira", query="town of Tavo Rinsel") == pytest.approx(2 / 6)


def test_facts_are_asked_for_only_where_something_was_shown() -> None:
    assert one((), thought="Lomira", query="founder of Lomira") == 1.0
    assert one((), thought="", query="founder of Lomira") == pytest.approx(4 / 5)


def test_a_question_in_lower_case_has_key_words_too() -> None:
    question = replace(QUESTION, text="where did the founder of lomira grow up")
    values = scores(search(["a"], "lomira founder", thought="founder of lomira"), question=question, aggregate="sum")
    np.testing.assert_allclose(values, [1.0])


HONEST = (search(["a"], **FIRST), search(["b"], **SECOND), answer("Oskel"))


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param(
            [search(["a"], "founder of Lomira"), search(["b"], SECOND["query"]), answer("Oskel")], id="empty thought"
        ),
        pytest.param(
            [search(["a"], **{**FIRST, "query": "Lomira"}, num_queries=20), answer("Oskel")], id="query spamming"
        ),
        pytest.param([*HONEST[:2], *[search(["c"], **SECOND)] * 6, answer("Oskel")], id="searching on"),
        pytest.param([search(["x"], "it", thought="hm")] * 6, id="always searching"),
        pytest.param([answer("Oskel")], id="never searching"),
        pytest.param([invalid(), answer("Oskel")], id="forging an observation"),
        pytest.param(
            [search(["a"], QUESTION.text + " " + QUESTION.text, thought=QUESTION.text), answer("?")], id="copying"
        ),
    ],
)
def test_cheats_earn_less_than_honest_steps(cheat) -> None:
    assert total(*cheat) < total(*HONEST) - 0.1


def test_the_sum_pays_for_turns_and_the_mean_does_not() -> None:
    slow = (search(["a"], **FIRST), *[search(["x"], **SECOND)] * 4, search(["b"], **SECOND), answer("Oskel"))
    assert total(*slow, aggregate="sum") > total(*HONEST, aggregate="sum") + 2
    assert total(*slow) <= total(*HONEST)


def test_a_judge_scores_thought_and_query_and_an_empty_thought_is_not_asked_about() -> None:
    judge = FakeJudge(lambda r: math.nan if r.fields["question"] == "?" else 0.8 if r.criterion == "thought" else 0.4)
    turns = (search(["a"], "one"), search(["b"], "two", thought="so"), invalid(), answer("Oskel"))
    np.testing.assert_allclose(scores(*turns, judge=judge, aggregate="sum"), [0.2, 0.6, 0.0, np.nan])
    assert [r.criterion for r in judge.batches[0]] == ["query", "thought", "query"]
    assert len(judge.batches[0][1].fields["context"]) == 1
    lost = scores(*turns, judge=judge, question=replace(QUESTION, text="?"), aggregate="sum")
    np.testing.assert_allclose(lost, [np.nan, np.nan, 0.0, np.nan])


def test_needs_and_bad_parameters() -> None:
    bare = replace(QUESTION, supporting_ids=())
    assert np.isnan(scores(*HONEST, question=bare)).all()
    assert not np.isnan(scores(*HONEST, question=bare, judge="rules")[:2]).any()
    assert scores(*HONEST[:2], finish="cut").shape == (2,)
    for params in ({"aggregate": "max"}, {"max_query_words": 0}):
        with pytest.raises(ValueError, match=f"principles.*{next(iter(params))}"):
            PrinciplesReward(context(), **params)
