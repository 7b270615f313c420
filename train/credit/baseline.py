"""Group statistics that ignore NaN: what every estimator subtracts and divides by.

NaN means "this member does not take part": it enters no mean and no deviation, and its own result is NaN. The numbers
are those of TRL's GRPOTrainer: deviation with Bessel's correction, and `EPSILON` added to it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-4
"""Added to the standard deviation before dividing, as TRL's GRPOTrainer does."""


def standardise(values: NDArray[np.float64], *, scale: bool = True) -> NDArray[np.float64]:
    """Values less their mean, over their standard deviation plus `EPSILON`, down the first axis.

    values: `[num_trajectories]` or `[num_trajectories, num_columns]`, each column on its own; NaN takes no part.
    `scale=False` subtracts the mean only. Columns whose members are all equal, and columns with one member, give
    exactly 0 (there is nothing to compare with). Returns an array of the same shape, NaN where `values` is NaN.

    Raises:
        ValueError: an infinite value.

    >>> standardise(np.array([1.0, 0.0, np.nan])).round(3)
    array([ 0.707, -0.707,    nan])
    """
    moments = moments_of(values)
    centred = values - moments.mean
    if scale:
        centred = centred / (moments.deviation + EPSILON)
    return np.where(np.isnan(values), np.nan, np.where(moments.varies, centred, 0.0))


class Moments(NamedTuple):
    """Of each column: mean and deviation (Bessel's correction; 0 where there are none), and whether members differ."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    varies: NDArray[np.bool_]


def moments_of(values: NDArray[np.float64]) -> Moments:
    """Mean and deviation down the first axis; NaN takes no part.

    Raises:
        ValueError: an infinite value.
    """
    if np.isinf(values).any():
        raise ValueError("a return is infinite; a reward must return a finite number, or NaN where it does not apply")
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    mean = np.where(present, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    centred = np.where(present, values - mean, 0.0)
    lowest = np.where(present, values, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(present, values, -np.inf).max(axis=0, initial=-np.inf)
    deviation = np.sqrt((centred**2).sum(axis=0) / np.maximum(count - 1, 1))
    return Moments(mean=mean, deviation=deviation, varies=highest > lowest)


def without_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 in place of NaN; infinities stay, so that they are refused further on (`np.nan_to_num` makes them finite)."""
    return np.where(np.isnan(values), 0.0, values)


def returns_to_go(rewards: NDArray[np.float64], *, discount: float = 1.0) -> NDArray[np.float64]:
    """What each turn and those after it earn: `G[i, t] = r[i, t] + discount * G[i, t + 1]`.

    rewards: `[num_trajectories, max_turns]`, NaN where there is no turn or the reward does not apply. The result has
    the same shape and is NaN where neither the turn nor a later one has a reward.

    >>> returns_to_go(np.array([[1.0, np.nan, 2.0, np.nan]]))
    array([[ 3.,  2.,  2., nan]])
    """
    result = np.full_like(rewards, np.nan)
    following = np.full(len(rewards), np.nan)
    for turn in range(rewards.shape[1] - 1, -1, -1):
        reward = rewards[:, turn]
        nothing = np.isnan(reward) & np.isnan(following)
        following = np.where(nothing, np.nan, without_nan(reward) + discount * without_nan(following))
        result[:, turn] = following
    return result
