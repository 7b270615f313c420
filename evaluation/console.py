"""What a person sees of an evaluation on a terminal: the tables of the report, and how the episodes ended."""

from rich.console import Console

from envs.noise import noise_line
from evaluation.consistency import consistency_line
from evaluation.job import JobResult
from evaluation.job_report import job_tables, outage_line
from evaluation.report import controls_table, evaluation_table
from evaluation.report_parts import Arm
from evaluation.suite_job import SuiteResult
from evaluation.terminal_table import terminal_table


def print_suite(result: SuiteResult, console: Console) -> None:
    """Print the figures of every set of a suite, and their means."""
    console.print(terminal_table(result.table()))


def print_result(result: JobResult, console: Console) -> None:
    """Print the figures with their intervals, the controls beside them, and where the report lies."""
    summary = result.evaluation.summary
    tables = [evaluation_table([Arm(name="mean", final=summary)])]
    if result.controls:
        tables.append(controls_table({"none": summary, **result.controls}))
    for table in (*tables, *job_tables(result)):
        if table is not None:
            console.print(terminal_table(table))
    if told := outage_line(summary):
        console.print(told, soft_wrap=True, highlight=False)
    if result.noise:
        console.print(f"noise: {noise_line(result.noise)}; the controls have none", soft_wrap=True, highlight=False)
    if result.consistency is not None:
        console.print(consistency_line(result.consistency), soft_wrap=True, highlight=False)
    ended = [f"{reason} {count}" for reason, count in result.evaluation.finish_reasons.items() if count]
    console.print(f"episodes ended: {', '.join(ended)}", highlight=False)
    console.print(f"report: {result.report}", soft_wrap=True, highlight=False, markup=False)
