"""How far the policy that sampled is from the policy that learns: the distribution of their ratio, token by token.

The ratio of a sampled token is the probability that the learner gives it before its step, over the one that the engine
sampled it with. An engine that computes as the learner does, with the learner's own weights, has 1 everywhere. Numerics
widen that by thousandths, each version that the engine is behind by more; a bound or a cap is set by looking here.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LADDER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
LOG_RATIO_EDGES: tuple[float, ...] = (*(-edge for edge in reversed(_LADDER)), *_LADDER)
"""Bin edges of the natural logarithm of the ratio, fine around 0, equal in every step of every run."""

QUANTILES = {"p01": 0.01, "p50": 0.5, "p99": 0.99}
TAIL = float(np.log(2.0))
"""Log ratio beyond which a token, half or twice as likely to the learner, is in a tail."""
AGES_APART = 8
"""Policy ages from this on are counted together."""


def ratio_metrics(log_ratios: NDArray[np.float64], ages: NDArray[np.int64], *, cap: float | None) -> dict[str, Any]:
    """The ratios' distribution, whole and by age, as plain JSON.

    Args:
        log_ratios: learner minus engine logprob of each trained token, before the step: `[num_tokens]`. NaN is unknown.
        ages: versions that the engine was behind the learner when it sampled the token: `[num_tokens]`.
        cap: ratios above it count as capped; None caps nothing.

    Returns:
        `ratio/tokens`, `ratio/unknown_tokens` (not counted below), `ratio/histogram` (`edges` of log ratios and one
        count for each bin between them; what is beyond the last edge is in the last bin); where a token is known also
        `ratio/tail_share` (of tokens beyond `TAIL`), `ratio/mean`, `ratio/p01`, `ratio/p50`, `ratio/p99`, `ratio/max`,
        `ratio/capped_share`, and the last six under `ratio/age_0/`, `ratio/age_1/` ... for the ages that there are.
    """
    known = ~np.isnan(log_ratios)
    logs, ages = log_ratios[known], ages[known]
    values: dict[str, Any] = {
        "ratio/tokens": len(logs),
        "ratio/unknown_tokens": int((~known).sum()),
        **({"ratio/tail_share": float((np.abs(logs) > TAIL).mean())} if len(logs) else {}),
        **_figures("ratio/", logs, cap),
    }
    together = np.minimum(ages, AGES_APART)
    for age in np.unique(together):
        prefix = f"ratio/age_{age}" + ("_or_more/" if age == AGES_APART else "/")
        of_age = logs[together == age]
        values[f"{prefix}tokens"] = len(of_age)
        values.update(_figures(prefix, of_age, cap))
    values["ratio/histogram"] = log_ratio_histogram(logs)
    return values


def update_metrics(moved: NDArray[np.float64]) -> dict[str, float]:
    """How far one update has moved the policy on tokens that it was made from.

    Args:
        moved: logprob after the update less that before it: `[num_tokens]`; not finite where it broke the policy.

    Returns:
        `update/tokens`, and where there is one `update/tail_share` (of tokens whose probability the update halved or
        doubled, or broke) and `update/shift` (mean absolute change, nats a token, of those that are finite).
    """
    values = {"update/tokens": float(len(moved))}
    if len(moved):
        finite = np.isfinite(moved)
        values["update/tail_share"] = float((~finite | (np.abs(moved) > TAIL)).mean())
        if finite.any():
            values["update/shift"] = float(np.abs(moved[finite]).mean())
    return values


def log_ratio_histogram(log_ratios: NDArray[np.float64]) -> dict[str, list[Any]]:
    """`edges` (`[num_bins + 1]`) and `counts` (`[num_bins]`); histograms of parts add up to that of the whole."""
    edges = np.asarray(LOG_RATIO_EDGES)
    counts, _ = np.histogram(np.clip(log_ratios, edges[0], edges[-1]), bins=edges)
    return {"edges": list(LOG_RATIO_EDGES), "counts": counts.tolist()}


def _figures(prefix: str, log_ratios: NDArray[np.float64], cap: float | None) -> dict[str, float]:
    """A ratio that no float can hold is infinite, and no reason to warn."""
    if not len(log_ratios):
        return {}
    with np.errstate(over="ignore", invalid="ignore"):
        ratios = np.exp(log_ratios)
        return {
            f"{prefix}mean": float(ratios.mean()),
            **{
                f"{prefix}{name}": float(value)
                for name, value in zip(QUANTILES, np.quantile(ratios, list(QUANTILES.values())), strict=True)
            },
            f"{prefix}max": float(ratios.max()),
            f"{prefix}capped_share": 0.0 if cap is None else float((ratios > cap).mean()),
        }
