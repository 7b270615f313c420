"""What the store and the report show of a turn must be what credit gave it."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.trajectory import Unit
from evaluation.turn_scores import turn_scores
from rewards.score import Scores
from tests.evaluation.episodes import good_trajectory


@dataclass
class FakeRow:
    trajectory_id: str
    first_token: int
    last_token: int
    advantages: NDArray[np.float64]


def test_rewards_and_advantages_by_turn() -> None:
    trajectories = (good_trajectory("a"), good_trajectory("b"))
    unit = Unit(kind="group", trajectories=trajectories)
    scores = {
        "hop": Scores(turn=(np.array([0.5, 0.5, np.nan]), np.zeros(3)), outcome=np.full(2, np.nan)),
        "em": Scores.of_outcome(unit, np.array([1.0, 0.0])),
    }
    index = trajectories[0].turn_index
    advantages = np.select([index == 0, index == 1, index == 2], [0.25, -1.0, 2.0], default=0.0)
    row = FakeRow("a", 0, len(index), advantages)
    first, second = turn_scores([unit], [scores], [row], {"hop": 2.0})
    assert first["reward"] == 3.0
    assert first["rewards"]["hop"] == {"turn": [0.5, 0.5, None], "outcome": None}
    assert first["rewards"]["em"] == {"turn": [None, None, None], "outcome": 1.0}
    assert first["advantages"] == [0.25, -1.0, 2.0]
    assert second["advantages"] is None


def test_one_mapping_of_scores_for_each_unit() -> None:
    with pytest.raises(ValueError, match="one mapping of scores for each unit"):
        turn_scores([Unit(kind="group", trajectories=(good_trajectory(),))], [])


def test_weighted_is_what_counts_of_a_reward_beside_what_it_gave() -> None:
    """A component behind a closed gate, and one that is a part of a combination: logged, and not in the sum."""
    unit = Unit(kind="group", trajectories=(good_trajectory("a"),))
    hop = Scores.of_turns(unit, [np.array([0.5, np.nan, 1.0])])
    closed = Scores.of_turns(unit, [np.array([0.0, np.nan, 0.0])])
    em = Scores.of_outcome(unit, np.array([1.0]))
    [extra] = turn_scores(
        [unit],
        [{"hop": closed, "em": em, "product": em}],
        weights={"hop": 2.0, "em": 0.0, "product": 1.0},
        raw=[{"hop": hop, "em": em}],
        logged_weights={"hop": 2.0, "em": 3.0, "product": 1.0},
    )
    assert extra["reward"] == 1.0
    assert extra["rewards"]["hop"] == {"turn": [0.5, None, 1.0], "outcome": None}
    assert extra["weighted"]["hop"] == {"turn": [0.0, None, 0.0], "outcome": None}
    assert (extra["rewards"]["em"]["outcome"], extra["weighted"]["em"]["outcome"]) == (1.0, 3.0)
    assert extra["rewards"]["product"] == extra["weighted"]["product"]
