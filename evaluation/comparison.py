"""Runs side by side on the same questions: differences, what they are worth, and what else differs.

A difference is the later run minus the earlier one, in the order given. It is tested by paired randomisation (exactly,
by McNemar's test, where every figure is right or wrong), its interval is the paired bootstrap's, and all p-values of a
comparison (every pair, question set and tested measure, and the mean over the sets of a suite) are corrected together
by Holm's method. Figures that are not tested have an interval and no mark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evaluation.block_differences import UNKNOWN, FieldDifference, block_differences, difference_lines
from evaluation.evaluation_suite import EvaluationSuite, same_questions
from evaluation.paired import holm
from evaluation.paired_resampling import interval_over_sets
from evaluation.report_parts import Measure
from evaluation.run_difference import SUITE_MEAN, RunDifference, pair_differences

_QUESTIONS = ("questions", "question_limit", "question_set")
"""What differs by itself where only common questions are compared."""

VALID = "valid"
"""Stands among the differing fields where a run's own evaluation says that it is not."""

GOLDS = "golden_answers"
"""Stands among the differing fields where equal questions were scored against other golden answers."""

DEFAULT_MEASURES: tuple[str, ...] = ("em", "f1")

POINTS: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.10)
"""Differences for which the number of questions is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing runs.

    Attributes:
        runs: cut to the questions that all have. left_out: in words, what was not compared.
        measures: those tested, the first of them ranks. differences: every pair, set and figure.
        fields: what differs between the comparability blocks. strict: whether circumstances forbid a ranking too.
        means: of a suite, each run's mean over sets with its 95 % bootstrap interval, by run and figure.
        alpha, power: of tests and of the numbers of questions. points: the differences that these are told for.
    """

    runs: tuple[EvaluationSuite, ...]
    measures: tuple[str, ...]
    differences: tuple[RunDifference, ...]
    fields: tuple[FieldDifference, ...]
    means: Mapping[str, Mapping[str, Measure]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    strict: bool = False
    alpha: float = 0.05
    power: float = 0.8
    points: tuple[float, ...] = POINTS

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs."""
        return tuple(run.name for run in self.runs)

    @property
    def forbidding(self) -> tuple[FieldDifference, ...]:
        """The differing fields that nobody allowed: while there are any, nothing is ranked."""
        return tuple(one for one in self.fields if one.forbids(strict=self.strict))

    @property
    def is_ranked(self) -> bool:
        """True if the runs may be ranked: several of them, and nothing forbids it."""
        return len(self.runs) > 1 and not self.forbidding

    @property
    def is_suite(self) -> bool:
        """True with several question sets."""
        return len(self.runs[0].sets) > 1

    @property
    def headline_set(self) -> str:
        """The set whose figures rank: the only one, or the mean over all."""
        return SUITE_MEAN if self.is_suite else next(iter(self.runs[0].sets))

    def found(self, measure: str, question_set: str, first: str, second: str) -> RunDifference | None:
        """One difference, None where there is none."""
        wanted = (measure, question_set, first, second)
        return next((d for d in self.differences if (d.measure, d.question_set, d.first, d.second) == wanted), None)


def compare_runs(
    suites: Sequence[EvaluationSuite],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    allow: Sequence[str] = (),
    strict: bool = False,
    common_only: bool = False,
    alpha: float = 0.05,
    power: float = 0.8,
    points: Sequence[float] = POINTS,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare every pair of runs; a single run is a comparison without differences.

    measures: what is tested, the first of which ranks. allow, strict: see `evaluation.block_differences`.

    Raises:
        ValueError: the runs answer different questions (`common_only` compares those that all have), a measure that
            no file has, an unknown name in `allow`, or a number outside its range.
    """
    if not 0.0 < alpha < 1.0 or not 0.0 < power < 1.0:
        raise ValueError(f"alpha is {alpha} and power is {power}; both lie between 0 and 1 (0.05 and 0.8 are usual)")
    if not all(0.0 < one < 1.0 for one in points):
        raise ValueError(f"differences are {', '.join(map(str, points))}; each lies between 0 and 1 (0.02 is 2 points)")
    measures = tuple(dict.fromkeys(measures))
    runs, left_out = same_questions(suites, common_only=common_only)
    figures = _common_figures(runs)
    unknown = [measure for measure in measures if measure not in figures]
    if unknown or not measures:
        raise ValueError(f"no measure {', '.join(unknown) or 'named'} in every run; they have {', '.join(figures)}")
    found: list[RunDifference] = []
    for first, second in combinations(runs, 2):
        found += pair_differences(first, second, figures, measures, alpha, power, num_resamples, seed)
    return Comparison(
        runs=tuple(runs),
        measures=measures,
        differences=tuple(_corrected(found, alpha)),
        fields=_fields(runs, allow, _QUESTIONS if common_only else ()),
        means={run.name: _means_over_sets(run, figures, seed) for run in runs if len(run.sets) > 1},
        left_out=tuple(left_out),
        strict=strict,
        alpha=alpha,
        power=power,
        points=tuple(points),
    )


def refusal(comparison: Comparison) -> str | None:
    """Why nothing is ranked, field by field and with the way out; None where the runs may be ranked."""
    forbidding = comparison.forbidding
    if not forbidding:
        return None
    tops = list(dict.fromkeys(one.field.partition(" ")[0].partition(".")[0] for one in forbidding))
    lines = "".join(f"\n  {line}" for line in difference_lines(forbidding, comparison.names))
    options = " ".join(f"--allow {top}" for top in tops)
    return (
        f"the runs are not ranked, because they differ in what decides a figure:{lines}\n  evaluate "
        f"them alike, or accept these differences, which then stand beside the result: {options}"
    )


def mean_over_sets(run: EvaluationSuite, measure: str) -> float:
    """Mean over question sets of a figure's mean, NaN where a set has none."""
    return float(np.mean([_mean(file.figures[measure]) for file in run.sets.values()]))


def _means_over_sets(run: EvaluationSuite, figures: Sequence[str], seed: int) -> dict[str, Measure]:
    values = [np.stack([file.figures[figure] for figure in figures], axis=1) for file in run.sets.values()]
    intervals = interval_over_sets(values, seed=seed).tolist()
    return {
        figure: Measure(value=mean, low=low, high=high)
        for figure, (low, high) in zip(figures, intervals, strict=True)
        if not math.isnan(mean := mean_over_sets(run, figure))
    }


def _common_figures(runs: Sequence[EvaluationSuite]) -> list[str]:
    """Figures that every file has, in the first one's order."""
    files = [file for run in runs for file in run.sets.values()]
    return [name for name in files[0].figures if all(name in file.figures for file in files)]


def _fields(
    runs: Sequence[EvaluationSuite], allow: Sequence[str], implied: Sequence[str]
) -> tuple[FieldDifference, ...]:
    """Differences of the blocks; of a suite those of every set, equal ones once, others named after their set."""
    if len(runs) < 2:
        return ()
    sets, named = list(runs[0].sets), [name for name in allow if name not in (VALID, GOLDS)]
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    kept: dict[tuple[str, tuple[str, ...]], FieldDifference] = {}
    for name in sets:
        for one in block_differences([run.sets[name].comparability for run in runs], allow=named):
            if one.field.partition(".")[0] in implied:
                one = replace(one, is_allowed=True)
            found.setdefault((one.field, one.values), []).append(name)
            kept[one.field, one.values] = one
    return (
        *(one for one in (_validity(runs, allow), _golds(runs, allow)) if one is not None),
        *(
            one if len(found[key]) == len(sets) else replace(one, field=f"{one.field} ({', '.join(found[key])})")
            for key, one in kept.items()
        ),
    )


def _validity(runs: Sequence[EvaluationSuite], allow: Sequence[str]) -> FieldDifference | None:
    """A run that its own evaluation marks as invalid (too many outages) is no run to rank; None where all are valid."""
    values = tuple(
        "false" if any(file.summary.get("valid") is False for file in run.sets.values()) else "true" for run in runs
    )
    if "false" not in values:
        return None
    return FieldDifference(field=VALID, values=values, kind="decides", is_allowed=VALID in allow)


def _golds(runs: Sequence[EvaluationSuite], allow: Sequence[str]) -> FieldDifference | None:
    """Equal questions that runs scored against other golden answers; None where all agree, or do not say."""
    differing = [0] * len(runs)
    known = [False] * len(runs)
    for name in runs[0].sets:
        columns = [run.sets[name].texts.get(GOLDS) for run in runs]
        first = next((column for column in columns if column is not None), None)
        for place, column in enumerate(columns):
            if column is not None and first is not None:
                known[place] = True
                differing[place] += sum(set(own) != set(other) for own, other in zip(column, first, strict=True))
    if not any(differing):
        return None
    texts = [f"other ones for {n} questions" if n else "as they are" for n in differing]
    values = tuple(text if is_known else UNKNOWN for text, is_known in zip(texts, known, strict=True))
    return FieldDifference(field=GOLDS, values=values, kind="decides", is_allowed=GOLDS in allow)


def _corrected(found: Sequence[RunDifference], alpha: float) -> list[RunDifference]:
    corrected = iter(holm([one.p for one in found if one.p is not None]))
    result = []
    for one in found:
        if one.p is not None:
            p_holm = next(corrected)
            one = replace(one, p_holm=p_holm, is_significant=p_holm < alpha)
        result.append(one)
    return result


def _mean(values: NDArray[np.float64]) -> float:
    applies = values[~np.isnan(values)]
    return float(applies.mean()) if applies.size else float("nan")
