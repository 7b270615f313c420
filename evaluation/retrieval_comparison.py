"""Several retrievers on the same questions: their figures, and which differences are more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from envs.question import Question
from evaluation.paired import PairedTest, paired_tests
from evaluation.report_parts import Cell, Measure, Table
from evaluation.retrieval_quality import Progress, RetrievalQuality, evaluate_index
from retrieval.ready import outage_told
from retrieval.retriever import Retriever


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalComparison:
    """The figures of each retriever by name, and the paired tests between them.

    `tests` has every pair of retrievers by `recall_all@K` for each K and by `ndcg@10`; p-values are corrected (Holm)
    over all of them. Empty for a single retriever.
    """

    qualities: dict[str, RetrievalQuality]
    tests: tuple[PairedTest, ...]

    def tests_json(self) -> list[dict[str, Any]]:
        """The tests as JSON objects."""
        return [asdict(test) for test in self.tests]


def compare_retrievers(
    retrievers: Mapping[str, Retriever],
    questions: Sequence[Question],
    *,
    ks: Sequence[int] = (5, 10),
    stepwise: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> RetrievalComparison:
    """Measure each retriever with `evaluate_index` on the same questions, and test every pair.

    `progress` is called as `(searches done, searches in all)`, over all retrievers.

    Raises:
        ValueError: as `evaluate_index`; no retriever; or a server that does not answer.
    """
    if not retrievers:
        raise ValueError("there is no retriever to measure; name at least one")
    qualities: dict[str, RetrievalQuality] = {}
    for place, (name, retriever) in enumerate(retrievers.items()):

        def report(done: int, total: int, before: int = place) -> None:
            if progress is not None:
                progress(before * total + done, len(retrievers) * total)

        with outage_told(name):
            qualities[name] = evaluate_index(retriever, questions, ks=ks, stepwise=stepwise, seed=seed, progress=report)
    values = {name: quality.per_question for name, quality in qualities.items()}
    measures = [*(f"recall_all@{k}" for k in sorted(set(ks))), "ndcg@10"]
    return RetrievalComparison(
        qualities=qualities, tests=tuple(paired_tests(values, measures, seed=seed) if len(values) > 1 else ())
    )


def figures_of(summary: Mapping[str, Any]) -> list[str]:
    """The names of a summary's figures that have an interval, in its order."""
    return [name.removesuffix("_low") for name in summary if name.endswith("_low")]


def quality_table(summaries: Mapping[str, Mapping[str, Any]], title: str = "") -> Table:
    """One row a figure, one column a retriever, intervals beside the numbers."""
    figures = figures_of(next(iter(summaries.values())))
    rows: list[list[Cell]] = [
        [figure, *(_measure(summary, figure) for summary in summaries.values())] for figure in figures
    ]
    return Table(title=title, columns=["figure", *summaries], rows=rows)


def paired_table(tests: Sequence[PairedTest], title: str = "") -> Table:
    """One row a test of one pair: the difference with its interval, and p with and without Holm's correction."""
    rows: list[list[Cell]] = [
        [test.measure, Measure(value=test.difference, low=test.low, high=test.high), _p(test.p), _p(test.p_holm)]
        for test in tests
    ]
    return Table(title=title, columns=["figure", "difference", "p", "p (Holm)"], rows=rows)


def coverage_table(summaries: Mapping[str, Mapping[str, Any]], title: str = "") -> Table:
    """One column a corpus, one row a share of its questions and one for how many those are, from summaries of
    `corpus_coverage`.
    """
    rows: list[list[Cell]] = []
    for label, name in (
        ("every support", "supports"),
        ("an answer", "answers"),
        ("an answer in a support", "answers_in_supports"),
    ):
        rows.append([label, *(_measure(summary, f"coverage_{name}") for summary in summaries.values())])
        rows.append(["  of so many questions", *(summary[f"coverage_{name}_n"] for summary in summaries.values())])
    return Table(title=title, columns=["corpus", *summaries], rows=rows)


def _measure(summary: Mapping[str, Any], name: str) -> Measure:
    return Measure(value=summary[name], low=summary[f"{name}_low"], high=summary[f"{name}_high"])


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"
