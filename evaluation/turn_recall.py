"""Retrieval recall turn by turn: what share of a question's supports had been shown after the n-th search turn.

An episode that ended earlier keeps what it had, so that the figure never falls and its last value is the recall over
the trajectory. `new` is what the turn itself added.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.significance import bootstrap_interval


def recalls_of(trajectory: Trajectory, supports: frozenset[str]) -> list[float]:
    """Share of `supports` shown after each turn that called a tool: `[num_calling_turns]`, never falling."""
    seen: set[str] = set()
    shares = []
    for turn in trajectory.turns:
        if turn.calls:
            seen |= supports.intersection(shown.passage_id for shown in turn.shown)
            shares.append(len(seen) / len(supports))
    return shares


def recall_by_turn(
    trajectories: Sequence[Trajectory], questions: Mapping[str, Question], *, seed: int = 0
) -> list[dict[str, Any]]:
    """One row a search turn: `turn` (from 1), `recall` with `_low` and `_high`, `new`, and `searching`.

    `recall` and `new` are means over questions (samples first); `searching` is the share of episodes that had such a
    turn. Questions without annotated supports do not count; without any, the list is empty.
    """
    of_question: dict[str, list[list[float]]] = {}
    for trajectory in trajectories:
        supports = frozenset(questions[trajectory.question_id].supporting_ids)
        if supports:
            of_question.setdefault(trajectory.question_id, []).append(recalls_of(trajectory, supports))
    episodes = [shares for samples in of_question.values() for shares in samples]
    rows: list[dict[str, Any]] = []
    before = 0.0
    for turn in range(max(map(len, episodes), default=0)):
        values = np.asarray(
            [
                np.mean([shares[min(turn, len(shares) - 1)] if shares else 0.0 for shares in samples])
                for samples in of_question.values()
            ]
        )
        low, high = bootstrap_interval(values, seed=seed)
        recall = float(values.mean())
        searching = sum(len(shares) > turn for shares in episodes) / len(episodes)
        rows.append(
            {
                "turn": turn + 1,
                "recall": recall,
                "recall_low": low,
                "recall_high": high,
                "new": recall - before,
                "searching": searching,
            }
        )
        before = recall
    return rows
