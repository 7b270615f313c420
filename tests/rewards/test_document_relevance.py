import math
import random
from dataclasses import replace

import numpy as np
import pytest

from rewards.document_relevance import DocumentRelevanceReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory
from tests.rewards.fake_judge import FakeJudge


def scores(*turns, finish=None, question=QUESTION, **params):
    unit = group(trajectory(*turns, finish=finish, question=question))
    return DocumentRelevanceReward(context(), **params)(unit, {question.id: question}).turn[0]


def total(*turns, **params) -> float:
    return float(np.nansum(scores(*turns, **params)))


def test_the_published_scales_and_the_answers_step() -> None:
    steps = (search(["a"]), search(["x"]))
    np.testing.assert_allclose(scores(*steps, answer("Oskel"), aggregate="sum"), [1.6, 0.0, 2.0])
    np.testing.assert_allclose(scores(*steps, answer("?"), aggregate="sum"), [0.8, 0.0, 0.0])
    np.testing.assert_allclose(scores(*steps, aggregate="sum"), [0.9, 0.0])
    np.testing.assert_allclose(scores(*steps, finish="malformed", aggregate="sum", malformed_scale=1.0), [1.0, 0.0])
    np.testing.assert_allclose(scores(*steps, finish="cut", aggregate="sum"), [1.0, 0.0])


def test_it_equals_the_formula_on_random_episodes() -> None:
    rng = random.Random(2)
    for _ in range(200):
        shown = [rng.sample("abcxyz", rng.randint(0, 3)) for _ in range(rng.randint(0, 5))]
        said = rng.choice(["Oskel", "Lomira", None])
        turns = [search(ids) for ids in shown] + ([] if said is None else [answer(said)])
        scale = {"Oskel": 1.6, "Lomira": 0.8, None: 0.9}[said]
        seen: set[str] = set()
        wanted = []
        for ids in shown:
            wanted.append(scale * bool({"a", "b"} & set(ids) - seen) / len(shown))
            seen |= set(ids)
        wanted += [] if said is None else [2.0 if said == "Oskel" else 0.0]
        np.testing.assert_allclose(scores(*turns), wanted)


def test_a_close_answer_is_right_unless_only_exact_matches_are() -> None:
    question = replace(QUESTION, golden_answers=("the old harbour town Oskel",))
    turns = (search(["a"]), answer("old harbour town of Oskel"))  # F1 of 8 / 9
    assert total(*turns, question=question) == pytest.approx(3.6)
    assert total(*turns, question=question, min_f1=None) == pytest.approx(0.8)
    assert total(*turns, question=question, min_f1=0.95) == pytest.approx(0.8)


HONEST = (search(["a", "x"]), search(["b", "z"]), answer("Oskel"))


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param([search(["a", "x"])] * 6 + [answer("Oskel")], id="repeating the query"),
        pytest.param([search(["a"]), search(["b"])] * 4, id="searching on for ever"),
        pytest.param([search(["x", "y"], num_queries=20), answer("Oskel")], id="query spamming"),
        pytest.param([answer("Lomira")], id="guessing"),
        pytest.param([invalid(), answer("Oskel")], id="forging an observation"),
        pytest.param([search(["a"]), search(["b"]), answer("Tavo Rinsel grew up in the town of Oskel")], id="copying"),
    ],
)
def test_cheats_earn_less_than_the_honest_episode(cheat) -> None:
    assert total(*cheat) < total(*HONEST) - 0.3


def test_the_sum_pays_searching_on_more_than_answering_and_the_mean_does_not() -> None:
    on = [search([i]) for i in "abxyzc"]
    judged = {"judge": FakeJudge(lambda r: 1.0)}  # each search by itself looks relevant
    assert total(*on, aggregate="sum", **judged) > total(search(["a"]), answer("Oskel"), aggregate="sum", **judged)
    assert total(*on, **judged) == pytest.approx(0.9)
    assert total(search(["a"]), answer("Oskel"), **judged) == pytest.approx(3.6)


def test_breaking_the_form_is_worth_no_more_than_a_wrong_answer() -> None:
    assert total(search(["a"]), invalid(), finish="malformed") <= total(search(["a"]), answer("?"))


def test_aliases_count_at_their_first_mention() -> None:
    values = scores(search(["a"]), search(["a", "z"]), search(["c"]), relevance="alias", aggregate="sum")
    np.testing.assert_allclose(values, [0.9, 0.0, 0.9])  # Tavo Rinsel, nothing new, Oskel


def test_lexical_relevance_can_be_quoted_and_supports_cannot() -> None:
    quoting = search(["y"], "Glaciers carve valleys as ice flows slowly downhill")
    assert total(quoting, relevance="lexical") == pytest.approx(0.9)
    assert total(quoting) == 0.0
    assert total(search(["y"], "glaciers in Lomira"), relevance="lexical") == pytest.approx(0.45)
    assert total(search([], "glaciers"), relevance="lexical") == 0.0


def test_a_failed_verdict_leaves_the_mean() -> None:
    judge = FakeJudge(lambda r: math.nan if r.fields["query"] == "lost" else 0.5)
    turns = (search(["a"]), search(["x"], "lost"), search(["b"]), answer("Oskel"))
    np.testing.assert_allclose(scores(*turns, judge=judge), [0.4, np.nan, 0.4, 2.0])
    assert [r.criterion for r in judge.batches[0]] == ["relevance"] * 3


def test_needs_and_bad_parameters() -> None:
    bare = replace(QUESTION, supporting_ids=())
    assert np.isnan(scores(*HONEST, question=bare)).all()
    assert not np.isnan(scores(*HONEST, question=bare, relevance="alias")).any()
    assert not np.isnan(scores(*HONEST, question=bare, judge="rules")).any()
    for params in ({"relevance": "bm25"}, {"aggregate": "max"}, {"wrong_scale": -1}, {"min_f1": math.nan}):
        with pytest.raises(ValueError, match=f"document_relevance.*{next(iter(params))}"):
            DocumentRelevanceReward(context(), **params)
