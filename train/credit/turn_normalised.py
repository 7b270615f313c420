"""Each reward z-scored in its group on its own, and only then weighted and added.

Added raw, a dense process reward drowns the outcome where the outcome is rare, and the policy learns to search for
ever. Here a weight says how many standard deviations a reward counts for, whatever its unit. Outcome scores are
compared over trajectories and reach every turn; turn scores are compared as returns to go, per turn index or, with
`baseline`, over turns that began in the same state (`train.credit.anchor`). The idea of normalising rewards apart is
GDPO's (arXiv:2601.05242), the returns per turn are `turn`'s.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.compose import Composition
from rewards.score import Scores
from train.credit.anchor import ANCHORS, Anchor, standardise_by_state
from train.credit.baseline import returns_to_go, standardise
from train.credit.group import Component, Group, to_rows
from train.credit.parameters import choice, share
from train.credit.row import Row


def turn_normalised_advantages(
    components: tuple[Component, ...],
    has_turn: NDArray[np.bool_],
    *,
    process_discount: float = 1.0,
    states: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """`sum_k w_k (z(outcome_k) + z_t(returns to go of turns_k))`; with `states`, z_s over equal states in place of z_t.

    components: each with turns `[num_trajectories, max_turns]` and outcome `[num_trajectories]`, NaN where the reward
    does not apply; has_turn and states: `[num_trajectories, max_turns]`, a state of -1 takes no part. Where a reward
    does not apply to a trajectory, or to none of the turns from t on, it stays out of that baseline and adds 0 there.
    The result has the shape of `has_turn`, NaN where there is no turn and all along a trajectory to which no reward
    applies.

    A turn index (or a state) that only one trajectory has gets 0 from the turn scores.
    """
    total = np.where(has_turn, 0.0, np.nan)
    scored = np.zeros(len(total), dtype=bool)
    for component in components:
        outcome = standardise(component.outcome)
        returns = returns_to_go(component.turns, discount=process_discount)
        process = standardise(returns) if states is None else standardise_by_state(returns, states)
        total += component.weight * (np.nan_to_num(outcome)[:, None] + np.nan_to_num(process))
        scored |= ~np.isnan(outcome) | ~np.isnan(component.turns).all(axis=1)
    total[~scored] = np.nan
    return total


class TurnNormalised:
    """`turn_normalised`. `process_discount` in [0, 1] is taken per turn on turn scores; 0 pays each turn for itself.

    `baseline` is turn (the index), or a state of `train.credit.anchor`; hops_found needs `progress`, a reward's name.
    """

    def __init__(self, *, process_discount: float = 1.0, baseline: str = "turn", progress: str | None = None) -> None:
        self.process_discount = share("process_discount", process_discount)
        choice("baseline", baseline, ("turn", *ANCHORS))
        if baseline == "turn" and progress is not None:
            raise ValueError(f"progress is {progress!r}, which baseline turn does not read; set baseline: hops_found")
        self.anchor = None if baseline == "turn" else Anchor(baseline, progress, role="baseline")
        self.reads = {} if self.anchor is None else self.anchor.reads

    def check_rewards(self, rewards: Composition) -> None:
        """Refuse progress that cannot be read. Raises ValueError."""
        if self.anchor:
            self.anchor.check_rewards(rewards)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with one advantage per turn on the turn's sampled tokens."""
        return to_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        return turn_normalised_advantages(
            group.components,
            group.has_turn,
            process_discount=self.process_discount,
            states=None if self.anchor is None else self.anchor(group),
        )
