"""The scores of one group as arrays, and the way back from advantages per turn or token to rows.

Estimators are arithmetic on `[num_trajectories, max_turns]`. This file holds everything else that they share: which
trajectories take part, how named scores become arrays, and which tokens a turn's advantage lands on. An advantage of
NaN means "not trained": a row covers the tokens from the first trained one to the last.

A score of NaN means that a reward does not apply, and adds nothing, as in TRL. A verdict that failed is another thing:
the score is not known, so that whatever stood in for it would be an invention. Its trajectory takes no part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import NOT_THE_POLICYS_FAULT, Trajectory, Unit, UnitKind
from rewards.score import Scores
from train.credit.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One reward over a group, with its name in the config and its weight.

    turns: `[num_trajectories, max_turns]`, NaN where there is no such turn or the reward does not apply;
    outcome: `[num_trajectories]`, NaN where it does not apply.
    """

    name: str
    weight: float
    turns: NDArray[np.float64]
    outcome: NDArray[np.float64]

    @property
    def applies(self) -> NDArray[np.bool_]:
        """True where the reward says something of the trajectory or of a turn of it: `[num_trajectories]`."""
        return ~np.isnan(self.outcome) | ~np.isnan(self.turns).all(axis=1)

    @property
    def total(self) -> NDArray[np.float64]:
        """Outcome plus all turns, without the weight: `[num_trajectories]`, NaN where nothing applies."""
        return np.where(self.applies, np.nan_to_num(self.outcome) + np.nansum(self.turns, axis=1), np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Trajectories that share a baseline, and their rewards.

    trajectories: those that take part; num_turns: `[num_trajectories]`, each at least 1; components: the rewards with a
    weight other than 0; unpaid: those of weight 0, which enter no return but may still tell what state a turn is in.
    """

    trajectories: tuple[Trajectory, ...]
    num_turns: NDArray[np.int64]
    components: tuple[Component, ...]
    unpaid: tuple[Component, ...] = ()

    @property
    def has_turn(self) -> NDArray[np.bool_]:
        """True where a trajectory has the turn: `[num_trajectories, max_turns]`."""
        return np.arange(self.num_turns.max(initial=0)) < self.num_turns[:, None]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """True where some reward applies to the trajectory: `[num_trajectories]`."""
        scored = np.zeros(len(self.num_turns), dtype=bool)
        for component in self.components:
            scored |= component.applies
        return scored

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Weighted sum of all components, outcomes on the last turn: `[num_trajectories, max_turns]`.

        A turn to which nothing applies is worth 0. NaN where there is no turn, and all along an unscored trajectory.
        """
        return self.rewards_with(turn_scale=1.0)

    def rewards_with(self, *, turn_scale: float) -> NDArray[np.float64]:
        """`rewards` with all turn scores multiplied by `turn_scale`."""
        total = np.where(self.has_turn, 0.0, np.nan)
        everyone = np.arange(len(self.num_turns))
        for component in self.components:
            total += turn_scale * component.weight * np.nan_to_num(component.turns)
            total[everyone, self.num_turns - 1] += component.weight * np.nan_to_num(component.outcome)
        total[~self.scored] = np.nan
        return total

    @property
    def returns(self) -> NDArray[np.float64]:
        """All that a trajectory earned, weighted: `[num_trajectories]`, NaN where it is unscored."""
        return np.where(self.scored, np.nansum(self.rewards, axis=1), np.nan)

    def component(self, name: str, *, role: str) -> Component:
        """The reward of this name, whatever its weight.

        Raises:
            ValueError: there is none; the message has `role`, the estimator's parameter that names it.
        """
        found = {component.name: component for component in (*self.components, *self.unpaid)}
        if name not in found:
            raise ValueError(f"credit.params.{role} is {name!r}, but the rewards are {sorted(found)}; name one of them")
        return found[name]

    def without(self, *names: str) -> "Group":
        """The same group, in which the rewards of these names earn nothing."""
        left = tuple(component for component in self.components if component.name not in names)
        return Group(trajectories=self.trajectories, num_turns=self.num_turns, components=left)


def check_unit(estimator: str, unit: Unit, kind: UnitKind) -> None:
    """Refuse a unit that an estimator's baseline makes no sense for.

    Raises:
        ValueError: the unit is of another kind; the message names the way out.
    """
    if unit.kind != kind:
        raise ValueError(
            f"credit {estimator} needs units of kind {kind}, but unit {unit.id!r} is a {unit.kind}: sample such units "
            "(rollout.unit), or choose an estimator for this kind, such as outcome or turn"
        )


def to_rows(
    unit: Unit,
    scores: Mapping[str, Scores],
    weights: Mapping[str, float],
    advantages: Callable[[Group], NDArray[np.float64]],
) -> list[Row]:
    """Run an estimator over every group of a unit and spread its advantages over the sampled tokens.

    `advantages(group)` returns `[num_trajectories, max_turns]`, NaN on turns that are not trained; a trajectory that is
    NaN all along gets no row, and neither does one that is not the policy's fault, that has no sampled token, or of
    which a reward is not known (`failed_trajectories`): they take no part in a baseline. Rewards of weight 0 are logged
    elsewhere and earn nothing here. A row covers the tokens from the first trained one up to the last.

    Raises:
        ValueError: a score without a weight or a weight without scores, a weight that is not finite, scores of another
            unit's shape, an infinite score, or advantages of another shape than the group's.
    """

    def per_token(group: Group) -> list[NDArray[np.float64]]:
        spread = []
        found = advantages(group)
        if np.shape(found) != group.has_turn.shape:
            raise ValueError(
                f"the advantages of a group have shape {np.shape(found)}; they must be [num_trajectories, max_turns], "
                f"here {group.has_turn.shape}"
            )
        for trajectory, per_turn in zip(group.trajectories, found, strict=True):
            index = trajectory.turn_index
            spread.append(np.where(index >= 0, per_turn[np.maximum(index, 0)], np.nan))
        return spread

    return to_token_rows(unit, scores, weights, per_token)


def to_token_rows(
    unit: Unit,
    scores: Mapping[str, Scores],
    weights: Mapping[str, float],
    advantages: Callable[[Group], Sequence[NDArray[np.float64]]],
) -> list[Row]:
    """`to_rows` for an estimator that tells the tokens of a turn apart.

    `advantages(group)` returns an array `[num_tokens]` for each trajectory, NaN on tokens that are not trained; those
    that were not sampled are never trained.
    """
    _check(unit, scores, weights)
    has_failed = failed_trajectories(unit, scores, weights)
    able = [i for i, t in enumerate(unit.trajectories) if _takes_part(t) and not has_failed[i]]
    rows: dict[int, Row] = {}
    for group_id in dict.fromkeys(t.group_id for t in unit.trajectories):
        members = [i for i in able if unit.trajectories[i].group_id == group_id]
        if not members:
            continue
        group = group_of(unit, scores, weights, members)
        for member, per_token in zip(members, advantages(group), strict=True):
            trajectory = unit.trajectories[member]
            trained = (trajectory.turn_index >= 0) & ~np.isnan(per_token)
            if trained.any():
                rows[member] = _row(trajectory, per_token, trained)
    return [rows[i] for i in sorted(rows)]


def failed_trajectories(unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> NDArray[np.bool_]:
    """True where the verdict failed on which a reward of non-zero weight hangs: `[num_trajectories]`."""
    has_failed = np.zeros(len(unit.trajectories), dtype=bool)
    for name, score in scores.items():
        if weights[name] != 0.0:
            has_failed |= score.has_failed
    return has_failed


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


def group_of(unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float], members: Sequence[int]) -> Group:
    """These trajectories of a unit, by their places in it, as one group."""
    num_turns = np.asarray([unit.trajectories[i].num_turns for i in members], dtype=np.int64)
    paid: list[Component] = []
    unpaid: list[Component] = []
    for name, score in scores.items():
        turns = np.full((len(members), num_turns.max()), np.nan)
        outcome = score.outcome[list(members)]
        for row, member in enumerate(members):
            if score.has_failed[member]:  # of weight 0, and here to be read: a part of what it says is no state
                outcome[row] = np.nan
            else:
                turns[row, : num_turns[row]] = score.turn[member]
        component = Component(name=name, weight=weights[name], turns=turns, outcome=outcome)
        (unpaid if weights[name] == 0.0 else paid).append(component)
    return Group(
        trajectories=tuple(unit.trajectories[i] for i in members),
        num_turns=num_turns,
        components=tuple(paid),
        unpaid=tuple(unpaid),
    )


def _row(trajectory: Trajectory, per_token: NDArray[np.float64], trained: NDArray[np.bool_]) -> Row:
    places = np.flatnonzero(trained)
    first, last = int(places[0]), int(places[-1]) + 1
    mask = trained[first:last]
    return Row(
        trajectory_id=trajectory.id,
        first_token=first,
        last_token=last,
        advantages=np.where(mask, per_token[first:last], 0.0),
        loss_mask=mask.astype(np.int64),
    )
