import math
import random
from dataclasses import replace

import numpy as np
import pytest

from envs.question import Hop
from rewards.judgement import JudgementReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory
from tests.rewards.fake_judge import FakeJudge


def scores(*turns, question=QUESTION, **params):
    unit = group(trajectory(*turns, question=question))
    return JudgementReward(context(), **params)(unit, {question.id: question}).turn[0]


def total(*turns, **params) -> float:
    return float(np.nansum(scores(*turns, **params)))


def test_match_false_accept_and_false_reject() -> None:
    values = scores(
        search(["a"]),
        search(["x"], judgement=True),  # one hop is missing: false accept
        search(["b"], judgement=False),  # x brought nothing: match
        answer("Oskel", judgement=False),  # all is there: false reject
        aggregate="sum",
    )
    np.testing.assert_allclose(values, [np.nan, -0.6, 0.3, -0.3])


def test_it_equals_the_formula_on_random_episodes() -> None:
    rng = random.Random(0)
    for _ in range(200):
        shown = [rng.sample("abcxyz", rng.randint(0, 3)) for _ in range(rng.randint(1, 5))]
        said = [rng.choice([True, False]) for _ in shown]
        turns = [search(ids, judgement=said[i - 1] if i else None) for i, ids in enumerate(shown)]
        values = scores(*turns, answer("x", judgement=said[-1]), match=0.5, false_accept=0.7, false_reject=0.2)
        wanted = [math.nan]
        for i, judgement in enumerate(said):
            is_enough = {"a", "b"} <= {p for ids in shown[: i + 1] for p in ids}
            gain = {(True, True): 0.5, (False, False): 0.5, (True, False): -0.7, (False, True): -0.2}
            wanted.append(gain[judgement, is_enough] / len(said))
        np.testing.assert_allclose(values, wanted)


def test_labels_by_the_final_answer_and_by_hops() -> None:
    turns = (search(["a"]), search(["b"], judgement=True), search(["b"], judgement=True), answer("?", judgement=True))
    params = {"aggregate": "sum", "match": 1.0, "false_accept": 2.0}
    # Passage a says hop 1's answer, b says the final one and hop 2's.
    np.testing.assert_allclose(scores(*turns, label="answer", **params), [np.nan, -2.0, 1.0, 1.0])
    np.testing.assert_allclose(scores(*turns, label="hop", **params), [np.nan, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(scores(*turns, label="enough", **params), [np.nan, -2.0, 1.0, 1.0])


def test_a_hop_is_useful_once_unless_the_answer_is_there() -> None:
    turns = (search(["a"]), search(["a"], judgement=True), answer("?", judgement=True))
    np.testing.assert_allclose(scores(*turns, label="hop", aggregate="sum"), [np.nan, 0.3, -0.6])


def test_hops_without_annotated_supports_are_found_by_their_answers() -> None:
    question = replace(QUESTION, hops=tuple(replace(hop, supporting_id=None) for hop in QUESTION.hops))
    values = scores(search(["a"]), search(["c"], judgement=False), answer("?", judgement=True), question=question)
    np.testing.assert_allclose(values, [np.nan, 0.15, 0.15])  # c says Oskel too


def test_an_alias_inside_a_longer_word_is_not_said() -> None:
    question = replace(QUESTION, golden_answers=("rum",))  # passage x says "drum"
    turns = (search(["x"]), answer("?", judgement=True))
    assert total(*turns, question=question, label="answer") == pytest.approx(-0.6)


HONEST = (
    search(["x"]),
    search(["a"], judgement=False),
    search(["b"], judgement=False),
    answer("Oskel", judgement=True),
)


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param(
            [search(["x"]), *(search([i], judgement=True) for i in "ab"), answer("Oskel", judgement=True)], id="yes"
        ),
        pytest.param(
            [search(["x"]), *(search([i], judgement=False) for i in "ab"), answer("Oskel", judgement=False)], id="no"
        ),
        pytest.param([search(["x"]), search(["a"], judgement=False), search(["b"]), answer("Oskel")], id="once"),
        pytest.param([answer("Oskel", judgement=True)], id="never searching"),
        pytest.param([search(["x"]), invalid(), answer("Oskel", judgement=True)], id="forging an observation"),
    ],
)
def test_cheats_earn_less_than_honest_judgements(cheat) -> None:
    assert total(*cheat) < total(*HONEST) - 0.1


def test_the_mean_pays_searching_on_no_more_and_the_sum_does() -> None:
    junk = [search(["x"]), *(search(["y"], judgement=False) for _ in range(6)), answer("?", judgement=False)]
    assert total(*junk) == pytest.approx(total(*HONEST))
    assert total(*junk, aggregate="sum") > total(*HONEST, aggregate="sum") + 1.0


def test_a_trajectory_that_judges_nothing_is_nan_unless_it_has_to() -> None:
    silent = (search(["a"]), search(["b"]), answer("Oskel"))
    assert np.isnan(scores(*silent)).all()
    np.testing.assert_allclose(scores(*silent, required=True), [np.nan, -0.3, -0.15])
    assert np.isnan(scores(answer("Oskel"), required=True)).all()


def test_a_judge_replaces_the_words_and_its_failure_is_nan() -> None:
    judge = FakeJudge(
        lambda r: math.nan if "Drums" in r.fields["passages"][0] else 0.71 if r.fields["query"] == "Oskel" else 0
    )
    turns = (search(["a"]), search(["x"], judgement=True), answer("?", judgement=True))
    values = scores(*turns, judge=judge, label="answer", aggregate="sum")
    np.testing.assert_allclose(values, [np.nan, 0.3, np.nan])
    assert [request.criterion for request in judge.batches[0]] == ["relevance"] * 2
    assert scores(*turns, judge=FakeJudge(lambda r: 0.7), label="hop", aggregate="sum")[1] == -0.6  # not above it
    assert np.isnan(scores(answer("Oskel", judgement=True), judge=judge, label="answer")).all()


def test_bad_parameters_and_missing_hops() -> None:
    for params in (
        {"label": "final"},
        {"aggregate": "max"},
        {"required": 1},
        {"match": math.inf},
        {"false_accept": -1},
    ):
        with pytest.raises(ValueError, match=f"judgement.*{next(iter(params))}"):
            JudgementReward(context(), **params)
    with pytest.raises(ValueError, match="label"):
        JudgementReward(context(), judge="rules")
    bare = replace(QUESTION, hops=())
    assert np.isnan(scores(*HONEST, question=bare)).all()
    assert not np.isnan(scores(*HONEST, question=bare, label="answer")).all()


def test_a_hop_without_answers_is_never_said() -> None:
    question = replace(QUESTION, hops=(Hop(question="?", answers=()),))
    assert total(search(["a"]), answer("?", judgement=True), question=question) == pytest.approx(-0.6)
