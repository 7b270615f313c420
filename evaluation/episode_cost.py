"""What an episode costs: tokens in and out, searches, searches that repeat another, and how long they took.

Token counts are exact, latencies are those of the run: of one search as the episode waited for it, and of one episode's
actions and searches together, both under the load that the evaluation put on engine and retriever.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from agent.tools import SEARCH
from agent.trajectory import Trajectory
from rewards.answer import normalize_answer

PERCENTILES = (50, 99)


def duplicate_searches(trajectory: Trajectory) -> int:
    """Searches whose query, normalised as answers are, was searched before in the episode."""
    seen: set[str] = set()
    repeated = 0
    for turn in trajectory.turns:
        for call in turn.calls:
            if call.tool == SEARCH:
                query = normalize_answer(call.argument) or call.argument
                repeated += query in seen
                seen.add(query)
    return repeated


def input_tokens(trajectory: Trajectory) -> int:
    """Tokens that the policy read and did not write, each once: prompt and observations."""
    return len(trajectory.prompt_ids) + sum(len(turn.observation_ids) for turn in trajectory.turns)


def tool_seconds(trajectory: Trajectory) -> float:
    """Seconds that the episode waited for its tools; calls of one turn run at once, so the slowest counts."""
    return sum(max((call.latency_s for call in turn.calls), default=0.0) for turn in trajectory.turns)


def latency_summary(trajectories: Iterable[Trajectory], sampling_s: Mapping[str, float]) -> dict[str, Any]:
    """Percentiles 50 and 99 of a search's and of an episode's seconds; None where none was measured.

    `sampling_s` has the seconds that each episode waited for its policy, by id; episodes that are not in it (played in
    another process) do not count in `episode_s_...`.
    """
    searches: list[float] = []
    episodes: list[float] = []
    for trajectory in trajectories:
        searches += [call.latency_s for turn in trajectory.turns for call in turn.calls if call.tool == SEARCH]
        if trajectory.id in sampling_s:
            episodes.append(sampling_s[trajectory.id] + tool_seconds(trajectory))
    summary: dict[str, Any] = {}
    for name, values in (("search", searches), ("episode", episodes)):
        for percentile in PERCENTILES:
            key = f"{name}_s_p{percentile}"
            summary[key] = float(np.percentile(values, percentile)) if values else None
    return summary
