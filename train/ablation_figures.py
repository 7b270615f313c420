"""The figures of a comparison, from its records alone: what `methods.json` holds, and page and docs show.

methods.NAME.final.MEASURE       mean over seeds, 95 % interval over seeds, and every seed
methods.NAME.to_threshold        trajectories to the dev EM, censored at the budget, and retriever calls
methods.NAME.costs               retriever calls, tokens, judge calls and wall time of each seed
methods.NAME.against_baseline    paired differences over seeds and questions
methods.NAME.unpaired            seeds that began elsewhere than the baseline's, and so stand in no comparison
below                            every cell whose difference may be a loss
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.seed_pairs import MIN_SEEDS, SeedComparison, compare_over_seeds, correct_together
from evaluation.significance import bootstrap_interval
from evaluation.time_to_threshold import TimeToThreshold, first_reached, ratio_of_means
from evaluation.trajectory_record import plain
from train.ablation_pairs import UNKNOWN, Runs, common_runs, seeds_of_other_starts, seeds_of_pairs
from train.ablation_record import RunRecord
from train.config_file import ConfigError
from train.method import BASELINE, Method

MEASURES: dict[str, str] = {
    "em": "EM",
    "f1": "F1",
    "support_recall": "Support recall",
    "citation_precision": "Citation precision",
    "citation_recall": "Citation recall",
    "searches_per_question": "Searches",
    "consistency_retriever": "Consistency, retriever",
    "consistency_generator": "Consistency, generator",
    "consistency_end_to_end": "Consistency, end to end",
}
"""Figures of the final evaluation, and their names in tables."""

PAIRED = ("em", "f1", "support_recall", "citation_precision", "citation_recall", "consistency_end_to_end")
"""Measures that are compared with the baseline, question by question."""

TESTED = ("em", "f1")
"""Measures whose p-values are corrected together."""

LOSS = -0.02
"""A cell is listed where the interval of its difference from the baseline reaches below this."""

SHORT_HASH = 7

COSTS = ("retriever_calls", "sampled_tokens", "judge_calls", "seconds")


def comparison_figures(
    methods: Sequence[Method],
    found: Mapping[str, Runs],
    *,
    setting: str,
    title: str,
    threshold: float,
    budget: int,
    overrides: Sequence[str] = (),
    command: str = "",
    baseline: str = BASELINE,
) -> dict[str, Any]:
    """Everything that is reported, as JSON types.

    `found` has the records of each method by seed; methods without any are named under `missing` and left out.
    `command` makes them again. Differences and ratios are to the method named `baseline`; there are none without it.

    Raises:
        ConfigError: there is no record at all, or records that answered other questions than each other.
    """
    rows = {method.name: method for method in methods if found.get(method.name)}
    if not rows:
        raise ConfigError(
            f"no run of {', '.join(m.name for m in methods)} has a record yet: there is nothing to report"
        )
    refuse_other_questions([record for name in rows for record in found[name].values()])
    theirs = found[baseline] if baseline in rows else None
    compared = _compare(rows, found, baseline) if theirs else {}
    result: dict[str, Any] = {
        "setting": setting,
        "overrides": list(overrides),
        "command": command,
        "title": title,
        "budget": budget,
        "threshold": threshold,
        "baseline": baseline if theirs else None,
        "min_seeds_for_claims": MIN_SEEDS,
        "methods": {},
        "missing": [method.name for method in methods if method.name not in rows],
        "cold_starts": sorted({r.cold_start_sha256 or UNKNOWN for name in rows for r in found[name].values()}),
        "made_with": made_with([r.environment for name in rows for r in found[name].values()]),
    }
    for name, method in rows.items():
        runs = dict(sorted(found[name].items()))
        result["methods"][name] = {
            "title": method.title,
            "source": method.config.source,
            "tier": method.config.tier,
            "seeds": list(runs),
            "final": final_figures(runs),
            "finish_reasons": _finish_reasons(runs),
            "to_threshold": _to_threshold(runs, theirs, threshold, budget),
            "costs": {cost: [getattr(run.costs, cost) for run in runs.values()] for cost in COSTS},
            "unpaired": seeds_of_other_starts(runs, theirs) if theirs else [],
            "against_baseline": {m: _as_record(one) for (n, m), one in compared.items() if n == name},
            "curves": [[[p.trajectories, p.em] for p in run.curve] for run in runs.values()],
        }
    result["below"] = [
        {"method": name, "measure": measure, "difference": one.difference, "low": one.low, "high": one.high}
        for (name, measure), one in compared.items()
        if one.low < LOSS
    ]
    return plain(result)  # type: ignore[no-any-return]


def made_with(environments: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Machines and commits of runs, each once: `machines` in words, `commits` as short hashes, `with changes` where
    the checkout had files that differ from the commit.
    """
    machines, commits = set(), set()
    for environment in environments:
        found = environment.get("hardware") or {}
        named = f"{found['cores']} cores of {found['cpu']}" if {"cores", "cpu"} <= found.keys() else UNKNOWN
        machines.add(f"{named}, {threads} a run" if (threads := _threads(environment.get("threads"))) else named)
        commit, mark, changes = str(environment.get("commit") or UNKNOWN).partition("+")
        commits.add(f"{commit[:SHORT_HASH]} with {changes}" if mark else commit[:SHORT_HASH])
    return {"machines": sorted(machines), "commits": sorted(commits)}


def _threads(number: str | None) -> str:
    return "" if number is None else "1 thread" if number == "1" else f"{number} threads"


def refuse_other_questions(records: Sequence[RunRecord]) -> None:
    """See that all runs answered the same test questions.

    Raises:
        ConfigError: two did not; they are named.
    """
    first = records[0]
    for record in records:
        if record.questions_sha256 != first.questions_sha256:
            raise ConfigError(
                f"{record.method} with seed {record.seed} answered other test questions than {first.method} with seed "
                f"{first.seed}: one of them was run on another world; make it again"
            )


def final_figures(runs: Runs) -> dict[str, Any]:
    """Each measure that applies: mean over seeds, 95 % interval over seeds (none of one seed), and every seed."""
    figures = {}
    for measure in MEASURES:
        values = np.array([_final(run, measure) for run in runs.values()], dtype=np.float64)
        known = values[~np.isnan(values)]
        if not len(known):
            continue
        low, high = bootstrap_interval(known) if len(known) > 1 else (np.nan, np.nan)
        figures[measure] = {"mean": float(known.mean()), "low": low, "high": high, "seeds": values.tolist()}
    return figures


def _final(run: RunRecord, measure: str) -> float:
    value = {**run.test, **(run.consistency or {})}.get(measure)
    return float("nan") if value is None else float(value)


def _finish_reasons(runs: Runs) -> dict[str, int]:
    """Test episodes of all seeds by finish reason, those that occurred."""
    counts: dict[str, int] = {}
    for run in runs.values():
        for reason, count in run.test["finish_reasons"].items():
            if count:
                counts[reason] = counts.get(reason, 0) + count
    return counts


def _to_threshold(runs: Runs, baseline: Runs | None, threshold: float, budget: int) -> dict[str, Any]:
    """What the runs needed until dev EM reached the threshold, in trajectories and in retriever calls; the ratio is of
    the runs that began with the same policy.

    Trajectories are censored at the budget. No number of calls was given to all runs alike, so their restricted mean
    is known only where every run reached the threshold.
    """
    figures: dict[str, Any] = {}
    compared, with_them = common_runs(runs, baseline) if baseline else ({}, {})
    for unit in ("trajectories", "retriever_calls"):
        ours = _needed(runs, unit, threshold, budget)
        low, high = ours.interval() if len(runs) > 1 else (np.nan, np.nan)
        figures[unit] = {
            "needed": ours.needed,
            "share_reached": ours.share_reached,
            "restricted": ours.restricted,
            "restricted_mean": ours.restricted_mean,
            "restricted_mean_low": low,
            "restricted_mean_high": high,
        }
        if compared:
            same, theirs = (_needed(which, unit, threshold, budget).restricted for which in (compared, with_them))
            ratio, low, high = _ratio(None if ours.restricted is None else same, theirs)
            figures[unit] |= {"ratio": ratio, "ratio_low": low, "ratio_high": high}
    return figures


def _needed(runs: Runs, unit: str, threshold: float, budget: int) -> TimeToThreshold:
    """What each run needed by this unit; a run that overshot the budget is followed up to the budget alone."""
    curves = [[(getattr(p, unit), p.em) for p in run.curve if p.trajectories <= budget] for run in runs.values()]
    return TimeToThreshold(
        needed=tuple(first_reached(curve, threshold) for curve in curves),
        limit=budget if unit == "trajectories" else None,
    )


def _ratio(ours: NDArray[np.float64] | None, theirs: NDArray[np.float64] | None) -> tuple[float, float, float]:
    """Ratio of restricted means with its interval; NaN where it is not known, the interval of one run too."""
    if ours is None or theirs is None or not theirs.mean() > 0:
        return np.nan, np.nan, np.nan
    ratio, low, high = ratio_of_means(ours, theirs)
    return (ratio, low, high) if min(len(ours), len(theirs)) > 1 else (ratio, np.nan, np.nan)


def _compare(
    rows: Mapping[str, Method], found: Mapping[str, Runs], baseline: str
) -> dict[tuple[str, str], SeedComparison]:
    """Every method against the baseline by every paired measure, over the pairs that began with one policy."""
    compared = {}
    for name in rows:
        seeds = seeds_of_pairs(found[name], found[baseline])
        if name == baseline or not seeds:
            continue
        for measure in PAIRED:
            ours, theirs = (_values(found[which], seeds, measure) for which in (name, baseline))
            if ours is None or theirs is None or ours.shape != theirs.shape:
                continue
            if one := compare_over_seeds(ours, theirs):
                compared[name, measure] = one
    tested = [key for key in compared if key[1] in TESTED]
    return compared | dict(zip(tested, correct_together([compared[key] for key in tested]), strict=True))


def _values(runs: Runs, seeds: Sequence[int], measure: str) -> NDArray[np.float64] | None:
    """`[num_seeds, num_questions]`, NaN where the figure does not apply; None where a run does not have it, or where
    runs have it of different numbers of questions.
    """
    rows = [runs[seed].per_question.get(measure, []) for seed in seeds]
    if not rows[0] or len({len(row) for row in rows}) > 1:
        return None
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


def _as_record(one: SeedComparison) -> dict[str, Any]:
    return {
        "num_seeds": one.num_seeds,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "by_seed": list(one.by_seed),
        "p": one.p,
        "p_holm": one.p_holm,
        "is_significant": one.is_significant,
    }
