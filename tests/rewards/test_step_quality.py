import math
from dataclasses import replace

import numpy as np
import pytest

from rewards.step_quality import StepQualityReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory
from tests.rewards.fake_judge import FakeJudge

FIRST = {"thought": "I need the founder of Lomira.", "query": "Who founded Lomira?"}
SECOND = {"thought": "Tavo Rinsel founded it; next his town.", "query": "town where Tavo Rinsel grew up"}
LAST = "So Tavo Rinsel is of Oskel."
HONEST = (search(["a"], **FIRST), search(["b"], **SECOND), answer("Oskel", thought=LAST))


def scores(*turns, question=QUESTION, finish=None, aggregate="sum", **params):
    unit = group(trajectory(*turns, question=question, finish=finish))
    return StepQualityReward(context(), aggregate=aggregate, **params)(unit, {question.id: question}).turn[0]


def total(*turns, **params) -> float:
    return float(np.nansum(scores(*turns, aggregate="mean", **params)))


def test_honest_steps_and_the_bonus_counted_from_turn_one() -> None:
    np.testing.assert_allclose(scores(*HONEST), [2.0, 2.0, 2.0 + 0.1 * 1 / 4])
    np.testing.assert_allclose(scores(answer("Oskel", thought="Lomira")), [2.0 + 0.1 * 3 / 4])
    late = [search(["x"], f"query number {n} word{n}", thought=f"Lomira {n}") for n in range(5)]
    assert scores(*late, answer("Oskel", thought="the founder of Lomira"))[-1] == 2.0  # never below 0
    assert scores(answer("Oskel", thought="Lomira"), early_bonus=1.0, max_turns=2)[0] == 2.5


@pytest.mark.parametrize(
    ("thought", "score"),
    [
        ("", -1),
        ("of the", -1),
        ("I need the founder of Lomira!", -1),  # the words of the first thought again
        ("Rinsel founded it", 1),
        ("now the next thing", 0),
        ("Lomira was founded by Hedda Quist", 0),  # a name that stands nowhere
    ],
)
def test_a_thought(thought: str, score: int) -> None:
    turns = (search(["a"], **FIRST), search(["b"], SECOND["query"], thought=thought))
    assert scores(*turns)[1] == score + 1


@pytest.mark.parametrize(
    ("query", "shown", "score"),
    [
        ("town of Tavo Rinsel", ["b"], 1),
        ("town of Tavo Rinsel", ["c"], 1),  # says the answer
        ("town of Tavo Rinsel", ["a", "x"], 0),  # shown before
        ("town of Tavo Rinsel", [], 0),
        ("Who founded Lomira", ["b"], -1),  # asked before
        ("Oskel", ["b"], -1),  # one word
        ("", ["b"], -1),
    ],
)
def test_a_query(query: str, shown: list[str], score: int) -> None:
    turns = (search(["a"], **FIRST), search(shown, query, thought=SECOND["thought"]))
    assert scores(*turns)[1] == score + 1


def test_the_same_query_twice_in_a_turn_is_repeated() -> None:
    assert scores(search(["a"], **FIRST, num_queries=2))[0] == 0.0


@pytest.mark.parametrize(
    ("text", "score"), [("oskel", 1), ("town Oskel", 0), ("Oskel in the east hills", -1), (" ", -1)]
)
def test_an_answer(text: str, score: int) -> None:
    assert scores(answer(text, thought="Lomira"), early_bonus=0.0)[0] == 1 + score


def test_a_search_that_was_not_carried_out_has_a_fair_query() -> None:
    pending = replace(search(["a"], **FIRST), calls=(), shown=(), observation_ids=())
    np.testing.assert_allclose(scores(pending, finish="cut"), [1.0])


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param(
            [search(["a"], FIRST["query"]), search(["b"], SECOND["query"]), answer("Oskel")], id="empty thoughts"
        ),
        pytest.param([search(["a"], **FIRST)] * 5 + [answer("Oskel", thought=LAST)], id="repeated queries"),
        pytest.param([search(["a"], **FIRST, num_queries=9), answer("Oskel", thought=LAST)], id="query spamming"),
        pytest.param([invalid(), answer("Oskel", thought=LAST)], id="forging an observation"),
        pytest.param([*HONEST[:2], answer("Tavo Rinsel grew up in the town of Oskel", thought=LAST)], id="copying"),
        pytest.param([answer("Lomira", thought="Lomira")], id="guessing"),
        pytest.param([*HONEST[:2], answer("cannot be determined", thought=LAST)], id="cannot be determined"),
    ],
)
def test_cheats_earn_less_than_the_honest_episode(cheat) -> None:
    assert total(*cheat) < total(*HONEST) - 0.2


def test_the_sum_pays_fresh_junk_and_the_mean_does_not() -> None:
    junk = [search(["x"], f"colour{n} of flag{n}", thought=f"Lomira colour{n} flag{n} sort{n}") for n in range(6)]
    slow = (*HONEST[:2], *junk, HONEST[2])
    assert scores(*slow).sum() > scores(*HONEST).sum() + 5
    assert total(*slow) < total(*HONEST)


def test_a_judges_scores_become_ternary_and_its_failure_is_nan() -> None:
    of = {"thought": 0.5, "query": 2 / 3, "answer": 1 / 3}
    judge = FakeJudge(lambda r: of[r.criterion])
    turns = (search(["a"], **FIRST), invalid(), search(["b"], "town"), answer("Oskel", thought="so"))
    np.testing.assert_allclose(scores(*turns, judge=judge), [1.0, -2.0, 0.0, -1.0])
    assert [r.criterion for r in judge.batches[0]] == ["thought", "query", "query", "thought", "answer"]
    of["query"] = math.nan
    np.testing.assert_allclose(scores(*turns, judge=judge), [np.nan, -2.0, np.nan, -1.0])
    # The query is judged before its results: the context of the first one is empty.
    assert judge.batches[0][1].fields["context"] == [] != judge.batches[0][2].fields["context"]


def test_needs_and_bad_parameters() -> None:
    bare = replace(QUESTION, supporting_ids=())
    assert np.isnan(scores(*HONEST, question=bare)).all()
    assert not np.isnan(scores(*HONEST, question=bare, judge="rules")).any()
    for params in ({"early_bonus": -0.1}, {"max_turns": 0}):
        with pytest.raises(ValueError, match=f"step_quality.*{next(iter(params))}"):
            StepQualityReward(context(), **params)
    with pytest.raises(ValueError, match="aggregate"):
        StepQualityReward(context(), aggregate="max")
