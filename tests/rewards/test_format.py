import pytest

from agent.action import Action
from rewards.format import FormatReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory


def score(*trajectories, **params) -> list[float]:
    unit = group(*trajectories)
    return FormatReward(context(), **params)(unit, {"q": QUESTION}).outcome.tolist()


def test_every_turn_well_formed_and_an_answer_scores_one() -> None:
    assert score(trajectory(search(["a"]), search(["b"]), answer("Oskel"))) == [1.0]


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param(trajectory(invalid(), answer("Oskel")), id="forged observation, corrected, then answered"),
        pytest.param(trajectory(invalid(), finish="malformed"), id="forged observation that ended the episode"),
        pytest.param(trajectory(search(["a"]), answer("  ")), id="answering nothing"),
        pytest.param(trajectory(search(["a"]), search(["a"])), id="never answering"),
        pytest.param(trajectory(search(["a"], query=" "), answer("Oskel")), id="blank query"),
        pytest.param(trajectory(search(["a"]), answer("harbour town " * 40)), id="copying passages into the answer"),
        pytest.param(trajectory(finish="token_limit"), id="no turn at all"),
        pytest.param(trajectory(search(["a"]), answer("Oskel"), finish="no_answer"), id="not accepted as an answer"),
    ],
)
def test_cheats_score_zero(cheat) -> None:
    assert score(cheat) == [0.0]


def test_the_limit_on_answer_words_is_inclusive_and_checked() -> None:
    assert score(trajectory(answer("one two three")), max_answer_words=3) == [1.0]
    assert score(trajectory(answer("one two three")), max_answer_words=2) == [0.0]
    with pytest.raises(ValueError, match="format: max_answer_words must be a whole number >= 1, got 0"):
        FormatReward(context(), max_answer_words=0)


def test_a_call_without_requests_is_not_well_formed() -> None:
    from dataclasses import replace

    empty = replace(search([]), action=Action(kind="call"))
    assert score(trajectory(empty, answer("Oskel"))) == [0.0]
