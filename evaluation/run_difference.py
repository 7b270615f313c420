"""One figure of two runs on the same questions: its difference, interval, tests, and what it would take to see it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.evaluation_suite import EvaluationSuite
from evaluation.mcnemar import is_binary, mcnemar_exact
from evaluation.paired import EXACT_UP_TO, paired_randomisation
from evaluation.paired_resampling import (
    bootstrap_estimates,
    bootstrap_summary,
    randomisation_estimates,
    randomisation_p,
)
from evaluation.power import achieved_power, questions_needed, visible_difference

SUITE_MEAN = "mean over sets"
"""Stands for the question set where a figure is the mean over all sets of a suite, each of equal weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDifference:
    """One measure of two runs on one question set (or the mean over sets).

    Attributes:
        first, second: names of the runs. question_set: the set's name, or `SUITE_MEAN`.
        n: questions that the measure applies to in both.
        first_mean, second_mean: over those questions. difference: second minus first, with its 95 % paired bootstrap
            interval `low` to `high`.
        p: of the randomisation test, two-sided; None for a measure that is not tested. p_bootstrap: of the paired
            bootstrap test.
        p_holm: `p` corrected for all tests of the comparison.
        first_only, second_only, p_mcnemar: of measures that are right or wrong; None else.
        spread: mean squared difference over questions.
        power: probability to see a true difference as large as this one with these questions.
        needed: questions that would show it with the power asked for; None where there is no difference.
        visible: the smallest difference that these questions show with that power; None where there is none.
    """

    first: str
    second: str
    question_set: str
    measure: str
    n: int
    first_mean: float
    second_mean: float
    difference: float
    low: float
    high: float
    p: float | None = None
    p_bootstrap: float | None = None
    p_holm: float | None = None
    is_significant: bool = False
    first_only: int | None = None
    second_only: int | None = None
    p_mcnemar: float | None = None
    spread: float | None = None
    power: float | None = None
    needed: int | None = None
    visible: float | None = None


def pair_differences(
    first: EvaluationSuite,
    second: EvaluationSuite,
    figures: Sequence[str],
    measures: tuple[str, ...],
    alpha: float,
    power: float,
    num_resamples: int,
    seed: int,
) -> list[RunDifference]:
    """Every figure of two runs on every question set, and their mean over sets where there are several; `measures` are
    tested. P-values are not corrected yet.
    """
    found: list[RunDifference] = []
    drawn: list[NDArray[np.float64]] = []
    swapped: list[NDArray[np.float64]] = []
    tested = [list(figures).index(measure) for measure in measures]
    for place, name in enumerate(first.sets):
        a = np.stack([first.sets[name].figures[figure] for figure in figures], axis=1)
        b = np.stack([second.sets[name].figures[figure] for figure in figures], axis=1)
        differences = b - a
        own = (seed, place)  # sets of one size must not be drawn alike: their mean's variance counts on it
        estimates = bootstrap_estimates(differences, seed=own)
        null = randomisation_estimates(differences[:, tested], num_resamples=num_resamples, seed=own)
        drawn.append(estimates)
        swapped.append(null)
        for i, figure in enumerate(figures):
            applies = ~np.isnan(differences[:, i])
            if not applies.any():
                continue
            mean = float(differences[applies, i].mean())
            low, high, p_bootstrap = bootstrap_summary(estimates[:, i], mean)
            one = RunDifference(
                first=first.name,
                second=second.name,
                question_set=name,
                measure=figure,
                n=int(applies.sum()),
                first_mean=float(a[applies, i].mean()),
                second_mean=float(b[applies, i].mean()),
                difference=mean,
                low=low,
                high=high,
            )
            if figure in measures:
                p = randomisation_p(null[:, measures.index(figure)], mean)
                one = _tested(one, a[applies, i], b[applies, i], p, p_bootstrap, alpha, power, seed)
            found.append(one)
    if len(first.sets) > 1:
        found += _suite_means(found, figures, measures, drawn, swapped)
    return found


def _tested(
    one: RunDifference,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    p: float,
    p_bootstrap: float,
    alpha: float,
    power: float,
    seed: int,
) -> RunDifference:
    """The same with its tests: exact ones where there are any, else from the resamples."""
    spread = float(np.mean((b - a) ** 2))
    counts = mcnemar_exact(a, b) if is_binary(a) and is_binary(b) else None
    if counts is not None:
        p = counts.p
    elif np.count_nonzero(a != b) <= EXACT_UP_TO:
        p = paired_randomisation(b, a, seed=seed)
    return replace(
        one,
        p=p,
        p_bootstrap=p_bootstrap,
        first_only=counts.first_only if counts else None,
        second_only=counts.second_only if counts else None,
        p_mcnemar=counts.p if counts else None,
        spread=spread,
        power=achieved_power(one.difference, spread, one.n, alpha=alpha),
        needed=questions_needed(one.difference, spread, power=power, alpha=alpha, binary=counts is not None),
        visible=visible_difference(one.n, spread, power=power, alpha=alpha, binary=counts is not None),
    )


def _suite_means(
    found: Sequence[RunDifference],
    figures: Sequence[str],
    measures: tuple[str, ...],
    drawn: Sequence[NDArray[np.float64]],
    swapped: Sequence[NDArray[np.float64]],
) -> list[RunDifference]:
    """The mean over sets of each figure that applies in all of them."""
    means = []
    for i, figure in enumerate(figures):
        parts = [one for one in found if one.measure == figure]
        if len(parts) < len(drawn):
            continue
        mean = float(np.mean([one.difference for one in parts]))
        low, high, p_bootstrap = bootstrap_summary(np.mean([estimates[:, i] for estimates in drawn], axis=0), mean)
        tested = figure in measures
        null = np.mean([s[:, measures.index(figure)] for s in swapped], axis=0) if tested else np.zeros(1)
        means.append(
            RunDifference(
                first=parts[0].first,
                second=parts[0].second,
                question_set=SUITE_MEAN,
                measure=figure,
                n=sum(one.n for one in parts),
                first_mean=float(np.mean([one.first_mean for one in parts])),
                second_mean=float(np.mean([one.second_mean for one in parts])),
                difference=mean,
                low=low,
                high=high,
                p=randomisation_p(null, mean) if tested else None,
                p_bootstrap=p_bootstrap if tested else None,
            )
        )
    return means
