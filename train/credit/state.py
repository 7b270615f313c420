"""A baseline by state beside the one by trajectory (GiGPO's idea, Feng et al. 2025, arXiv:2505.10978).

Two paths that came to the same state by different ways can be compared there, and what they did next be judged apart
from how they came. `A[i, t] = episode_weight * z(R)[i] + omega * z_s(G)[i, t]`: everything that the trajectory earned
against the group, plus what it earned from turn t on against the turns of the group that began in the same state.
`episode_weight: 0` leaves the second alone, which is `turn` with a baseline by progress instead of by turn index.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.compose import Composition
from rewards.score import Scores
from train.credit.anchor import Anchor, standardise_by_state
from train.credit.baseline import returns_to_go, standardise
from train.credit.group import Group, to_rows
from train.credit.parameters import number, share
from train.credit.row import Row


def state_advantages(
    rewards: NDArray[np.float64],
    states: NDArray[np.int64],
    *,
    omega: float = 1.0,
    episode_weight: float = 1.0,
    discount: float = 1.0,
) -> NDArray[np.float64]:
    """`episode_weight * z(R)[i] + omega * z_s(G)[i, t]`.

    rewards: `[num_trajectories, max_turns]`, NaN where there is no turn and all along a trajectory that takes no part;
    states: the same shape, -1 where a state is not known: then the turn gets the first term alone. The result has the
    shape of `rewards`, NaN where NaN.

    >>> rewards, states = np.array([[0.0, 1.0], [0.0, np.nan]]), np.array([[0, 1], [0, -1]])
    >>> state_advantages(rewards, states).round(2)
    array([[ 1.41,  0.71],
           [-1.41,   nan]])
    """
    returns = returns_to_go(rewards, discount=discount)
    totals = np.where(np.isnan(rewards).all(axis=1), np.nan, np.nansum(rewards, axis=1))
    unknown_for_all = np.where(np.isnan(returns), -1, states)
    by_state = np.nan_to_num(standardise_by_state(returns, unknown_for_all))
    return np.where(np.isnan(rewards), np.nan, episode_weight * standardise(totals)[:, None] + omega * by_state)


class State:
    """`state`. `state` is passages or hops_found (with `progress`, a reward's name); see `train.credit.anchor`.

    `omega` and `episode_weight` weigh the two terms; `discount` in [0, 1] is taken per turn in the second.
    """

    def __init__(
        self,
        *,
        state: str = "passages",
        progress: str | None = None,
        omega: float = 1.0,
        episode_weight: float = 1.0,
        discount: float = 1.0,
    ) -> None:
        self.anchor = Anchor(state, progress)
        self.reads = self.anchor.reads
        self.omega = number("omega", omega)
        self.episode_weight = number("episode_weight", episode_weight)
        self.discount = share("discount", discount)
        if self.omega == self.episode_weight == 0.0:
            raise ValueError("omega and episode_weight are both 0: nothing would be learned; give one of them 1")

    def check_rewards(self, rewards: Composition) -> None:
        """Refuse progress that cannot be read. Raises ValueError."""
        self.anchor.check_rewards(rewards)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with one advantage per turn on the turn's sampled tokens."""
        return to_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        return state_advantages(
            group.rewards,
            self.anchor(group),
            omega=self.omega,
            episode_weight=self.episode_weight,
            discount=self.discount,
        )
