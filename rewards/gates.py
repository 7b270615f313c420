"""Gates: a component counts only in episodes that end, or are written, in a certain way.

A gate is a factor of 1 or 0 for a whole trajectory. Where it is closed the component is 0, which is a score: the
trajectory stays in the baseline, and earns nothing by this component. NaN stays NaN, open or closed, and so does what
is marked as failed. Where a gate cannot be told (no gold answer; a candidate that the sampler cut, whose end nobody has
seen) it is NaN, and so is the component.

| gate | open where |
| --- | --- |
| `correct` | the final answer is an exact match of a gold answer |
| `wrong` | there is a final answer, and it is no exact match |
| `em_first` | the final answer is no exact match, or there is none: r = EM + w r_k (1 - EM), SubSearch's shaping |
| `answered` | the episode ended with an answer that is not blank |
| `well_formed` | there is a turn, and the protocol could read all of them |
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Unit
from envs.question import Question
from rewards.annotation import is_scorable, question_of
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.format import is_well_formed
from rewards.score import Scores

Gate = Literal["correct", "wrong", "em_first", "answered", "well_formed"]

GATE_NEEDS: Mapping[str, frozenset[str]] = {
    "correct": frozenset({"golden_answers"}),
    "wrong": frozenset({"golden_answers"}),
    "em_first": frozenset({"golden_answers"}),
    "answered": frozenset(),
    "well_formed": frozenset(),
}
"""`Question` fields that a gate needs."""

_WHERE_CORRECT: Mapping[str, frozenset[float]] = {
    "correct": frozenset({1.0}),
    "wrong": frozenset({0.0}),
    "em_first": frozenset({0.0}),
    "answered": frozenset({1.0}),
    "well_formed": frozenset({0.0, 1.0}),
}
"""States that a gate can have in an episode whose answer is an exact match; `bounds_behind` relies on it."""

_WHERE_NOT_CORRECT: Mapping[str, frozenset[float]] = {
    "correct": frozenset({0.0}),
    "wrong": frozenset({0.0, 1.0}),
    "em_first": frozenset({1.0}),
    "answered": frozenset({0.0, 1.0}),
    "well_formed": frozenset({0.0, 1.0}),
}
"""And in all others."""


def is_correct(trajectory: Trajectory, question: Question) -> float:
    """1.0 if the episode ended with an answer that is an exact match, else 0.0; NaN without gold answers."""
    if not question.golden_answers:
        return float("nan")
    return exact_match(trajectory.final_answer, question.golden_answers) if has_answer(trajectory) else 0.0


def gate_state(gate: Gate, trajectory: Trajectory, question: Question) -> float:
    """1.0 open, 0.0 closed, NaN where it cannot be told; see the table above."""
    if not is_scorable(trajectory):
        return float("nan")
    if gate == "well_formed":
        return float(bool(trajectory.turns) and all(is_well_formed(turn) for turn in trajectory.turns))
    if trajectory.finish_reason == "cut":
        return float("nan")
    if gate == "answered":
        return float(has_answer(trajectory))
    correct = is_correct(trajectory, question)
    if gate == "correct":
        return correct
    return 1.0 - correct if gate == "em_first" or has_answer(trajectory) else 0.0 * correct


def gate_states(gates: Sequence[Gate], unit: Unit, questions: Mapping[str, Question]) -> NDArray[np.float64]:
    """1 where all gates are open, 0 where one is closed, NaN where that cannot be told: `[num_trajectories]`."""
    states = np.ones(len(unit.trajectories))
    for i, trajectory in enumerate(unit.trajectories):
        question = question_of(trajectory, questions)
        of_gates = [gate_state(gate, trajectory, question) for gate in gates]
        states[i] = 0.0 if 0.0 in of_gates else float(np.prod(of_gates))
    return states


def gated(scores: Scores, states: NDArray[np.float64]) -> Scores:
    """The scores behind a gate: times 1 or 0, turns and outcome alike; NaN where either is NaN.

    states: `[num_trajectories]`.
    """
    return Scores(
        turn=tuple(turns * state + 0.0 for turns, state in zip(scores.turn, states, strict=True)),
        outcome=scores.outcome * states + 0.0,  # which makes of -0.0 a plain 0
        failed=scores.failed,
    )


def bounds_behind(gates: Sequence[Gate], bounds: Bounds, *, correct: bool) -> Bounds:
    """Bounds of a component behind gates, in episodes that are correct, or in all others."""
    possible = _WHERE_CORRECT if correct else _WHERE_NOT_CORRECT
    if any(possible[gate] == {0.0} for gate in gates):
        return Bounds(low=0.0, high=0.0)
    if all(possible[gate] == {1.0} for gate in gates):
        return bounds
    return Bounds(low=min(bounds.low, 0.0), high=max(bounds.high, 0.0))
