"""A comparison in sentences: who is better, how sure that is, what else differs, and what was left out."""

from evaluation.block_differences import difference_lines
from evaluation.comparison import Comparison
from evaluation.comparison_tables import beats, p_text
from evaluation.figure_names import figure_label, is_cost
from evaluation.report import format_difference
from evaluation.run_difference import RunDifference

MAX_RUNS_IN_WORDS = 4
"""With more runs the table says it better."""


def verdict_lines(comparison: Comparison) -> list[str]:
    """What a reader in a hurry should know: who is better, how sure that is, and what else differs."""
    lines = []
    if comparison.forbidding:
        fields = ", ".join(one.field for one in comparison.forbidding)
        lines.append(
            f"Not ranked: the runs differ in {fields}. Their figures stand side by side and do not say which is better."
        )
    elif len(comparison.runs) <= MAX_RUNS_IN_WORDS:
        wanted = (comparison.measures[0], comparison.headline_set)
        lines += [_told(comparison, one) for one in comparison.differences if (one.measure, one.question_set) == wanted]
    lines += _outages(comparison)
    allowed = [one for one in comparison.fields if one.is_allowed]
    if allowed:
        lines.append(f"Allowed, and part of the difference: {'; '.join(difference_lines(allowed, comparison.names))}.")
    stated = [one.field for one in comparison.fields if one.kind == "circumstance" and not one.is_allowed]
    if stated and not comparison.strict:
        lines.append(f"The runs also differ in {', '.join(stated)}.")
    unknown = [one.field for one in comparison.fields if one.kind == "unknown"]
    if unknown:
        lines.append(f"Unknown in every file, so not known to agree: {', '.join(unknown)}.")
    lines += [f"Left out: {line}." for line in comparison.left_out]
    if comparison.left_out:
        lines.append("Controls, latencies and counts of outages are those of all questions of each run.")
    return lines


def _told(comparison: Comparison, one: RunDifference) -> str:
    label = figure_label(one.measure)
    interval = f"{format_difference(one.low)} to {format_difference(one.high)}"
    change = f"{format_difference(one.difference)} ({interval}, p {p_text(one.p_holm)} after Holm)"
    if one.is_significant:
        better, worse = (one.second, one.first) if beats(comparison, one.second, one.first) else (one.first, one.second)
        word = "cheaper" if is_cost(one.measure) else "better"
        return f"{better} is {word} than {worse}: {label}, {one.second} minus {one.first}, is {change}."
    power = f"with power {comparison.power:g}"
    seen = f" {one.n:,} questions show a difference of {one.visible:.3f} {power};" if one.visible else ""
    needed = f" one as large as this needs {one.needed:,}." if one.needed else ""
    more = f"{seen}{needed}".rstrip(";")
    return (
        f"No significant difference: {label}, {one.second} minus {one.first}, is {change}.{more}"
        f"{'' if not more or more.endswith('.') else '.'}"
    )


def _outages(comparison: Comparison) -> list[str]:
    found = []
    for run in comparison.runs:
        outages = sum(int(file.summary.get("num_outages") or 0) for file in run.sets.values())
        if outages:
            found.append(f"{outages} episodes of {run.name} ended in an outage and count as wrong.")
    return found
