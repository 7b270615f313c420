"""A group teaches where some trained token has an advantage; its judgement is made once."""

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from envs.question import Question
from rewards.compose import RewardTerm, build_rewards
from rewards.per_trajectory import TurnReward
from rewards.reward import RewardContext
from tests.train.fakes import trajectory, turn
from train.credit import load_estimator
from train.judge import UnitJudge

QUESTIONS = {"q": Question(id="q", text="q", golden_answers=("a",))}


class FirstToken(TurnReward):
    """Pays the first token's id, and counts how often it is asked."""

    name = "first_token"
    asked = 0

    def __init__(self, context: RewardContext) -> None:
        del context

    def turns(self, trajectory, question) -> NDArray[np.float64]:
        FirstToken.asked += 1
        return np.array([float(turn.action_ids[0]) for turn in trajectory.turns])


def unit(*firsts: int) -> Unit:
    members = tuple(trajectory(f"t{i}", [turn((first, 5), (6,))]) for i, first in enumerate(firsts))
    return Unit(kind="group", trajectories=members)


def judge() -> UnitJudge:
    terms = {"tests.train.test_judge:FirstToken": RewardTerm(weight=1.0)}
    rewards = build_rewards(terms, RewardContext(passage=lambda id: None, corpus=lambda: None))
    return UnitJudge(rewards, load_estimator("turn"), QUESTIONS)


def test_a_group_of_equal_rewards_teaches_nothing() -> None:
    assert not judge().teaches(unit(3, 3, 3))
    assert judge().teaches(unit(3, 3, 4))


def test_a_unit_that_is_sampled_again_is_not_kept() -> None:
    one = judge()
    FirstToken.asked = 0
    assert one.teaches(unit(1, 2))
    one.forget(unit(1, 2).id)
    one.forget("never asked of")
    one.judge(unit(1, 2))
    assert FirstToken.asked == 4, "scored anew, for nothing of it was kept"


def test_what_was_asked_beforehand_is_not_scored_again() -> None:
    one = judge()
    FirstToken.asked = 0
    assert one.teaches(unit(1, 2))
    judged = one.judge(unit(1, 2))
    assert FirstToken.asked == 2, "two trajectories, each asked once"
    assert [row.advantages.any() for row in judged.rows] == [True, True]
    one.judge(unit(1, 2))
    assert FirstToken.asked == 4, "a judgement is handed out once"
