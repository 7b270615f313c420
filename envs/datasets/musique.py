"""MuSiQue's own files (`musique_ans_v1.0_dev.jsonl`, `musique_full_v1.0_...`) and its rows on the hub.

A support is a paragraph, named by its page's title (`envs.datasets.titles` finds the corpus's passage by title and
answer). `kind` is the form of the reasoning graph (`2hop`, `3hop1`, ...), which the id begins with. Questions that the
full set marks unanswerable have no golden answers, and the kind `unanswerable`.
"""

import re
from typing import Any

from envs.datasets.row_fields import distinct, id_of, text_of, texts_of
from envs.datasets.rows import Row
from envs.question import Hop, Question

_REFERENCE = re.compile(r"#(\d+)")
_GRAPH = re.compile(r"(\dhop\d?)__")


def parse_musique(row: Row, number: int) -> Question:
    """One row.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    id_ = id_of(row, "id", otherwise=f"musique-{number:05d}")
    title_of: dict[Any, str] = {}
    supports = []
    for place, paragraph in enumerate(row.get("paragraphs") or ()):
        if not isinstance(paragraph, dict):
            raise ValueError(f"paragraphs must be a list of objects, got {paragraph!r}")
        title = text_of(paragraph, "title")
        title_of[paragraph.get("idx", place)] = title
        if paragraph.get("is_supporting"):
            supports.append(title)
    steps = row.get("question_decomposition") or ()
    hops = []
    for place, step in enumerate(steps):
        if not isinstance(step, dict):
            raise ValueError(f"question_decomposition must be a list of objects, got {step!r}")
        question = text_of(step, "question")
        named = {int(found) - 1 for found in _REFERENCE.findall(question)}
        support = step.get("paragraph_support_idx")
        hops.append(
            Hop(
                question=question,
                answers=distinct(texts_of(step.get("answer"), "question_decomposition.answer")),
                supporting_id=title_of.get(support),
                depends_on=tuple(sorted(k for k in named if 0 <= k < place)),
            )
        )
    if not supports:
        supports = [hop.supporting_id for hop in hops if hop.supporting_id is not None]
    graph = _GRAPH.match(id_)
    answerable = row.get("answerable", True) is not False
    answers = (*texts_of(row.get("answer"), "answer"), *texts_of(row.get("answer_aliases"), "answer_aliases"))
    return Question(
        id=id_,
        text=text_of(row, "question"),
        golden_answers=distinct(answers) if answerable else (),
        kind=(graph[1] if graph else None) if answerable else "unanswerable",
        supporting_ids=distinct(supports),
        hops=tuple(hops),
    )
