from dataclasses import replace

import numpy as np
import pytest

from rewards.formatted_match import FormattedMatchReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory


def score(*turns, finish=None, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, finish=finish, question=question))
    return float(FormattedMatchReward(context(), **params)(unit, {question.id: question}).outcome[0])


def test_the_four_cases() -> None:
    assert score(search(["a"]), answer("the Oskel")) == 1.0
    assert score(invalid(), answer("Oskel")) == 0.8
    assert score(search(["a"]), answer("Lomira")) == 0.2
    assert score(invalid(), answer("Lomira")) == 0.0
    assert score(search(["a"])) == score(search(["a"]), answer(" ")) == 0.0


def test_cheats_stay_below_the_worst_right_answer() -> None:
    worst_right = score(invalid(), answer("Oskel"))
    assert score(answer("Lomira")) < worst_right  # a guess in good form
    assert score(invalid("forged"), answer("town")) < score(answer("town"))
    assert score(search(["b"]), answer("Tavo Rinsel grew up in the harbour town of Oskel.")) < worst_right


def test_the_weight_of_the_form() -> None:
    assert score(answer("Lomira"), format_weight=0.4) == 0.4
    assert score(invalid(), answer("Oskel"), format_weight=0.4) == 0.6
    assert score(answer("Oskel " * 3), max_answer_words=2) == 0.0
    for weight in (0.5, 1.0, -0.1, float("nan"), True):
        with pytest.raises(ValueError, match="format_weight"):
            FormattedMatchReward(context(), format_weight=weight)


def test_without_golds_and_for_a_cut_candidate_it_is_nan() -> None:
    assert np.isnan(score(answer("Oskel"), question=replace(QUESTION, golden_answers=())))
    assert np.isnan(score(search(["a"]), finish="cut"))
