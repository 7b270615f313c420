import math
import random
from dataclasses import replace

import numpy as np
import pytest

from rewards.reflection import ReflectionReward
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory
from tests.rewards.fake_judge import FakeJudge


def score(*turns, question=QUESTION, finish=None, **params) -> float:
    unit = group(trajectory(*turns, question=question, finish=finish))
    return float(ReflectionReward(context(), **params)(unit, {question.id: question}).outcome[0])


def episode(shown, said):
    """Searches that showed these passages, each reflected on in the turn after it."""
    turns = [search(list(ids), reflection=said[i - 1] if i else None) for i, ids in enumerate(shown)]
    return (*turns, answer("Oskel", reflection=said[-1]))


def test_it_equals_balanced_accuracy_on_random_episodes() -> None:
    rng = random.Random(1)
    for _ in range(200):
        shown = [rng.choice(["a", "b", "ab", "x", "", "xa"]) for _ in range(rng.randint(1, 6))]
        said = [rng.choice([True, False]) for _ in shown]
        missing, labels = ["a", "b"], []
        for ids in shown:
            met = [hop for hop in missing if hop in ids][:1]
            labels.append(bool(met))
            missing = [hop for hop in missing if hop not in met]
        pairs = list(zip(said, labels, strict=True))
        of_class = {c: [s == y for s, y in pairs if y is c] for c in (True, False)}
        balanced = np.mean([np.mean(hits) for hits in of_class.values() if hits])
        assert score(*episode(shown, said)) == pytest.approx(balanced)
        assert score(*episode(shown, said), balanced=False) == pytest.approx(np.mean([s == y for s, y in pairs]))


SHOWN = ["x", "a", "b"]
HONEST = [False, True, True]


def test_always_true_earns_half_where_a_search_failed() -> None:
    assert score(*episode(SHOWN, HONEST)) == 1.0
    assert score(*episode(SHOWN, [True] * 3)) == score(*episode(SHOWN, [False] * 3)) == 0.5


def test_balanced_is_the_default_because_plain_pays_always_true_like_an_honest_mistake() -> None:
    question = replace(QUESTION, hops=(*QUESTION.hops, replace(QUESTION.hops[0], supporting_id="c")))
    shown = ["x", "a", "b", "c"]
    always, mistaken = episode(shown, [True] * 4), episode(shown, [False, True, False, True])
    plain = {"balanced": False, "question": question}
    assert score(*always, **plain) == score(*mistaken, **plain) == 0.75
    assert score(*always, question=question) == 0.5 < score(*mistaken, question=question)


def test_a_junk_search_neither_helps_nor_hurts_who_reflects_rightly() -> None:
    assert score(*episode(["a", "b"], [True, True])) == score(*episode(["a", "b", "y"], [True, True, False])) == 1.0


def test_silence_is_wrong_where_something_is_said_and_nan_where_nothing_is() -> None:
    assert score(search(["a"]), search(["b"], reflection=True), answer("Oskel")) == 0.5
    silent = (search(["a"]), search(["b"]), answer("Oskel"))
    assert math.isnan(score(*silent)) and score(*silent, required=True) == 0.0
    assert math.isnan(score(answer("Oskel", reflection=True)))  # nothing was observed
    assert math.isnan(score(*episode(SHOWN, HONEST), finish="cut"))


def test_an_observation_is_credited_with_one_hop() -> None:
    assert score(*episode(["ab", "b"], [True, True])) == 1.0
    assert score(*episode(["ab", "b", "b"], [True, True, False])) == 1.0


def test_the_label_by_words_needs_an_answer_or_the_goals_words() -> None:
    def by_words(shown, goal, said, **params):
        return score(search(shown, goal=goal), answer("?", reflection=said), label="words", **params)

    assert by_words(["a"], None, True) == 1.0  # says Tavo Rinsel
    assert by_words(["y"], None, True) == 0.0
    assert by_words(["y"], "glaciers and valleys", True) == 1.0  # both words
    assert by_words(["x", "y"], "glaciers and valleys", True) == 0.0  # the first passage alone counts
    assert by_words(["y"], "glaciers of the south", True) == 0.0  # one of two is below 0.6
    assert by_words(["y"], "glaciers of the south", True, goal_recall=0.5) == 1.0
    assert by_words(["y"], "of the", True) == 0.0  # a goal of no content is never met


def test_a_goal_stands_until_the_next_one_is_stated() -> None:
    turns = (search(["x"], goal="glaciers"), search(["y"], reflection=False), answer("?", reflection=True))
    assert score(*turns, label="words") == 1.0


def test_a_vague_goal_meets_itself_by_words_and_not_by_hops() -> None:
    cheat = (search(["x"], goal="drum"), search(["y"], goal="ice", reflection=True), answer("?", reflection=True))
    assert score(*cheat, label="words") == 1.0
    assert score(*cheat) == 0.0


def test_a_judge_is_asked_about_the_goal_and_a_failure_leaves_the_mean() -> None:
    judge = FakeJudge(lambda r: {"goal one": 1.0, "goal two": math.nan}.get(r.fields["goal"], 0.4))
    turns = (
        search(["x"], goal="goal one"),
        search(["a"], goal="goal two", reflection=True),
        search(["b"], goal="goal three", reflection=True),
        answer("Oskel", reflection=True),
    )
    assert score(*turns, judge=judge) == 0.5  # met and said so; failed; unmet, said to be met
    assert [r.criterion for r in judge.batches[0]] == ["goal_met"] * 3
    assert judge.batches[0][0].fields["golds"] == ("Oskel", "Tavo Rinsel")
    assert math.isnan(score(*turns, judge=FakeJudge(lambda r: math.nan)))


def test_the_query_stands_in_for_a_goal_that_was_not_stated() -> None:
    judge = FakeJudge(lambda r: 1.0)
    score(search(["a"], "who founded it"), answer("Oskel", reflection=True), judge=judge)
    assert judge.batches[0][0].fields["goal"] == "who founded it"


def test_bad_parameters_and_missing_annotation() -> None:
    for params in ({"label": "goal"}, {"balanced": "yes"}, {"goal_recall": -1}, {"required": None}):
        with pytest.raises(ValueError, match=f"reflection.*{next(iter(params))}"):
            ReflectionReward(context(), **params)
    bare = replace(QUESTION, hops=())
    assert math.isnan(score(*episode(SHOWN, HONEST), question=bare))
    assert score(search(["c"]), answer("?", reflection=True), question=bare, label="words") == 1.0
