"""Curves over training: read from a run's metrics, and brought together over seeds.

With several seeds the curve is the median of the seeds at each number of trajectories, and its interval is bootstrapped
over seeds. With one seed there is nothing to say about seeds: the interval is the evaluation's own, over questions.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluation.report_parts import Arm, CurvePoint, SeedRun
from evaluation.significance import bootstrap_interval

Series = list[tuple[float, float]]
"""(trajectories, value) pairs in ascending order."""


def curve_from_metrics(metrics: Iterable[Mapping[str, Any]], key: str = "dev/em") -> tuple[CurvePoint, ...]:
    """The points at which `key` was measured, with `key_low` and `key_high` where they were."""
    points = []
    for record in metrics:
        value = _number(record.get(key))
        if value is not None:
            step = record.get("step")
            points.append(
                CurvePoint(
                    trajectories=_position(record),
                    value=value,
                    low=_number(record.get(f"{key}_low")),
                    high=_number(record.get(f"{key}_high")),
                    step=int(step) if step is not None else None,
                )
            )
    return tuple(sorted(points, key=lambda point: point.trajectories))


def metric_series(metrics: Iterable[Mapping[str, Any]], key: str) -> Series:
    """Values of one metric over sampled trajectories (over steps where a record does not say how many)."""
    pairs = [(_position(record), _number(record.get(key))) for record in metrics]
    return sorted((x, y) for x, y in pairs if y is not None)


def median_curve(seeds: Sequence[SeedRun], *, confidence: float = 0.95) -> tuple[CurvePoint, ...]:
    """Median over seeds at each number of trajectories that every seed reached, intervals over seeds."""
    by_seed = [{point.trajectories: point for point in run.curve} for run in seeds if run.curve]
    if not by_seed:
        return ()
    points = []
    for x in sorted(set.intersection(*(set(curve) for curve in by_seed))):
        values = [curve[x].value for curve in by_seed]
        low, high = bootstrap_interval(values, statistic="median", confidence=confidence)
        points.append(CurvePoint(trajectories=x, value=_median(values), low=low, high=high, step=by_seed[0][x].step))
    return tuple(points)


def median_series(all_series: Sequence[Series]) -> Series:
    """Median of several series at the positions that all of them have."""
    tables = [dict(series) for series in all_series if series]
    if not tables:
        return []
    return [(x, _median([table[x] for table in tables])) for x in sorted(set.intersection(*(set(t) for t in tables)))]


def arm_curve(arm: Arm) -> tuple[CurvePoint, ...]:
    """The curve to draw boldly: the arm's own, or the median of its seeds."""
    if arm.curve:
        return tuple(arm.curve)
    return tuple(arm.seeds[0].curve) if len(arm.seeds) == 1 else median_curve(arm.seeds)


def arm_series(arm: Arm, key: str) -> tuple[Series, list[Series]]:
    """One metric of an arm: the bold line, and one thin line for each of several seeds."""
    if arm.metrics:
        return metric_series(arm.metrics, key), []
    thin = [series for run in arm.seeds if (series := metric_series(run.metrics, key))]
    return median_series(thin), thin if len(thin) > 1 else []


def metric_keys(arms: Iterable[Arm]) -> list[str]:
    """Every metric name that any arm or seed logged, in order of appearance."""
    keys: dict[str, None] = {}
    for arm in arms:
        for metrics in (arm.metrics, *(run.metrics for run in arm.seeds)):
            for record in metrics:
                keys.update(dict.fromkeys(record))
    return list(keys)


def interval_meaning(arms: Iterable[Arm]) -> str:
    """What the bands are intervals over, in words."""
    counts = {len(arm.seeds) if not arm.curve else 1 for arm in arms if arm.curve or arm.seeds}
    if not counts:
        return "95 % bootstrap intervals over questions."
    if counts == {1}:
        return "Bands are 95 % bootstrap intervals over questions: one seed, so they say nothing about other seeds."
    seeds = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    return f"Bold: median over {seeds} seeds; thin: each seed; bands: 95 % bootstrap intervals over seeds."


def _position(record: Mapping[str, Any]) -> float:
    value = _number(record.get("trajectories"))
    if value is None:
        value = _number(record.get("step"))
    return value if value is not None else 0.0


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
