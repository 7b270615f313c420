"""Anchor states: turns of a group that began in the same state can be compared, whatever their index.

The state in which a turn's action was taken is what the policy had in hand before it. Two readings of that:

- `passages`: the set of passages shown so far. Exact, and soon alone: two paths that read one different passage part.
- `hops_found`: how far the path has come, by the turn scores of a reward that pays for progress, such as
  `hop_relevance` (gold supports shown so far). Coarse, and shared by many.
"""

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from rewards.compose import Composition
from train.credit.baseline import standardise
from train.credit.group import Component, Group
from train.credit.parameters import choice, reward_name
from train.credit.reading import refuse_gate, refuse_whole

ANCHORS = ("hops_found", "passages")
"""The readings of a state."""


class Anchor:
    """Finds the states of a group's turns. `hops_found` needs `progress`, the name of a reward, which may weigh 0.

    Raises:
        ValueError: an unknown reading, or `progress` missing or given where it is not read.
    """

    def __init__(self, state: str, progress: str | None, *, role: str = "state") -> None:
        self.state = choice(role, state, ANCHORS)
        if (progress is not None) != (state == "hops_found"):
            raise ValueError(
                f"{role} is {state} and progress is {progress!r}; progress names the reward whose turn scores add up "
                "to the hops found: give it with hops_found, and leave it out with passages"
            )
        self.progress = None if progress is None else reward_name("progress", progress)

    @property
    def reads(self) -> dict[str, str]:
        """The reward that is read, by the parameter that names it."""
        return {} if self.progress is None else {"progress": self.progress}

    def check_rewards(self, rewards: Composition) -> None:
        """Refuse progress behind a gate, or of whole trajectories. Raises ValueError."""
        if self.progress is not None:
            refuse_whole("progress", self.progress, rewards)
            because = "where it is closed nothing would have been found, whatever was"
            refuse_gate("progress", self.progress, rewards, because=because)

    def __call__(self, group: Group) -> NDArray[np.int64]:
        """`[num_trajectories, max_turns]`; see `states_of_progress` and `states_of_passages`."""
        if self.progress is None:
            return states_of_passages(group)
        return states_of_progress(group.component(self.progress, role="progress"), group.has_turn)


def states_of_progress(component: Component, has_turn: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Turns before which a reward's turn scores add up to the same (to 6 digits) get the same number.

    has_turn: `[num_trajectories, max_turns]`, and so is the result: -1 where there is no turn, and all along a
    trajectory of which the reward says nothing (its state is not known).

    Raises:
        ValueError: the reward scores no turn of any trajectory, but trajectories as a whole.
    """
    unknown = np.asarray(np.isnan(component.turns).all(axis=1))
    if unknown.all() and not np.isnan(component.outcome).all():
        raise ValueError(f"credit.params.progress is {component.name!r}, which scores trajectories; name one of turns")
    scores = np.nan_to_num(component.turns)
    before = np.round(np.cumsum(scores, axis=1) - scores, 6) + 0.0
    _, states = np.unique(before, return_inverse=True)
    return np.where(has_turn & ~unknown[:, None], states.reshape(before.shape), -1).astype(np.int64)


def states_of_passages(group: Group) -> NDArray[np.int64]:
    """Turns before which the same set of passages had been shown get the same number.

    Returns `[num_trajectories, max_turns]`, -1 where there is no turn.
    """
    numbers: dict[Hashable, int] = {}
    states = np.full(group.has_turn.shape, -1, dtype=np.int64)
    for row, trajectory in enumerate(group.trajectories):
        seen: frozenset[str] = frozenset()
        for place, turn in enumerate(trajectory.turns):
            states[row, place] = numbers.setdefault(seen, len(numbers))
            seen |= {shown.passage_id for shown in turn.shown}
    return states


def standardise_by_state(values: NDArray[np.float64], states: NDArray[np.int64]) -> NDArray[np.float64]:
    """`values` z-scored over the turns of the group that have the same state.

    values and states: `[num_trajectories, max_turns]`, a state of -1 takes no part. A trajectory that came through a
    state twice counts there twice, so what it did first is also compared with what it did then. A state that only one
    trajectory came through gives 0. Returns the same shape, NaN where a value is NaN or a state is -1.

    >>> standardise_by_state(np.array([[1.0, 3.0], [0.0, 5.0]]), np.array([[0, 1], [0, 2]])).round(2)
    array([[ 0.71,  0.  ],
           [-0.71,  0.  ]])
    """
    result = np.full(values.shape, np.nan)
    for state in np.unique(states[states >= 0]):
        inside = (states == state) & ~np.isnan(values)
        result[inside] = standardise(values[inside]) if inside.any(axis=1).sum() > 1 else 0.0
    return result
