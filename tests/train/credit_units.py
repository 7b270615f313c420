"""Units that every built-in estimator accepts, with the parameters that it needs to be called by name."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agent.trajectory import FinishReason, Unit, UnitKind
from rewards.score import Scores
from tests.train.fakes import unit_of
from train.credit import load_estimator
from train.credit.row import CreditEstimator, Row

PARAMS: dict[str, dict[str, Any]] = {
    "c_grpo": {"outcome": "em", "rubric": "rubric"},
    "renorm": {"outcome": "em", "process": "steps"},
}
KINDS: dict[str, UnitKind] = {"ps_grpo": "paraphrase_set", "branch": "branch_tree", "tree": "branch_tree"}


def estimator(name: str, **params: Any) -> CreditEstimator:
    """A built-in estimator over rewards `em` (outcomes), `steps` (turns) and `rubric` (outcomes)."""
    return load_estimator(name, **(PARAMS.get(name, {}) | params))


def group_for(name: str, num_turns: Sequence[int], *, finish: Sequence[FinishReason] | None = None) -> Unit:
    """`unit_of` as the kind of unit that an estimator asks for: one wording, or a tree without forks."""
    unit = unit_of(num_turns, finish=finish)
    return replace(unit, kind=KINDS.get(name, "group"))


def scored(
    unit: Unit, em: Sequence[float], steps: Sequence[Sequence[float]] | None = None
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Scores of `em`, `steps` (NaN unless given) and `rubric` (NaN), and weights of 1."""
    nothing = [np.full(trajectory.num_turns, np.nan) for trajectory in unit.trajectories]
    turns = nothing if steps is None else [np.asarray(values, dtype=np.float64) for values in steps]
    scores = {
        "em": Scores.of_outcome(unit, np.asarray(em, dtype=np.float64)),
        "steps": Scores.of_turns(unit, turns),
        "rubric": Scores.of_outcome(unit, np.full(len(unit.trajectories), np.nan)),
    }
    return scores, dict.fromkeys(scores, 1.0)


def per_turn(row: Row) -> list[float]:
    """The advantage of each turn of a row of `unit_of`: tokens are action, action, observation."""
    sampled = row.advantages[row.loss_mask == 1]
    assert (sampled[::2] == sampled[1::2]).all()
    return sampled[::2].tolist()
