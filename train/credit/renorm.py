"""ReNorm: principle scores recentred with the outcome, so that their sign follows the final result (PPR).

`rhat_t = (r_p,t - 1/2) + (r_o - 1/2) = r_p,t + r_o - 1`, which is in [0, 1] where the answer is right and in [-1, 0]
where it is wrong. The last turn is the outcome's alone: `2 r_o - 1`; the source's own value is not known, and this is
what a perfect or a worthless last step would earn. The method trains with a critic, whose place the group takes here:

- `variant: grpo` (the default): what the remaining turns earn on average, z-scored over all turns of the group.
- `variant: paper`: what they earn in sum, which the critic would estimate, z-scored per turn index. The sum pays a
  correct path for every further turn; the average does not.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.compose import Composition
from rewards.score import Scores
from train.credit.baseline import returns_to_go, standardise, without_nan
from train.credit.group import Component, Group, to_rows
from train.credit.parameters import choice, reward_name
from train.credit.reading import refuse_gate, refuse_outside_unit_interval, refuse_product, refuse_whole
from train.credit.row import Row


def renorm_rewards(
    process: NDArray[np.float64],
    outcome: NDArray[np.float64],
    num_turns: NDArray[np.int64],
    *,
    process_weight: float = 1.0,
    outcome_weight: float = 1.0,
) -> NDArray[np.float64]:
    """`w_p (r_p,t - 1/2) + w_o (r_o - 1/2)` on every turn but the last, `w_o (2 r_o - 1)` on the last.

    process: `[num_trajectories, max_turns]` in [0, 1]; outcome: `[num_trajectories]` in [0, 1]; num_turns:
    `[num_trajectories]`. Returns the shape of `process`, NaN where there is no turn, where a turn before the last has
    no score, and all along a trajectory without an outcome.

    >>> renorm_rewards(np.array([[0.8, np.nan], [0.8, np.nan]]), np.array([1.0, 0.0]), np.array([2, 2])).round(1)
    array([[ 0.8,  1. ],
           [-0.2, -1. ]])
    """
    centred = outcome_weight * (outcome - 0.5)[:, None]
    turns = np.arange(process.shape[1])
    last = turns == num_turns[:, None] - 1
    rewards = np.where(last, 2.0 * centred, process_weight * (process - 0.5) + centred)
    return np.where(turns < num_turns[:, None], rewards, np.nan)


def mean_to_go(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over this turn and the later ones: `[num_trajectories, max_turns]`, NaN where no reward follows.

    Turns without a reward count neither above nor below the line.

    >>> mean_to_go(np.array([[1.0, np.nan, 0.5]]))
    array([[0.75, 0.5 , 0.5 ]])
    """
    count = np.cumsum(~np.isnan(rewards)[:, ::-1], axis=1)[:, ::-1]
    return returns_to_go(rewards) / np.maximum(count, 1)


def standardise_over_turns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` z-scored over all turns of the group; exactly 0 where a single trajectory has any.

    values: `[num_trajectories, max_turns]`, NaN takes no part; returns the same shape. The baseline is one number for
    all turns, so where early turns earn less than late ones a turn is also judged by its place.
    """
    if (~np.isnan(values)).any(axis=1).sum() < 2:
        return np.where(np.isnan(values), np.nan, 0.0)
    return standardise(values.ravel()).reshape(values.shape)


class ReNorm:
    """`renorm`. `outcome` and `process` name rewards of the config that stay in [0, 1]; `variant` is grpo or paper.

    The weights of the two scale their centred halves; the sign follows the outcome as long as the process weighs no
    more. Other rewards are added as they are, with their weights, their outcomes on the last turn.
    """

    def __init__(self, *, outcome: str = "exact_match", process: str = "principles", variant: str = "grpo") -> None:
        self.outcome = reward_name("outcome", outcome)
        self.process = reward_name("process", process)
        self.variant = choice("variant", variant, ("grpo", "paper"))
        self.reads = {"outcome": self.outcome, "process": self.process}

    def check_rewards(self, rewards: Composition) -> None:
        """Refuse a product, a gate on the process, a process that scores no turns or shares of a mean, and rewards that
        can leave [0, 1]. Raises ValueError.
        """
        refuse_product("renorm", rewards)
        because = "renorm centres it at 1/2, so that a closed gate would cost half of its weight"
        refuse_gate("process", self.process, rewards, because=because)
        refuse_whole("process", self.process, rewards)
        if getattr(rewards.rewards[self.process], "aggregate", None) == "mean":
            raise ValueError(
                f"credit.params.process is {self.process!r}, whose turn scores are shares of a mean, the smaller the "
                "more turns there are, and renorm centres each at 1/2: set "
                f"rewards.{self.process}.params.aggregate: sum"
            )
        refuse_outside_unit_interval("process", self.process, rewards, by_turn=True)
        refuse_outside_unit_interval("outcome", self.outcome, rewards, by_turn=False)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with one advantage per turn on the turn's sampled tokens."""
        return to_rows(unit, scores, weights, self._advantages)

    def returns(self, group: Group) -> NDArray[np.float64]:
        """What the remaining turns earn before it is compared, their mean or sum: `[num_trajectories, max_turns]`.

        NaN where there is no turn. Raises ValueError where a score leaves [0, 1] or the process scores trajectories.
        """
        outcome = group.component(self.outcome, role="outcome")
        process = group.component(self.process, role="process")
        _check_range(outcome, outcome.total)
        _check_range(process, process.turns)
        if not np.isnan(process.outcome).all():
            raise ValueError(f"credit.params.process is {process.name!r}, which scores trajectories; name one of turns")
        rewards = renorm_rewards(
            process.turns,
            outcome.total,
            group.num_turns,
            process_weight=process.weight,
            outcome_weight=outcome.weight,
        )
        others = without_nan(group.without(self.outcome, self.process).rewards)
        silent = np.isnan(rewards) & (others == 0.0)
        rewards = np.where(silent | np.isnan(outcome.total)[:, None], np.nan, without_nan(rewards) + others)
        rewards[~group.has_turn] = np.nan
        to_go = returns_to_go if self.variant == "paper" else mean_to_go
        return np.where(group.has_turn, to_go(rewards), np.nan)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        compare = standardise if self.variant == "paper" else standardise_over_turns
        return np.where(group.has_turn, compare(self.returns(group)), np.nan)


def _check_range(component: Component, values: NDArray[np.float64]) -> None:
    if (values < 0.0).any() or (values > 1.0).any():
        raise ValueError(
            f"credit renorm centres rewards at 1/2, but reward {component.name!r} gave {np.nanmin(values):g} to "
            f"{np.nanmax(values):g}; name one that stays in [0, 1]"
        )
