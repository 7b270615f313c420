"""What a credit estimator yields and the learner eats, and the estimator's interface."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.score import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Tokens `[first_token, last_token)` of a trajectory's `token_ids`, trained with the tokens before as context.

    advantages and loss_mask: `[last_token - first_token]`; the mask is 1 on sampled tokens only.
    """

    trajectory_id: str
    first_token: int
    last_token: int
    advantages: NDArray[np.float64]
    loss_mask: NDArray[np.int64]


class CreditEstimator(Protocol):
    """Turns named scores of one unit into rows. Trajectories that are not the policy's fault yield no row."""

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One list of rows per unit; `weights` has a weight for each name in `scores`."""
        ...
