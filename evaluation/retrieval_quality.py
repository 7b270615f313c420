"""How well an index finds the gold supports: with the question itself, or hop by hop.

One search per question shows what a single query can bring. Stepwise, every gold sub-question is searched with the gold
answers of earlier hops filled in: the most that an agent can gain by searching step by step with this index. Supports
that are not in the corpus count as not found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.policies.expert import fill_references
from envs.question import Question
from evaluation.ranking_measures import CUTOFF, ranking_measures
from evaluation.significance import Interval, bootstrap_interval
from retrieval.retriever import Retriever

FIELDS: dict[str, Callable[[Question], str | None]] = {
    "selection": lambda question: question.selection,
    "kind": lambda question: question.kind,
    "split": lambda question: question.split,
    "group": lambda question: question.split_group,
}
"""What questions can be selected by."""

_BATCH = 256
_RESAMPLES = 2000

Progress = Callable[[int, int], None]
"""Called as `(searches done, searches in all)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalQuality:
    """The figures of one index on one set of questions.

    Attributes:
        question_ids: the questions that count: `[num_questions]`.
        per_question: `recall_all@K`, `recall_mean@K`, `ndcg@10`, `mrr@10`, one number a question: `[num_questions]`.
        summary: the keys of `evaluate-index --json`, intervals included.
    """

    question_ids: tuple[str, ...]
    per_question: dict[str, NDArray[np.float64]]
    summary: dict[str, Any]


def select_questions(questions: Sequence[Question], where: Mapping[str, str]) -> list[Question]:
    """The questions whose fields have these values.

    Raises:
        ValueError: an unknown field, or no question left; the message lists what there is.
    """
    selected = list(questions)
    for name, value in where.items():
        if name not in FIELDS:
            raise ValueError(f"questions cannot be selected by {name!r}; choose one of {', '.join(FIELDS)}")
        matching = [question for question in selected if FIELDS[name](question) == value]
        if not matching:
            found = sorted({str(FIELDS[name](question)) for question in selected})
            raise ValueError(f"no question has {name}={value}; the values are {', '.join(found[:20])}")
        selected = matching
    return selected


def evaluate_index(
    retriever: Retriever,
    questions: Sequence[Question],
    *,
    ks: Sequence[int] = (5, 10),
    stepwise: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> RetrievalQuality:
    """Search every question, or every gold sub-question, and compare with the gold supports.

    Questions without annotated supports (stepwise: without a hop that has a support) do not count; the summary has how
    many as `not_annotated`. Summary keys, each figure with `_low` and `_high` (95 % bootstrap over questions):

    - `n`, `num_searches`;
    - `recall_all@K`: share of questions of which every support is among the first K hits; stepwise, of which every
      hop's support is among the first K hits of its own search;
    - `recall_mean@K`: share of a question's supports (stepwise: hops) that are found, averaged over questions;
    - `hop_recall@K` (stepwise): share of all hops that are found, each hop counting once;
    - `ndcg@10`, `mrr@10` by pytrec_eval, stepwise averaged over a question's hops first.

    Raises:
        ValueError: a K below 1 or larger than the corpus, or no annotated question.
    """
    depths = sorted(set(ks))
    if not depths:
        raise ValueError("no K was given; name at least one, for example 5,10")
    if depths[0] < 1:
        raise ValueError(f"K is {depths[0]}; ask for at least 1 hit")
    searches = [(question, _hop_searches(question) if stepwise else _search(question)) for question in questions]
    annotated = [(question, asked) for question, asked in searches if asked]
    if not annotated:
        wanted = "hops with answers and supports (decomposition)" if stepwise else "supporting_ids"
        raise ValueError(f"none of the {len(questions)} questions has {wanted}; this figure needs annotated questions")
    queries = [search.query for _, asked in annotated for search in asked]
    depth = max(depths[-1], min(CUTOFF, retriever.num_passages))
    rankings = _rankings(retriever, queries, depth, progress)
    sizes = np.asarray([len(asked) for _, asked in annotated])
    # One row a search, in order; the searches of a question stand together, `sizes` of them.
    golds = [search.gold for _, asked in annotated for search in asked]
    recalls = [[_recall(ranked, gold, k) for k in depths] for ranked, gold in zip(rankings, golds, strict=True)]
    measures = ranking_measures(rankings, golds)
    figures = np.column_stack([np.asarray(recalls), *measures.values()])
    starts = np.cumsum(sizes) - sizes
    sums = np.add.reduceat(figures, starts, axis=0)
    complete = np.minimum.reduceat(figures == 1, starts, axis=0)
    per_question: dict[str, NDArray[np.float64]] = {}
    for column, k in enumerate(depths):
        per_question[f"recall_all@{k}"] = complete[:, column].astype(np.float64)
        per_question[f"recall_mean@{k}"] = sums[:, column] / sizes
    for column, name in enumerate(measures, start=len(depths)):
        per_question[name] = sums[:, column] / sizes
    summary: dict[str, Any] = {
        "n": len(annotated),
        "not_annotated": len(searches) - len(annotated),
        "num_searches": len(queries),
        "stepwise": stepwise,
    }
    for name, values in per_question.items():
        _add(summary, name, float(values.mean()), bootstrap_interval(values, seed=seed))
    if stepwise:
        for column, k in enumerate(depths):
            interval = _ratio_interval(sums[:, column], sizes, seed)
            _add(summary, f"hop_recall@{k}", float(figures[:, column].mean()), interval)
    return RetrievalQuality(
        question_ids=tuple(question.id for question, _ in annotated), per_question=per_question, summary=summary
    )


@dataclass(frozen=True, slots=True)
class _Search:
    query: str
    gold: set[str]


def _recall(ranked: Sequence[str], gold: set[str], k: int) -> float:
    return len(gold.intersection(ranked[:k])) / len(gold)


def _search(question: Question) -> list[_Search]:
    return [_Search(question.text, set(question.supporting_ids))] if question.supporting_ids else []


def _hop_searches(question: Question) -> list[_Search]:
    """The hops that have a support, earlier gold answers filled in; a hop that lacks such answers is left out."""
    searches = []
    for i, hop in enumerate(question.hops):
        earlier = [before.answers[0] if before.answers else None for before in question.hops[:i]]
        query = fill_references(hop.question, earlier)
        if hop.supporting_id is not None and query is not None:
            searches.append(_Search(query, {hop.supporting_id}))
    return searches


def _rankings(retriever: Retriever, queries: Sequence[str], k: int, progress: Progress | None) -> list[list[str]]:
    rankings: list[list[str]] = []
    for start in range(0, len(queries), _BATCH):
        for hits in retriever.search(queries[start : start + _BATCH], k):
            rankings.append([hit.passage.id for hit in hits])
        if progress is not None:
            progress(len(rankings), len(queries))
    return rankings


def _ratio_interval(found: NDArray[np.float64], sizes: NDArray[np.int64], seed: int) -> Interval:
    """95 % bootstrap of sum(found) / sum(sizes), drawing whole questions: hops of one question are not independent."""
    rng = np.random.default_rng(seed)
    estimates = np.empty(_RESAMPLES)
    for i in range(_RESAMPLES):
        drawn = rng.integers(0, len(found), size=len(found))
        estimates[i] = found[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(estimates, [0.025, 0.975])
    return Interval(float(low), float(high))


def _add(summary: dict[str, Any], name: str, value: float, interval: Interval) -> None:
    summary[name] = value
    summary[f"{name}_low"], summary[f"{name}_high"] = interval
