from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from rewards.boundary import BoundaryReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory


def score(*turns, finish=None, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, finish=finish, question=question))
    return float(BoundaryReward(context(), **params)(unit, {question.id: question}).outcome[0])


def test_it_equals_the_published_table() -> None:
    published = {0: 1.6, 1: 1.4, 2: 1.2, 3: 1.0, 4: 1.0, 7: 1.0}
    for num_searches, reward in published.items():
        assert score(*[search(["a"])] * num_searches, answer("Oskel")) == pytest.approx(reward)
    assert score(answer("Lomira")) == 0.0
    assert score(search(["a"]), answer("Lomira")) == score(search(["a"])) == 0.05


def test_the_order_of_the_source_holds() -> None:
    few, many = score(search(["a"]), answer("Oskel")), score(*[search(["a"])] * 3, answer("Oskel"))
    wrong, unsearched = score(search(["a"]), answer("?")), score(answer("?"))
    malformed = score(invalid(), answer("Oskel"))
    assert all(better > worse for better, worse in pairwise([few, many, wrong, unsearched, malformed]))


def test_queries_of_one_turn_count_each() -> None:
    assert score(search(["a"], num_queries=2), answer("Oskel")) == pytest.approx(1.2)


def test_what_is_malformed() -> None:
    assert score() == -1.0
    assert score(search(["a"]), finish="malformed") == -1.0
    assert score(search(["a"], " "), answer("Oskel")) == -1.0
    assert score(search(["a"]), answer("Oskel", (2,))) == -1.0
    assert score(search(["a"]), answer("Oskel", (1,))) == pytest.approx(1.4)
    assert score(search(["a"]), answer("Oskel"), thought_required=True) == -1.0
    thinking = (search(["a"], thought="I do not know it"), answer("Oskel", thought="Oskel"))
    assert score(*thinking, thought_required=True) == pytest.approx(1.4)


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param([answer("Oskel", (1, 2))], id="inventing sources for a guess"),
        pytest.param([search(["x"], num_queries=20), answer("Oskel")], id="query spamming"),
        pytest.param([search(["a"])] * 6 + [answer("Oskel")], id="always searching"),
        pytest.param([answer("Lomira")], id="never searching"),
        pytest.param([invalid(), answer("Oskel")], id="forging an observation"),
        pytest.param([search(["b"]), answer("Tavo Rinsel grew up in Oskel.")], id="copying a passage"),
        pytest.param([search(["a"])] * 6, id="never answering"),
    ],
)
def test_cheats_earn_less_than_an_honest_answer(cheat) -> None:
    assert score(*cheat) < score(search(["a"]), search(["b"]), answer("Oskel", (1, 2)))


def test_parameters_and_missing_golds() -> None:
    assert score(search(["a"]), answer("Oskel"), bonus=1.0, free_searches=2) == 1.5
    assert score(search(["a"]), answer("?"), wrong_searched=0.3) == 0.3
    for params in ({"bonus": -1.0}, {"free_searches": 0}, {"wrong_searched": "x"}, {"thought_required": 1}):
        with pytest.raises(ValueError, match=f"boundary.*{next(iter(params))}"):
            BoundaryReward(context(), **params)
    assert np.isnan(score(answer("Oskel"), question=replace(QUESTION, golden_answers=())))
    assert np.isnan(score(search(["a"]), finish="cut"))
