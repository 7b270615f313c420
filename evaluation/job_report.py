"""The report of one evaluation, and its tables: what the field's figures leave out, beside them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.consistency import consistency_line
from evaluation.controls import CONTROLS
from evaluation.examples import pick_examples
from evaluation.pinned_controls import PINNED_CONTROLS
from evaluation.report import retrieval_table
from evaluation.report_parts import Arm, Cell, Measure, Report, Table
from evaluation.run_sections import run_sections

if TYPE_CHECKING:
    from evaluation.job import JobResult

LABELS: Mapping[str, str] = {
    "support_em": "Supports cited exactly",
    "support_f1": "Support F1",
    "joint_em": "Joint exact match",
    "joint_f1": "Joint F1",
    "over_citation": "Over-citation",
    "abstention": "Abstention",
    "best_possible_em": "Best possible EM, given how episodes ended",
    "duplicate_searches_per_question": "Duplicate searches per question",
    "input_tokens_per_question": "Tokens in per question",
    "sampled_tokens_per_question": "Tokens out per question",
}
_PLAIN: Mapping[str, str] = {
    "search_s_p50": "Seconds of a search, median",
    "search_s_p99": "Seconds of a search, 99th percentile",
    "episode_s_p50": "Seconds of an episode, median",
    "episode_s_p99": "Seconds of an episode, 99th percentile",
    "boundary_f1": "Knowledge boundary F1",
    "boundary_known": "Known without searching",
    "boundary_unsearched": "Answered without searching",
}


def job_report(
    name: str, result: "JobResult", trajectories: Sequence[Trajectory], questions: Sequence[Question]
) -> Report:
    """The page of an evaluation."""
    summary = result.evaluation.summary
    lines = [] if result.figures.get("valid", True) else ["INVALID."]
    lines.append(
        f"{name} answers {_told(summary['em'])} of {summary['n']} questions exactly "
        f"(95 % interval {_told(summary['em_low'])} to {_told(summary['em_high'])})."
    )
    if told := outage_line(summary):
        lines.append(told)
    if result.consistency is not None:
        lines.append(consistency_line(result.consistency))
    lines.extend(result.warnings)
    described: dict[str, str] = {key: control.description for key, control in CONTROLS.items()}
    described |= {key: control.description for key, control in PINNED_CONTROLS.items()}
    notes = [f"Control {key}: {described[key]}." for key in result.controls]
    sections, columns = run_sections(result.evaluation, questions, trajectories)
    return Report(
        title=f"Evaluation of {name}",
        summary_lines=lines,
        arms=[Arm(name=name, final=summary)],
        controls=result.controls,
        tables=job_tables(result),
        sections=sections,
        per_question=columns,
        examples=pick_examples(trajectories, questions),
        comparability=result.comparability,
        notes=notes,
    )


def outage_line(summary: Mapping[str, Any]) -> str | None:
    """EM with and without outages, in words; None where there was none."""
    if not summary["num_outages"]:
        return None
    return (
        f"{summary['num_outages']} episodes ended in an outage of the retriever or engine and count as wrong; "
        f"without them EM is {_told(summary['em_without_outages'])}."
    )


def job_tables(result: "JobResult") -> list[Table]:
    """The tables beside the report's own."""
    tables = (
        _more_figures(result),
        _samples(result.figures),
        _by_turn(result.figures.get("recall_by_turn") or []),
        _ceilings(result.ceilings),
        retrieval_table(result.retrieval),
        _robustness(result.figures.get("robustness") or {}),
        _noise(result.figures.get("noise_curve") or []),
    )
    return [table for table in tables if table is not None]


def _told(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _measure(row: Mapping[str, Any], key: str) -> Measure:
    return Measure(value=row.get(key), low=row.get(f"{key}_low"), high=row.get(f"{key}_high"))


def _more_figures(result: "JobResult") -> Table | None:
    summary = result.evaluation.summary
    rows: list[list[Cell]] = [
        [label, _measure(summary, key)] for key, label in LABELS.items() if summary.get(key) is not None
    ]
    figures = {**result.figures, **result.figures.get("latency", {})}
    rows += [[label, figures[key]] for key, label in _PLAIN.items() if figures.get(key) is not None]
    return Table(title="Evidence and cost", columns=["", "mean"], rows=rows) if rows else None


def _samples(figures: Mapping[str, Any]) -> Table | None:
    keys = [key for key in figures if key.startswith(("pass@", "mean@")) and key[-1].isdigit()]
    rows: list[list[Cell]] = [[key, _measure(figures, key)] for key in keys]
    return Table(title="Several samples", columns=["", "share"], rows=rows) if rows else None


def _by_turn(turns: Sequence[Mapping[str, Any]]) -> Table | None:
    if not turns:
        return None
    return Table(
        title="Supports shown, turn by turn",
        columns=["search turn", "recall so far", "new in it", "episodes that have it"],
        rows=[[row["turn"], _measure(row, "recall"), row["new"], row["searching"]] for row in turns],
        note="An episode that ended earlier keeps what it had; the last row is the recall over the trajectory.",
    )


def _ceilings(ceilings: Mapping[str, Any]) -> Table | None:
    rows: list[list[Cell]] = []
    for name in ("question_search", "oracle_decomposition", "oracle_passages"):
        if name in ceilings:
            found = ceilings[name]
            told = _measure(found, "answer_found") if found["n"] else "not annotated"
            rows.append([f"the answer is read: {name.replace('_', ' ')}", found["n"], told])
    coverage = ceilings.get("coverage", {})
    labels = {"coverage_supports": "the corpus holds every support", "coverage_answers": "the corpus says the answer"}
    for key, label in labels.items():
        if coverage.get(key) is not None:
            rows.append([label, coverage[f"{key}_n"], _measure(coverage, key)])
    if "not_measured" in coverage:
        rows.append(["coverage of the corpus", "", f"not measured: {coverage['not_measured']}"])
    if not rows:
        return None
    return Table(
        title="What can be reached",
        columns=["ceiling", "questions", "share"],
        rows=rows,
        note="Without any policy. An answer is read where it stands, word for word, in a passage that is found.",
    )


def _robustness(changes: Mapping[str, Mapping[str, Any]]) -> Table | None:
    if not changes:
        return None
    return Table(
        title="One word of the first query changed",
        columns=["change", "right before", "of them lost", "of the wrong gained"],
        rows=[[name, row["num_right"], _measure(row, "lost"), row["gained"]] for name, row in changes.items()],
        note="RE-Searcher's study, with seeded changes; `any` is lost under at least one of them.",
    )


def _noise(curve: Sequence[Mapping[str, Any]]) -> Table | None:
    if not curve:
        return None
    return Table(
        title="Accuracy against noisy searches",
        columns=["share of noise", "exact match", "F1", "support recall"],
        rows=[[row["share"], *(_measure(row, key) for key in ("em", "f1", "support_recall"))] for row in curve],
    )
