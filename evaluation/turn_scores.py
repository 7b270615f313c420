"""What rewards and credit said of each turn, as the store keeps it and the report shows it.

One dict per trajectory: `reward` (weighted sum of everything that applies), `rewards` (by name: one number a turn and
one for the trajectory, as the rewards gave them), `weighted` (the same behind their gates and times their weights) and
`advantages` (one number a turn: the mean over its tokens, which is what its tokens got
where credit is per turn).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Unit
from evaluation.trajectory_record import plain
from rewards.score import Scores


class AdvantageRow(Protocol):
    """Advantages of tokens `[first_token, last_token)` of a trajectory: what credit estimators yield."""

    @property
    def trajectory_id(self) -> str: ...  # noqa: D102

    @property
    def first_token(self) -> int: ...  # noqa: D102

    @property
    def last_token(self) -> int: ...  # noqa: D102

    @property
    def advantages(self) -> NDArray[np.float64]: ...  # noqa: D102


def turn_scores(
    units: Sequence[Unit],
    scores: Sequence[Mapping[str, Scores]],
    rows: Iterable[AdvantageRow] = (),
    weights: Mapping[str, float] | None = None,
    *,
    raw: Sequence[Mapping[str, Scores]] | None = None,
    logged_weights: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """One dict per trajectory, in the order of the units' trajectories; NaN is None.

    Args:
        units: the units scored.
        scores: for each unit, its scores by reward name, as credit got them: behind gates, and a combination of others.
        rows: what the credit estimator made of them; trajectories without a row have advantages None.
        weights: of each reward in `reward`; 1 where there is none.
        raw: for each unit, its scores before gates; default, and for names that are not there: `scores`.
        logged_weights: of each reward in `weighted`, where a part of a combination has another weight there than in
            what credit adds up; default: `weights`.

    Raises:
        ValueError: not one entry of `scores` for each unit.
    """
    if len(units) != len(scores):
        raise ValueError(f"{len(units)} units but scores for {len(scores)}; give one mapping of scores for each unit")
    rows_of: dict[str, list[AdvantageRow]] = {}
    for row in rows:
        rows_of.setdefault(row.trajectory_id, []).append(row)
    extras: list[dict[str, Any]] = []
    logged = weights if logged_weights is None else logged_weights
    for unit, named, ungated in zip(units, scores, scores if raw is None else raw, strict=True):
        for i, trajectory in enumerate(unit.trajectories):
            total = 0.0
            for name, score in named.items():
                applying = [*score.turn[i], score.outcome[i]]
                total += (weights or {}).get(name, 1.0) * float(np.nansum(applying))
            extras.append(
                {
                    "reward": total,
                    "rewards": plain({name: _of(ungated.get(name, score), i) for name, score in named.items()}),
                    "weighted": plain(
                        {name: _of(score, i, (logged or {}).get(name, 1.0)) for name, score in named.items()}
                    ),
                    "advantages": turn_advantages(trajectory, rows_of.get(trajectory.id, [])),
                }
            )
    return extras


def _of(score: Scores, i: int, weight: float = 1.0) -> dict[str, Any]:
    """What a reward said of one trajectory, times its weight."""
    return {"turn": weight * score.turn[i], "outcome": weight * score.outcome[i]}


def turn_advantages(trajectory: Trajectory, rows: Sequence[AdvantageRow]) -> list[float | None] | None:
    """Mean advantage of each turn's tokens: `[num_turns]`; None for a turn without any, None in all without rows."""
    if not rows:
        return None
    per_token = np.full(len(trajectory.token_ids), np.nan)
    for row in rows:
        per_token[row.first_token : row.last_token] = row.advantages
    turn_of = trajectory.turn_index
    means: list[float | None] = []
    for turn in range(trajectory.num_turns):
        values = per_token[turn_of == turn]
        values = values[~np.isnan(values)]
        means.append(float(values.mean()) if values.size else None)
    return means
