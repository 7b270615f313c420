"""What a policy could reach at best with these questions, this corpus and this retriever, without asking any policy.

Three questions, each with an interval: does the corpus hold what is needed (coverage), is it found by searching (with
the question itself, or with the gold sub-questions one after the other), and does what is found say the answer? A
policy that answers only what it reads cannot be right more often than the answer is found; one that knows or reasons
can.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from envs.question import Question
from evaluation.coverage import CLOSED_ANSWERS, AnswerStrings, Words, corpus_coverage, words_of
from evaluation.pinned_controls import gold_queries
from evaluation.significance import bootstrap_interval
from retrieval.passage import Passage
from retrieval.retriever import CorpusElsewhere, OpenRetriever, Retriever, corpus_of

MAX_COVERED = 2_000_000
"""Passages of a corpus that is read whole for its coverage; it takes about a minute a million."""

_BATCH = 256


def answers_found(retriever: Retriever, questions: Sequence[Question], *, k: int, seed: int = 0) -> dict[str, Any]:
    """For `question_search`, `oracle_decomposition` and `oracle_passages` the share of questions whose answer is read.

    That is: a golden answer stands, as whole words after the normalisation of exact match, in one of the first `k` hits
    of the question, of one of its gold sub-questions, or in one of its gold supports. Each is a summary of `n`,
    `answer_found` with `_low` and `_high`, and `not_annotated`, the questions that lack what it needs. Questions whose
    answers are all yes or no, or are missing, do not count.
    """
    asked = [question for question in questions if _open_answers(question)]
    by_question = _hits(retriever, [[question.text] for question in asked], k)
    by_hop = _hits(retriever, [gold_queries(question) for question in asked], k)
    gold = [_supports(retriever, question) for question in asked]
    return {
        name: _summary(asked, read, seed)
        for name, read in (
            ("question_search", by_question),
            ("oracle_decomposition", by_hop),
            ("oracle_passages", gold),
        )
    }


def coverage_ceiling(index: OpenRetriever, questions: Sequence[Question], *, seed: int = 0) -> dict[str, Any]:
    """`evaluation.coverage` of the corpus, or `{"not_measured": why}` where it is on a server or too large."""
    if index.num_passages > MAX_COVERED:
        return {"not_measured": f"the corpus has {index.num_passages} passages, and {MAX_COVERED} are read at most"}
    try:
        corpus = corpus_of([index])
    except CorpusElsewhere:
        return {"not_measured": "the corpus is on a server; name an index folder over it (--corpus-index)"}
    return corpus_coverage(questions, corpus, seed=seed).summary


def _open_answers(question: Question) -> set[Words]:
    words = {words_of(answer) for answer in question.golden_answers}
    return {answer for answer in words if answer and answer not in {(closed,) for closed in CLOSED_ANSWERS}}


def _hits(retriever: Retriever, queries: Sequence[Sequence[str]], k: int) -> list[list[Passage] | None]:
    flat = [query for asked in queries for query in asked]
    depth = min(k, retriever.num_passages)
    found: list[list[Passage]] = []
    for start in range(0, len(flat), _BATCH):
        for hits in retriever.search(flat[start : start + _BATCH], depth):
            found.append([hit.passage for hit in hits])
    rest = iter(found)
    return [[passage for _ in asked for passage in next(rest)] if asked else None for asked in queries]


def _supports(retriever: Retriever, question: Question) -> list[Passage] | None:
    passages = []
    for passage_id in question.supporting_ids:
        try:
            passages.append(retriever.get(passage_id))
        except KeyError:
            continue
    return passages if question.supporting_ids else None


def _summary(questions: Sequence[Question], read: Iterable[list[Passage] | None], seed: int) -> dict[str, Any]:
    values = [
        float(_says(passages, _open_answers(question)))
        for question, passages in zip(questions, read, strict=True)
        if passages is not None
    ]
    low, high = bootstrap_interval(values, seed=seed)
    return {
        "n": len(values),
        "not_annotated": len(questions) - len(values),
        "answer_found": float(np.mean(values)) if values else None,
        "answer_found_low": low,
        "answer_found_high": high,
    }


def _says(passages: Sequence[Passage], answers: set[Words]) -> bool:
    strings = AnswerStrings(answers)
    return any(strings.found_in(passage) for passage in passages)
