"""What a step's rollouts look like in numbers, under the names that the field uses."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import FINISH_REASONS, NOT_THE_POLICYS_FAULT, Trajectory, Unit
from envs.question import Question
from rewards.answer import exact_match
from rewards.combine import trajectory_totals
from rewards.score import Scores
from train.collapse_metrics import collapse_metrics

ZERO_STD = 1e-8
"""Below this the spread of a float reward in a group counts as none."""


def rollout_metrics(
    units: Sequence[Unit],
    scores: Sequence[Mapping[str, Scores]],
    questions: Mapping[str, Question],
    *,
    version: int | None = None,
    raw: Sequence[Mapping[str, Scores]] | None = None,
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Sampled EM, each reward's mean, groups without spread, turns, searches, tokens, finish ratios and
    `collapse_metrics` of a step.

    `version` is the policy version that learns from the step; `staleness_metrics` needs it. A reward that applied to no
    trajectory of the step is left out: its mean is not 0, there is none.

    `scores` are what credit gets, behind the gates, and `raw` what the rewards gave (default: the same). Of each reward
    `mean` is that of the raw sums over a trajectory, `weighted_mean` that of what counts of them, by `weights` (1 where
    there is none); `group_std` and `frac_reward_zero_std` speak of what counts, before its weight. `failed` is the
    number of trajectories of which a judge's failed verdict left the reward unknown, who count in none of these; left
    out while 0.
    """
    trajectories = [t for unit in units for t in unit.trajectories]
    counted = [t for t in trajectories if t.finish_reason not in NOT_THE_POLICYS_FAULT]
    n = max(1, len(counted))
    finish = Counter(t.finish_reason for t in trajectories)
    actions = [turn.action.kind for t in counted for turn in t.turns]
    sampled = [sum(len(turn.action_ids) for turn in t.turns) for t in counted]
    # A branch holds its parent's turns too, which were sampled and searched once.
    own = [turn for t in trajectories for turn in t.turns[t.fork_turn or 0 :]]
    values: dict[str, float] = {
        "em": sum(exact_match(t.final_answer, questions[t.question_id].golden_answers) for t in counted) / n,
        "turns": sum(t.num_turns for t in counted) / n,
        "searches": sum(t.num_searches for t in counted) / n,
        "retriever_calls": float(sum(call.tool == "search" for turn in own for call in turn.calls)),
        "sampled_tokens": float(sum(len(turn.action_ids) for turn in own)),
        "valid_action": sum(kind != "invalid" for kind in actions) / max(1, len(actions)),
        "completions/mean_length": sum(sampled) / n,
    }
    for reason in FINISH_REASONS:
        values[f"finish_ratio/{reason}"] = finish[reason] / max(1, len(trajectories))
    values.update(collapse_metrics(counted, questions))
    for name in scores[0] if scores else ():
        if num_failed := sum(int(named[name].has_failed.sum()) for named in scores):
            values[f"rewards/{name}/failed"] = float(num_failed)
        totals = [trajectory_totals(named[name]) for named in scores]
        everything = np.concatenate(totals)
        spreads = np.array([np.nanstd(t) for t in totals if not np.isnan(t).all()])
        if not len(spreads):
            continue
        before = [
            trajectory_totals(named.get(name, own[name])) for named, own in zip(raw or scores, scores, strict=True)
        ]
        values[f"rewards/{name}/mean"] = float(np.nanmean(np.concatenate(before)))
        values[f"rewards/{name}/weighted_mean"] = (weights or {}).get(name, 1.0) * float(np.nanmean(everything))
        values[f"rewards/{name}/group_std"] = float(spreads.mean())
        values[f"frac_reward_zero_std/{name}"] = float((spreads < ZERO_STD).mean())
    if version is not None:
        values.update(staleness_metrics(counted, version))
    return values


def staleness_metrics(trajectories: Sequence[Trajectory], version: int) -> dict[str, float]:
    """How many versions of the policy the sampled tokens are behind `version`, the one that learns from them.

    Returns:
        `staleness/mean` and `staleness/max` over tokens, `staleness/mixed_share`: trajectories with tokens of more than
        one version, of those with any. Nothing where no token was sampled.
    """
    sampled = [np.concatenate([turn.action_versions for turn in t.turns]) for t in trajectories if t.turns]
    sampled = [versions for versions in sampled if len(versions)]
    if not sampled:
        return {}
    ages = version - np.concatenate(sampled)
    return {
        "staleness/mean": float(ages.mean()),
        "staleness/max": float(ages.max()),
        "staleness/mixed_share": sum(len(np.unique(versions)) > 1 for versions in sampled) / len(sampled),
    }


def composition_metrics(
    gates: Sequence[Mapping[str, NDArray[np.float64]]], schedule_factors: Mapping[str, float]
) -> dict[str, float]:
    """`rewards/NAME/gate_open`, the share of a step's trajectories with an open gate among those whose gate could be
    told, and `rewards/NAME/schedule`, the factor of the weight.

    gates: of each unit, by the name of each component that has one, `[num_trajectories]` as
    `rewards.compose.ScoredUnit` has it.
    """
    values: dict[str, float] = {}
    for name in gates[0] if gates else ():
        states = np.concatenate([of_unit[name] for of_unit in gates])
        if not np.isnan(states).all():
            values[f"rewards/{name}/gate_open"] = float(np.nanmean(states))
    values.update((f"rewards/{name}/schedule", factor) for name, factor in schedule_factors.items())
    return values
