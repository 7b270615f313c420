"""How right the judge by rules is, criterion by criterion, on generated cases whose verdict is known.

    python -m benchmarks.judge_accuracy                                  # held-out templates, 600 cases a criterion
    python -m benchmarks.judge_accuracy --family development --show 3    # what the rules were written against
    python -m benchmarks.judge_accuracy --judge '{kind: endpoint, url: "http://127.0.0.1:8000", model: M}' --cases 300
    python -m benchmarks.judge_accuracy --smoke

Three families share no template, relation or name. Rules were written against `development` and `second_development`;
`held_out` was written after the last change of the rules, and the rules were not changed for it. Half the cases are
adversarial: a negation, a swapped entity, or part of a name. Graded verdicts count as holding from 0.5 on. "fooled" is
the share of what does not hold that was accepted, "missed" the share of what holds that was not.
"""

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.judge_cases.development import DEVELOPMENT
from benchmarks.judge_cases.family import Family
from benchmarks.judge_cases.held_out import HELD_OUT
from benchmarks.judge_cases.making import TRAPS, Case, make_cases
from benchmarks.judge_cases.second_development import SECOND_DEVELOPMENT
from rewards.judge import Judge, Verdict, open_judge
from rewards.judge.judge import CRITERIA

FAMILIES: dict[str, Family] = {
    "development": DEVELOPMENT,
    "second_development": SECOND_DEVELOPMENT,
    "held_out": HELD_OUT,
}
HOLDS_FROM = 0.5
NUM_RESAMPLES = 2000
_NOTHING_HOLDS = ("fails", "not_support")


def said(case: Case, verdict: Verdict) -> str:
    """A verdict in the words of `Case.wanted`; `failed` where it is NaN."""
    if math.isnan(verdict.score):
        return "failed"
    if case.request.criterion == "nugget":
        return {1.0: "support", 0.5: "partial_support", 0.0: "not_support"}[verdict.score]
    return "holds" if verdict.score >= HOLDS_FROM else "fails"


def balanced_accuracy(wanted: list[str], right: list[bool]) -> float:
    """Mean over the classes of the share judged right, in [0, 1]; a failed verdict is not right."""
    shares = [np.mean([r for w, r in zip(wanted, right, strict=True) if w == label]) for label in set(wanted)]
    return float(np.mean(shares))


def interval(wanted: list[str], right: list[bool]) -> tuple[float, float]:
    """95 % percentile bootstrap of the balanced accuracy; each class is resampled apart, so that none goes missing."""
    rng = np.random.default_rng(0)
    classes = [np.array([r for w, r in zip(wanted, right, strict=True) if w == label]) for label in sorted(set(wanted))]
    draws = [values[rng.integers(0, len(values), (NUM_RESAMPLES, len(values)))].mean(axis=1) for values in classes]
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return float(low), float(high)


def measure(judge: Judge, family: Family, criterion: str, count: int) -> tuple[dict[str, Any], list[str]]:
    """Figures of one criterion, and a line for each case that was judged wrong."""
    cases = make_cases(family, criterion, count)
    began = time.perf_counter()
    verdicts = judge.ask([case.request for case in cases])
    seconds = time.perf_counter() - began
    answers = [said(case, verdict) for case, verdict in zip(cases, verdicts, strict=True)]
    wanted = [case.wanted for case in cases]
    right = [a == w for a, w in zip(answers, wanted, strict=True)]
    low, high = interval(wanted, right)
    by_trap = {}
    for trap in (None, *TRAPS):
        chosen = [i for i, case in enumerate(cases) if case.trap == trap]
        if chosen:
            by_trap[trap or "plain"] = balanced_accuracy([wanted[i] for i in chosen], [right[i] for i in chosen])
    figures = {
        "cases": len(cases),
        "adversarial": sum(case.trap is not None for case in cases),
        "templates": len({case.template for case in cases}),
        "wanted": dict(Counter(wanted)),
        "failed": answers.count("failed"),
        "balanced_accuracy": balanced_accuracy(wanted, right),
        "low": low,
        "high": high,
        "by_trap": by_trap,
        "fooled": _share_wrong(cases, right, holding=False),
        "missed": _share_wrong(cases, right, holding=True),
        "microseconds_per_case": 1e6 * seconds / len(cases),
    }
    wrong = [
        f"{criterion}, {case.trap or 'plain'}: wanted {case.wanted}, said {answer}: {dict(case.request.fields)}"
        for case, answer, is_right in zip(cases, answers, right, strict=True)
        if not is_right
    ]
    return figures, wrong


def _share_wrong(cases: list[Case], right: list[bool], *, holding: bool) -> float:
    """Share judged wrong of the cases that hold (at least in part), or of those that do not."""
    chosen = [not r for case, r in zip(cases, right, strict=True) if (case.wanted in _NOTHING_HOLDS) != holding]
    return float(np.mean(chosen))


def main() -> None:
    """Judge the cases and print one line a criterion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=list(FAMILIES), default="held_out")
    parser.add_argument("--cases", type=int, default=600, help="per criterion")
    parser.add_argument("--judge", default="rules", help="a judge as a config states it")
    parser.add_argument("--criteria", nargs="*", choices=list(CRITERIA), default=list(CRITERIA))
    parser.add_argument("--show", type=int, default=0, help="print so many wrong verdicts of each criterion")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--smoke", action="store_true", help="48 cases a criterion, to see that it runs")
    options = parser.parse_args()
    count = 48 if options.smoke else options.cases
    if count < len(TRAPS) * 4:
        parser.error(f"--cases is {count}; {len(TRAPS) * 4} are needed to have every trap once")
    judge = open_judge(yaml.safe_load(options.judge))
    if judge is None:
        parser.error("--judge states no judge")
    figures: dict[str, Any] = {"family": options.family, "judge": judge.name, "criteria": {}}
    columns = ("fooled", "missed", "plain", *TRAPS)
    print(f"{'criterion':<12}{'cases':>6}{'balanced accuracy [95 %]':>28}" + "".join(f"{c:>16}" for c in columns))
    try:
        for criterion in options.criteria:
            row, wrong = measure(judge, FAMILIES[options.family], criterion, count)
            figures["criteria"][criterion] = row
            value = f"{row['balanced_accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            shares = "".join(f"{row.get(name, row['by_trap'].get(name)):>16.3f}" for name in columns)
            print(f"{criterion:<12}{row['cases']:>6}{value:>28}{shares}", flush=True)
            for line in wrong[: options.show]:
                print(f"    {line}")
    finally:
        judge.close()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
