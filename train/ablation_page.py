"""A comparison as one self-contained page: learning curves, the final table, differences, and what was spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report import write_report
from evaluation.report_parts import Arm, Cell, CurvePoint, Measure, MetricChart, Report, SeedRun, Table
from evaluation.seed_pairs import MIN_SEEDS
from train.ablation_figures import LOSS, MEASURES, PAIRED, TESTED
from train.ablation_pairs import UNKNOWN, Runs
from train.method import BASELINE

CHARTS = (
    MetricChart(key="em", title="EM of sampled trajectories"),
    MetricChart(key="searches", title="Searches per sampled trajectory"),
    MetricChart(key="finish_ratio/answered", title="Share that answered"),
    MetricChart(key="finish_ratio/turn_limit", title="Share that ran into the turn limit"),
    MetricChart(key="retriever_calls", title="Retriever calls of a step"),
)

LOSS_MARK = "†"
"""Stands behind a difference whose interval reaches below `LOSS`."""


def write_page(out: Path, figures: Mapping[str, Any], found: Mapping[str, Runs]) -> Path:
    """Write `report.html` and `report.json`; returns the page's path."""
    return write_report(
        out,
        Report(
            title=f"Methods side by side: {figures['title']}",
            summary_lines=summary_lines(figures),
            arms=[_arm(row, found[name]) for name, row in figures["methods"].items()],
            tables=[
                final_table(figures),
                threshold_table(figures, "trajectories"),
                threshold_table(figures, "retriever_calls"),
                cost_table(figures),
                *([difference_table(figures)] if figures["baseline"] else []),
            ],
            comparability=_comparability(figures, found),
            notes=notes(figures),
            curve_title="Exact match on dev questions while training",
            threshold=figures["threshold"],
            metric_charts=CHARTS,
        ),
    )


def summary_lines(figures: Mapping[str, Any]) -> list[str]:
    """What a reader in a hurry should know."""
    lines = []
    for row in figures["methods"].values():
        em, reached = row["final"]["em"], row["to_threshold"]["trajectories"]
        lines.append(
            f"{row['title']}: test EM {em['mean']:.3f} over {_seeds(len(row['seeds']))}; "
            f"{reached['share_reached']:.0%} reached dev EM {figures['threshold']}."
        )
    if figures["missing"]:
        lines.append(f"No record yet: {', '.join(figures['missing'])}.")
    return lines


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def notes(figures: Mapping[str, Any]) -> list[str]:
    """What limits the figures."""
    return [
        "A row is a reward and its credit under this project's GRPO; a result at this scale says nothing about the "
        "paper that the reward comes from.",
        f"Every run samples {figures['budget']:,} trajectories; retriever calls, tokens and judge calls stand beside.",
        f"Significance is claimed only with {MIN_SEEDS} or more seeds; with fewer every seed is shown.",
        *cold_start_notes(figures),
    ]


def cold_start_notes(figures: Mapping[str, Any]) -> list[str]:
    """Nothing where all runs began with one policy; else how many there were, and what was left out of comparisons."""
    starts = figures["cold_starts"]
    if len(starts) < 2 and UNKNOWN not in starts:
        return []
    unpaired = [
        f"{row['title']} (seed {', '.join(map(str, row['unpaired']))})"
        for row in figures["methods"].values()
        if row["unpaired"]
    ]
    left_out = f"; in no comparison for that reason: {'; '.join(unpaired)}" if unpaired else ""
    return [
        f"Runs began from {len(starts)} cold starts that differ in their bits or are not known (made on different "
        "machines, or by different versions). Differences and ratios are of runs that began with the same one"
        f"{left_out}."
    ]


def final_table(figures: Mapping[str, Any]) -> Table:
    """Final figures: an interval over seeds where there are enough of them, else every seed."""
    shown = [m for m in MEASURES if any(m in row["final"] for row in figures["methods"].values())]
    rows: list[list[Cell]] = [
        [row["title"], len(row["seeds"]), *(seeds_cell(row["final"].get(measure)) for measure in shown)]
        for row in figures["methods"].values()
    ]
    return Table(
        title="Final evaluation on test questions, greedy",
        columns=["method", "seeds", *(MEASURES[measure] for measure in shown)],
        rows=rows,
        note=f"With {MIN_SEEDS} or more seeds: mean and 95 % interval over seeds. With fewer: every seed.",
    )


def threshold_table(figures: Mapping[str, Any], unit: str) -> Table:
    """What was needed until the threshold: trajectories censored at the budget, retriever calls where all arrived."""
    words = unit.replace("_", " ")
    told = (
        "min(trajectories to the threshold, budget), mean over all seeds"
        if unit == "trajectories"
        else f"mean of the {words} to the threshold; it and the ratio are told only where all seeds reached it"
    )
    rows: list[list[Cell]] = []
    for row in figures["methods"].values():
        figure = row["to_threshold"][unit]
        rows.append(
            [
                row["title"],
                f"{sum(n is not None for n in figure['needed'])} of {len(figure['needed'])}",
                _measure(figure, "restricted_mean"),
                _measure(figure, "ratio"),
                " · ".join("–" if n is None else f"{n:,.0f}" for n in figure["needed"]),
            ]
        )
    return Table(
        title=f"{words.capitalize()} to dev EM {figures['threshold']}",
        columns=[
            "method",
            "seeds that reached it",
            "restricted mean",
            f"ratio to {baseline_title(figures)}",
            "each seed",
        ],
        rows=rows,
        note=f"Restricted mean: {told}. A point past the budget does not count. –: never reached it.",
    )


def cost_table(figures: Mapping[str, Any]) -> Table:
    """What a run cost besides its trajectories: means over seeds."""
    rows: list[list[Cell]] = [
        [row["title"], *(_mean(row["costs"][cost]) for cost in row["costs"])] for row in figures["methods"].values()
    ]
    return Table(
        title=f"Cost of a run of {figures['budget']:,} trajectories, mean over seeds",
        columns=["method", "retriever calls", "tokens sampled", "judge calls", "seconds"],
        rows=rows,
        note="Evaluations are in the seconds, in nothing else; seconds of runs that shared a machine are longer.",
    )


def difference_table(figures: Mapping[str, Any]) -> Table:
    """Paired differences from the baseline, a line for each method; p-values of what is tested alone."""
    columns: list[str] = ["method", "seeds"]
    for measure in PAIRED:
        columns += [f"{MEASURES[measure]} [95 %]", "p"] if measure in TESTED else [MEASURES[measure]]
    rows: list[list[Cell]] = []
    for row in figures["methods"].values():
        against = row["against_baseline"]
        if not against:
            continue
        num_seeds = max(one["num_seeds"] for one in against.values())
        cells: list[Cell] = [row["title"], num_seeds]
        for measure in PAIRED:
            one = against.get(measure)
            cells.append(_difference(one, num_seeds) if one else None)
            if measure in TESTED:
                cells.append(claim(one) if one else None)
        rows.append(cells)
    return Table(
        title=f"Method minus {baseline_title(figures)}, paired over seeds and questions",
        columns=columns,
        rows=rows,
        note="Intervals are over seeds and questions drawn together; of few seeds they are too narrow. Only "
        f"{' and '.join(MEASURES[measure] for measure in TESTED)} are tested, those of all methods corrected together "
        f"(Holm): p of a paired randomisation over seeds, only with {MIN_SEEDS} or more of them. "
        f"{LOSS_MARK}: the interval reaches below {str(LOSS).replace('-', '−')}.",
    )


def baseline_title(figures: Mapping[str, Any]) -> str:
    """What differences and ratios are taken from, in the words of a table's head."""
    name = figures["baseline"]
    return "outcome-only" if name in (None, BASELINE) else str(figures["methods"][name]["title"])


def _difference(one: Mapping[str, Any], num_seeds: int) -> Measure:
    """A difference, marked where it may be a loss and where it is of fewer seeds than the method's others."""
    fewer = "" if one["num_seeds"] == num_seeds else f" (seeds: {one['num_seeds']})"
    loss = LOSS_MARK if one["low"] < LOSS else ""
    return Measure(value=one["difference"], low=one["low"], high=one["high"], mark=f"{loss}{fewer}", signed=True)


def claim(one: Mapping[str, Any]) -> str:
    """The corrected p-value in words, or why there is none."""
    if one["num_seeds"] < MIN_SEEDS:
        return "too few seeds"
    if one["p_holm"] is None:
        return "not tested"
    return f"{one['p_holm']:.3f}{', significant' if one['is_significant'] else ''}"


def seeds_cell(figure: Mapping[str, Any] | None) -> Cell:
    """Mean with interval where there are seeds enough, else every seed."""
    if figure is None:
        return None
    known = [value for value in figure["seeds"] if value is not None]
    if len(known) >= MIN_SEEDS:
        return Measure(value=figure["mean"], low=figure["low"], high=figure["high"])
    return " · ".join(f"{value:.3f}" for value in known)


def _measure(figure: Mapping[str, Any], name: str) -> Measure:
    return Measure(value=figure.get(name), low=figure.get(f"{name}_low"), high=figure.get(f"{name}_high"))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _arm(row: Mapping[str, Any], runs: Runs) -> Arm:
    """A method with all its seeds; its final figures have an interval only where there are seeds enough."""
    final: dict[str, Any] = {"finish_reasons": row["finish_reasons"], "n": next(iter(runs.values())).test.get("n")}
    for measure, figure in row["final"].items():
        final[measure] = figure["mean"]
        if len(row["seeds"]) >= MIN_SEEDS:
            final |= {f"{measure}_low": figure["low"], f"{measure}_high": figure["high"]}
    return Arm(
        name=row["title"],
        final=final,
        seeds=[
            SeedRun(
                seed=seed,
                curve=[
                    CurvePoint(step=p.step, trajectories=p.trajectories, value=p.em, low=p.low, high=p.high)
                    for p in run.curve
                ],
                metrics=_lines(run.training),
            )
            for seed, run in sorted(runs.items())
        ],
    )


def _lines(training: Mapping[str, list[float | None]]) -> list[dict[str, Any]]:
    """Metrics by name as one mapping a step."""
    length = max((len(values) for values in training.values()), default=0)
    return [{name: values[i] for name, values in training.items()} for i in range(length)]


def _comparability(figures: Mapping[str, Any], found: Mapping[str, Runs]) -> dict[str, Any]:
    """What all runs share, and the machines and commits that they were made with."""
    records = [record for name in figures["methods"] for record in found[name].values()]
    environments = [record.environment for record in records]
    return {
        "setting": figures["setting"],
        "testbed": records[0].settings.testbed.model_dump(mode="json"),
        "cold_starts": figures["cold_starts"],
        "test_questions": records[0].questions_sha256,
        "commits": sorted({str(environment.get("commit")) for environment in environments}),
        "hardware": sorted({str(environment.get("hardware")) for environment in environments}),
        "packages": environments[0].get("packages"),
        "methods": {name: found[name][min(found[name])].settings.config for name in figures["methods"]},
    }
