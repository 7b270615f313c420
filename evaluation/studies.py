"""Studies of one policy: what a changed word costs, what noise costs, and whether it knows what it knows.

Each takes what was played under a condition of its own, and gives a summary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agent.trajectory import Trajectory
from envs.episode import EpisodeSpec
from envs.question import Question
from envs.units import is_lost
from evaluation.metrics import evaluate_trajectories
from evaluation.run import evaluation_specs
from evaluation.significance import bootstrap_interval
from rewards.answer import exact_match

KNOWN_FROM = 0.5
"""A question counts as known where at least this share of its closed-book samples is right."""

Golds = Mapping[str, Question]
Outcomes = Mapping[tuple[str, int], bool]
"""Whether the answer of a question's sample is right."""


def perturbed_specs(questions: Sequence[Question], name: str, *, samples: int, seed: int) -> list[EpisodeSpec]:
    """The episodes of the evaluation, the first query of each changed in one word; seeds as without the change."""
    specs = evaluation_specs(questions, samples=samples, seed=seed, name=name)
    return [replace(spec, perturbation=name) for spec in specs]


def noise_name(share: float) -> str:
    """The condition of a share of noise; no two shares have one name.

    >>> noise_name(0.25)
    'noise_0.25'
    """
    return f"noise_{share!r}"


def outcomes(trajectories: Sequence[Trajectory], questions: Golds) -> Outcomes:
    """Whether each episode's answer is right, by question and sample; those that an outage ended are left out."""
    return {(t.question_id, t.sample): _is_right(t, questions) for t in trajectories if _counts(t, questions)}


def robustness(before: Outcomes, changed: Mapping[str, Outcomes], *, seed: int = 0) -> dict[str, Any]:
    """RE-Searcher's study (arXiv:2509.26048): the share of right answers that a changed word of the first query costs.

    Per kind of change: `lost` with `_low` and `_high` (of the episodes whose answer was right, the share that is wrong
    after the change; bootstrap over questions), `gained` (of the wrong ones, the share that is right after it), `em`,
    and `num_right`, the right ones compared. Episodes are compared sample by sample, as far as `outcomes` has them with
    and without the change. `any` counts what at least one of the changes costs.
    """
    after = dict(changed)
    whole = set(before).intersection(*map(set, after.values())) if after else set()
    after["any"] = {key: all(right[key] for right in changed.values()) for key in whole}
    summary: dict[str, Any] = {}
    for name, right in after.items():
        compared = [key for key in before if key in right]
        lost = _by_question([(key[0], float(not right[key])) for key in compared if before[key]])
        gained = [float(right[key]) for key in compared if not before[key]]
        low, high = bootstrap_interval(lost, seed=seed)
        summary[name] = {
            "lost": float(np.mean(lost)) if lost else None,
            "lost_low": low,
            "lost_high": high,
            "gained": float(np.mean(gained)) if gained and name != "any" else None,
            "em": float(np.mean([right[key] for key in compared])) if compared and name != "any" else None,
            "num_right": sum(before[key] for key in compared),
        }
    return summary


def noise_row(
    share: float, trajectories: Sequence[Trajectory], questions: Golds, *, citations: bool, seed: int = 0
) -> dict[str, Any]:
    """One point of accuracy against the share of noisy searches: `share`, `em`, `f1`, `support_recall` with intervals,
    and `without_support`, the share of all searches that found none of the supports.
    """
    summary = evaluate_trajectories(trajectories, questions, citations=citations, seed=seed).summary
    row: dict[str, Any] = {"share": share, "n": summary["n"]}
    for name in ("em", "f1", "support_recall"):
        row |= {key: summary[key] for key in (name, f"{name}_low", f"{name}_high")}
    return {**row, "without_support": _without_support(trajectories, questions)}


def knowledge_boundary(
    played: Sequence[Trajectory], closed_book: Sequence[Trajectory], questions: Golds
) -> dict[str, Any]:
    """AdaSearch's F1 (arXiv:2512.16883) of the decision not to search, against whether the policy knew the answer.

    Positive is an episode without a search; a question is known where at least `KNOWN_FROM` of its closed-book episodes
    are right. `boundary_precision` is the share of the episodes without a search whose question is known,
    `boundary_recall` the share of the known questions' episodes without a search, `boundary_f1` their harmonic mean:
    all 0 where nothing is answered without a search though something is known, None where nothing is known. AdaSearch
    asks for the closed-book answer with a prompt of its own; here it is asked by the protocol, over searches that find
    nothing.
    """
    right: dict[str, list[bool]] = {}
    for trajectory in closed_book:
        if _counts(trajectory, questions):
            right.setdefault(trajectory.question_id, []).append(_is_right(trajectory, questions))
    known = {question_id for question_id, rows in right.items() if np.mean(rows) >= KNOWN_FROM}
    asked = [t for t in played if t.question_id in right and not is_lost(t)]
    unsearched = [t.question_id in known for t in asked if t.num_searches == 0]
    known_episodes = [t.num_searches == 0 for t in asked if t.question_id in known]
    precision = float(np.mean(unsearched)) if unsearched else 0.0
    recall = float(np.mean(known_episodes)) if known_episodes else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "boundary_f1": f1 if known else None,
        "boundary_precision": precision if known else None,
        "boundary_recall": recall if known else None,
        "boundary_known": len(known) / len(right) if right else None,
        "boundary_unsearched": len(unsearched) / len(asked) if asked else None,
    }


def _counts(trajectory: Trajectory, questions: Golds) -> bool:
    return not is_lost(trajectory) and bool(questions[trajectory.question_id].golden_answers)


def _is_right(trajectory: Trajectory, questions: Golds) -> bool:
    return exact_match(trajectory.final_answer, questions[trajectory.question_id].golden_answers) == 1.0


def _by_question(values: Sequence[tuple[str, float]]) -> list[float]:
    of_question: dict[str, list[float]] = {}
    for question_id, value in values:
        of_question.setdefault(question_id, []).append(value)
    return [float(np.mean(samples)) for samples in of_question.values()]


def _without_support(trajectories: Sequence[Trajectory], questions: Golds) -> float | None:
    found = []
    for trajectory in trajectories:
        supports = set(questions[trajectory.question_id].supporting_ids)
        calls = [call for turn in trajectory.turns for call in turn.calls if call.tool == "search"]
        found += [not any(hit.passage.id in supports for hit in call.hits) for call in calls] if supports else []
    return float(np.mean(found)) if found else None
