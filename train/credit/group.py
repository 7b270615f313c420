"""The scores of one group as arrays, and the way back from advantages per turn to rows per token.

Estimators are arithmetic on `[num_trajectories, max_turns]`. This file holds everything else that they share: which
trajectories take part, how named scores become arrays, and which tokens a turn's advantage lands on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import NOT_THE_POLICYS_FAULT, Trajectory, Unit
from rewards.score import Scores
from train.credit.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One reward over a group, with its weight.

    turns: `[num_trajectories, max_turns]`, NaN where there is no such turn or the reward does not apply;
    outcome: `[num_trajectories]`, NaN where it does not apply.
    """

    weight: float
    turns: NDArray[np.float64]
    outcome: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Trajectories that share a baseline, and their rewards. num_turns: `[num_trajectories]`, each at least 1."""

    num_turns: NDArray[np.int64]
    components: tuple[Component, ...]

    @property
    def has_turn(self) -> NDArray[np.bool_]:
        """True where a trajectory has the turn: `[num_trajectories, max_turns]`."""
        return np.arange(self.num_turns.max(initial=0)) < self.num_turns[:, None]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """True where some reward applies to the trajectory: `[num_trajectories]`."""
        scored = np.zeros(len(self.num_turns), dtype=bool)
        for component in self.components:
            scored |= ~np.isnan(component.outcome) | ~np.isnan(component.turns).all(axis=1)
        return scored

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Weighted sum of all components, outcomes on the last turn: `[num_trajectories, max_turns]`.

        A turn to which nothing applies is worth 0. NaN where there is no turn, and all along an unscored trajectory.
        """
        total = np.where(self.has_turn, 0.0, np.nan)
        everyone = np.arange(len(self.num_turns))
        for component in self.components:
            total += component.weight * np.nan_to_num(component.turns)
            total[everyone, self.num_turns - 1] += component.weight * np.nan_to_num(component.outcome)
        total[~self.scored] = np.nan
        return total


def to_rows(
    unit: Unit,
    scores: Mapping[str, Scores],
    weights: Mapping[str, float],
    advantages: Callable[[Group], NDArray[np.float64]],
) -> list[Row]:
    """Run an estimator over every group of a unit and spread its advantages over the sampled tokens.

    `advantages(group)` returns `[num_trajectories, max_turns]`; a trajectory whose first turn is NaN gets no row, and
    neither does one that is not the policy's fault, or that has no sampled token: they take no part in a baseline.
    Rewards of weight 0 are logged elsewhere and ignored here. A row covers the tokens after the prompt up to the last
    sampled one.

    Raises:
        ValueError: a score without a weight or a weight without scores, a weight that is not finite, scores of another
            unit's shape, or an infinite score.
    """
    _check(unit, scores, weights)
    rows: dict[int, Row] = {}
    for group_id in dict.fromkeys(t.group_id for t in unit.trajectories):
        members = [i for i, t in enumerate(unit.trajectories) if t.group_id == group_id and _takes_part(t)]
        if not members:
            continue
        group = _group(unit, scores, weights, members)
        values = advantages(group)
        for member, per_turn in zip(members, values, strict=True):
            if not np.isnan(per_turn[0]):
                rows[member] = _row(unit.trajectories[member], per_turn)
    return [rows[i] for i in sorted(rows)]


def _takes_part(trajectory: Trajectory) -> bool:
    return trajectory.finish_reason not in NOT_THE_POLICYS_FAULT and any(t.action_ids for t in trajectory.turns)


def _check(unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> None:
    if set(scores) != set(weights):
        raise ValueError(f"scores are named {sorted(scores)} but weights {sorted(weights)}; give each a weight")
    for name, weight in weights.items():
        if not np.isfinite(weight):
            raise ValueError(f"the weight of reward {name!r} is {weight}; it must be a finite number")
    expected = [t.num_turns for t in unit.trajectories]
    for name, score in scores.items():
        given = [len(turn) for turn in score.turn]
        if given != expected:
            raise ValueError(f"reward {name!r} scored turns {given}, but unit {unit.id} has turns {expected}")
        if np.isinf(score.outcome).any() or any(np.isinf(turn).any() for turn in score.turn):
            raise ValueError(f"reward {name!r} gave an infinite score; return NaN where it does not apply")


def _group(unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float], members: list[int]) -> Group:
    num_turns = np.asarray([unit.trajectories[i].num_turns for i in members], dtype=np.int64)
    components = []
    for name, score in scores.items():
        if weights[name] == 0.0:
            continue
        turns = np.full((len(members), num_turns.max()), np.nan)
        for row, member in enumerate(members):
            turns[row, : num_turns[row]] = score.turn[member]
        components.append(Component(weight=weights[name], turns=turns, outcome=score.outcome[members]))
    return Group(num_turns=num_turns, components=tuple(components))


def _row(trajectory: Trajectory, per_turn: NDArray[np.float64]) -> Row:
    turn_index = trajectory.turn_index
    first = len(trajectory.prompt_ids)
    last = int(np.flatnonzero(turn_index >= 0)[-1]) + 1
    index = turn_index[first:last]
    sampled = index >= 0
    return Row(
        trajectory_id=trajectory.id,
        first_token=first,
        last_token=last,
        advantages=np.where(sampled, per_turn[np.maximum(index, 0)], 0.0),
        loss_mask=sampled.astype(np.int64),
    )
