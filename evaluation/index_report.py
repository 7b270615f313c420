"""What `evaluate-index` reports: one retriever's figures, or several beside each other with paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from envs.datasets import SupportCheck, check_supports_in
from envs.question import Question
from evaluation.coverage import corpus_coverage
from evaluation.report_parts import Table as FigureTable
from evaluation.retrieval_comparison import (
    RetrievalComparison,
    compare_retrievers,
    coverage_table,
    figures_of,
    paired_table,
    quality_table,
)
from evaluation.retrieval_quality import Progress
from evaluation.terminal_table import terminal_table, terminal_tables
from retrieval.ready import outage_told
from retrieval.retriever import OpenRetriever, corpus_of


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """The figures as JSON, and as tables for a terminal.

    `figures` of one retriever are its summary, what the corpus lacks and its identity. Of several they are `indexes`
    (one such object each, with `index`, its name), `comparisons` (the paired tests) and `same_corpus`.
    """

    comparison: RetrievalComparison
    figures: dict[str, Any]
    coverage: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]

    def print(self, console: Console) -> None:
        """Print the tables, and what was counted."""
        summaries = {name: quality.summary for name, quality in self.comparison.qualities.items()}
        if len(summaries) == 1:
            console.print(_figure_table(next(iter(summaries.values()))))
        else:
            _print_columns(quality_table(summaries), console)
            self._print_tests(console)
        if self.coverage:
            _print_columns(coverage_table(self.coverage, "Share of the questions for which the corpus holds"), console)
        counted = next(iter(summaries.values()))
        console.print(
            f"n = {counted['n']} questions, {counted['num_searches']} searches"
            f"{' (stepwise)' if counted['stepwise'] else ''}, {counted['not_annotated']} questions without annotation "
            "left out",
            highlight=False,
            soft_wrap=True,
        )

    def _print_tests(self, console: Console) -> None:
        """The paired tests of one pair after the other: two long names beside the figures would leave them no room."""
        console.print(Text("Paired randomisation tests", style="table.title"), overflow="fold")
        for pair in dict.fromkeys((test.first, test.second) for test in self.comparison.tests):
            console.print(Text(f"{pair[0]} minus {pair[1]}"), overflow="fold")
            tests = [test for test in self.comparison.tests if (test.first, test.second) == pair]
            console.print(terminal_table(paired_table(tests)))


def measure_retrievers(
    retrievers: Mapping[str, OpenRetriever],
    questions: Sequence[Question],
    *,
    ks: Sequence[int] = (5, 10),
    stepwise: bool = False,
    coverage: bool = False,
    progress: Progress | None = None,
) -> IndexReport:
    """Search every question with each retriever, compare with the gold supports, and look for what the corpus lacks.

    Raises:
        ValueError: as `evaluate_index`; a server does not answer; or `coverage` for a corpus that is on a server only.
    """
    corpora: dict[str, str] = {}
    identities: dict[str, dict[str, Any]] = {}
    covered: dict[str, dict[str, Any]] = {}
    checks: dict[str, SupportCheck] = {}
    for name, retriever in retrievers.items():
        with outage_told(name):
            identities[name] = _identity(retriever)
            corpora[name] = identities[name]["identity"].get("corpus_hash") or name
            if coverage and corpora[name] not in covered:
                covered[corpora[name]] = corpus_coverage(questions, corpus_of([retriever])).summary
            if corpora[name] not in checks:
                checks[corpora[name]] = check_supports_in(retriever, questions)
    comparison = compare_retrievers(retrievers, questions, ks=ks, stepwise=stepwise, progress=progress)
    entries = {
        name: {
            **quality.summary,
            **covered.get(corpora[name], {}),
            "missing_supports": len(checks[corpora[name]].missing),
            "missing_by_question": checks[corpora[name]].missing_by_question,
            **identities[name],
        }
        for name, quality in comparison.qualities.items()
    }
    warnings = [check.message() for check in checks.values() if not check.ok]
    if len(checks) > 1:
        warnings.append("the retrievers search different corpora; their figures compare corpora as well as retrieval")
    if len(entries) == 1:
        figures: dict[str, Any] = next(iter(entries.values()))
    else:
        figures = {
            "n": next(iter(comparison.qualities.values())).summary["n"],
            "stepwise": stepwise,
            "same_corpus": len(checks) == 1,
            "indexes": [{"index": name, **entry} for name, entry in entries.items()],
            "comparisons": comparison.tests_json(),
        }
    named = {next(name for name in corpora if corpora[name] == corpus): summary for corpus, summary in covered.items()}
    return IndexReport(comparison=comparison, figures=figures, coverage=named, warnings=tuple(warnings))


def _print_columns(table: FigureTable, console: Console) -> None:
    """A table by retriever, its title above it over the whole width."""
    if table.title:
        console.print(Text(table.title, style="table.title"), overflow="fold")
    for part in terminal_tables(table, console.width):
        console.print(part)


def _identity(retriever: OpenRetriever) -> dict[str, Any]:
    identity = dict(retriever.identity)
    return {"index_hash": identity.get("index_hash"), "backend": identity.get("backend"), "identity": identity}


def _figure_table(summary: Mapping[str, Any]) -> Table:
    table = Table("figure", "value", "95 % interval")
    for name in figures_of(summary):
        low, high = summary[f"{name}_low"], summary[f"{name}_high"]
        table.add_row(name, f"{summary[name]:.3f}", f"{low:.3f} to {high:.3f}")
    return table
