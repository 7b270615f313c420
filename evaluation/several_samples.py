"""Several samples of a question: is any of them right (pass@k), and how many (mean@k)?

pass@k is the unbiased estimate of Chen et al. (2021, arXiv:2107.03374) from n samples of which c are right,
`1 - C(n - c, k) / C(n, k)`: the chance that k of them, drawn without replacement, hold a right one.
"""

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.significance import bootstrap_interval
from rewards.answer import exact_match


def pass_at(k: int, n: int, right: int) -> float:
    """`1 - C(n - c, k) / C(n, k)`.

    >>> pass_at(2, 4, 1)
    0.5

    Raises:
        ValueError: k below 1 or above n, or more right ones than samples.
    """
    if not 1 <= k <= n or not 0 <= right <= n:
        raise ValueError(
            f"pass@{k} of {n} samples, {right} of them right: k and the right ones are at most the samples"
        )
    return 1.0 - comb(n - right, k) / comb(n, k)


def sample_summary(
    trajectories: Sequence[Trajectory], questions: Mapping[str, Question], *, seed: int = 0
) -> dict[str, Any]:
    """`pass@k` for k = 1, 2, 4 ... and the number of samples n, and `mean@n`, each with `_low` and `_high`.

    Empty where no question has two samples. Questions without golds do not count; an outage is a wrong sample.
    """
    right: dict[str, list[bool]] = {}
    for trajectory in trajectories:
        golds = questions[trajectory.question_id].golden_answers
        if golds:
            is_right = exact_match(trajectory.final_answer, golds) == 1.0
            right.setdefault(trajectory.question_id, []).append(is_right)
    n = min(map(len, right.values()), default=0)
    if n < 2:
        return {}
    ks = sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})
    figures = {f"pass@{k}": [pass_at(k, len(rows), sum(rows)) for rows in right.values()] for k in ks}
    figures[f"mean@{n}"] = [float(np.mean(rows)) for rows in right.values()]
    summary: dict[str, Any] = {}
    for name, values in figures.items():
        low, high = bootstrap_interval(values, seed=seed)
        summary |= {name: float(np.mean(values)), f"{name}_low": low, f"{name}_high": high}
    return summary
