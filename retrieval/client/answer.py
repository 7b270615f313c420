"""What a retrieval server's answer must look like before a client believes it."""

import json
import math
from typing import Any

from retrieval.corpus import DIALECTS as CORPUS_DIALECTS
from retrieval.passage import Hit, Passage, is_text
from retrieval.retriever import RetrievalError


class GarbledAnswer(RetrievalError):
    """The server answered 200 with something that is no answer to the question."""


class BrokenAnswer(RetrievalError):
    """The server answered 200 with something that is not even JSON: the next attempt may bring the whole of it."""


def decoded(content: bytes) -> Any:
    """The JSON of a body.

    Raises:
        BrokenAnswer: it is none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BrokenAnswer(f"the answer is not JSON ({error}): {start_of(content)}") from None


def hits_of(answer: Any, num_queries: int, k: int) -> list[list[Hit]]:
    """The hits of every query. Documents are `{id, title, text}` or Search-R1's `{id, contents}`.

    Raises:
        GarbledAnswer: a wrong number of lists, more than `k` hits, or a hit that is none.
    """
    lists = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(lists, list) or not all(isinstance(hits, list) for hits in lists):
        raise GarbledAnswer(f'the answer has no "result" with a list for every query: {start_of(answer)}')
    if len(lists) != num_queries:
        raise GarbledAnswer(f"the server answered {num_queries} queries with {len(lists)} lists of hits")
    longest = max(map(len, lists), default=0)
    if longest > k:
        raise GarbledAnswer(f"the server answered a query for {k} hits with {longest}")
    return [[_hit(row, rank) for rank, row in enumerate(hits, start=1)] for hits in lists]


def passages_of(answer: Any, num_ids: int) -> list[Passage | None]:
    """The documents of an `/access` answer, None where there is none.

    Raises:
        GarbledAnswer: a wrong number of them, or something that is no document.
    """
    rows = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or len(rows) != num_ids:
        raise GarbledAnswer(f"the answer does not hold {num_ids} documents: {start_of(answer)}")
    return [None if row is None else _passage(row) for row in rows]


def titled_passages_of(answer: Any, limit: int) -> list[Passage]:
    """The documents of an `/access` answer to one title.

    Raises:
        GarbledAnswer: no list of one list, more than `limit` documents, or something that is no document.
    """
    lists = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(lists, list) or len(lists) != 1 or not isinstance(lists[0], list):
        raise GarbledAnswer(f"the answer does not hold the documents of one title: {start_of(answer)}")
    [rows] = lists
    if len(rows) > limit:
        raise GarbledAnswer(f"the server answered a title for {limit} documents with {len(rows)}")
    return [_passage(row) for row in rows]


def checked_score(score: Any) -> float | None:
    """The score as a finite number; None if it is none."""
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    try:
        value = float(score)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def checked_passage(passage_id: Any, title: Any, text: Any) -> Passage | None:
    """The passage of three texts; None if one of them is none, or holds half a surrogate pair."""
    if all(isinstance(value, str) and is_text(value) for value in (passage_id, title, text)):
        return Passage(id=passage_id, title=title, text=text)
    return None


def start_of(value: Any) -> str:
    """The first characters of an answer, for a message."""
    try:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text[:200] + ("..." if len(text) > 200 else "")


def _hit(row: Any, rank: int) -> Hit:
    score = checked_score(row.get("score")) if isinstance(row, dict) else None
    if score is None:
        raise GarbledAnswer(f"a hit has no score: {start_of(row)}")
    return Hit(passage=_passage(row.get("document")), score=score, rank=rank)


def _passage(row: Any) -> Passage:
    if isinstance(row, dict):
        for keys, read in CORPUS_DIALECTS:
            if keys <= row.keys():
                id_, title, text = read(row)
                if isinstance(id_, int) and not isinstance(id_, bool):
                    id_ = str(id_)
                passage = checked_passage(id_, "" if title is None else title, text)
                if passage is not None:
                    return passage
    raise GarbledAnswer(f"a document is neither {{id, title, text}} nor {{id, contents}}: {start_of(row)}")
