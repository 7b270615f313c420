"""StepSearch's placement: a turn's reward on the last token of its action, the outcome on the last token of all.

The returns are per token: `G[j] = r[j] + discount * G[j + 1]` over the sampled tokens of a trajectory, so with a
discount below 1 a token earns more the nearer it stands to what it brought about. StePPO (arXiv:2505.15107) fits a
critic; here a token's baseline is its turn in the group: mean and deviation, over the trajectories that have the turn,
of the mean return of the turn's tokens. Without a discount all tokens of a turn return the same, and this is `turn`.

The method scales step rewards by 0.6. Its public code adds 0.6 times a tensor that it has already filled in place, so
what it trains with is 1.6; `step_scale=1.6` reproduces that.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.baseline import EPSILON, moments_of
from train.credit.group import Group, to_token_rows
from train.credit.parameters import number, share
from train.credit.row import Row


def token_returns(
    rewards: NDArray[np.float64], turn_index: NDArray[np.int64], *, discount: float = 1.0
) -> NDArray[np.float64]:
    """What each sampled token and those after it earn: `[num_tokens]`, NaN on tokens that were not sampled.

    rewards: `[num_turns]`, each on the last token that its turn sampled (a turn without a token: on the last one before
    it); turn_index: `[num_tokens]`, the turn that sampled each token, -1 elsewhere. `discount` is taken per sampled
    token; what was read in between takes no time.

    >>> token_returns(np.array([1.0, 4.0]), np.array([-1, 0, 0, -1, 1]), discount=0.5)
    array([nan, 1.5, 3. , nan, 4. ])
    """
    sampled = np.flatnonzero(turn_index >= 0)
    ends = np.searchsorted(turn_index[sampled], np.arange(len(rewards)), side="right") - 1
    placed = np.zeros(len(sampled))
    np.add.at(placed, ends[ends >= 0], rewards[ends >= 0])
    following = 0.0
    for place in range(len(sampled) - 1, -1, -1):
        following = placed[place] + discount * following
        placed[place] = following
    result = np.full(len(turn_index), np.nan)
    result[sampled] = placed
    return result


def step_token_advantages(
    returns: Sequence[NDArray[np.float64]], turn_indices: Sequence[NDArray[np.int64]], *, max_turns: int
) -> list[NDArray[np.float64]]:
    """`(G[j] - mean_t) / (std_t + 1e-4)` for a token j of turn t, exactly 0 where no two trajectories differ.

    returns: one array `[num_tokens_i]` a trajectory, NaN where nothing was sampled, or all along a trajectory that
    takes no part; turn_indices: the same shapes. `mean_t` and `std_t` are over trajectories, of the mean of `G` over
    their tokens of turn t: a long action weighs no more than a short one. Returns the same shapes, NaN where NaN.
    """
    per_turn = np.full((len(returns), max_turns), np.nan)
    for row, (values, index) in enumerate(zip(returns, turn_indices, strict=True)):
        for turn in np.unique(index[~np.isnan(values)]):
            inside = values[index == turn]
            per_turn[row, turn] = inside[0] if (inside == inside[0]).all() else inside.mean()
    moments = moments_of(per_turn)
    scale = np.where(moments.varies, 1.0 / (moments.deviation + EPSILON), 0.0)
    return [(values - moments.mean[index]) * scale[index] for values, index in zip(returns, turn_indices, strict=True)]


class StepTokens:
    """`step_tokens`. `step_scale` multiplies all turn scores; `token_discount` in [0, 1] is taken per sampled token."""

    def __init__(self, *, step_scale: float = 0.6, token_discount: float = 1.0) -> None:
        self.step_scale = number("step_scale", step_scale)
        self.token_discount = share("token_discount", token_discount)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with an advantage for each sampled token."""
        return to_token_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> list[NDArray[np.float64]]:
        rewards = group.rewards_with(turn_scale=self.step_scale)
        turn_indices = [trajectory.turn_index for trajectory in group.trajectories]
        returns = [
            token_returns(rewards[i, : group.num_turns[i]], index, discount=self.token_discount)
            for i, index in enumerate(turn_indices)
        ]
        return step_token_advantages(returns, turn_indices, max_turns=rewards.shape[1])
