"""What the run's rewards and credit say of a unit that is still being sampled: who wins a step, which turns are bad.

The advantage by which a branch's winner is drawn is the one that its candidates are later trained with. Judging may
take long (a reward may ask a model), so it is done beside the event loop.
"""

import asyncio

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from train.judge import UnitJudge


class JudgeScorer:
    """A `envs.units.Scorer` over a run's judge. What it judges leaves no trace there."""

    def __init__(self, judge: UnitJudge) -> None:
        self._judge = judge

    async def advantages(self, unit: Unit) -> NDArray[np.float64]:
        """Of each trajectory's last trained token, NaN where it has none: `[num_trajectories]`."""
        judged = await asyncio.to_thread(self._judge.preview, unit)
        last = {row.trajectory_id: row.advantages[row.loss_mask == 1][-1] for row in judged.rows if row.loss_mask.any()}
        return np.array([last.get(trajectory.id, np.nan) for trajectory in unit.trajectories], dtype=np.float64)

    async def turn_scores(self, unit: Unit, component: str) -> list[NDArray[np.float64]]:
        """One component's turn scores, `[num_turns_i]` for each trajectory."""
        judged = await asyncio.to_thread(self._judge.preview, unit, credit=False)
        return list(judged.scores[component].turn)
