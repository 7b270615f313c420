"""What a retrieval server's answer must look like before a client believes it."""

import json
import math
from typing import Any

from retrieval.corpus import DIALECTS as CORPUS_DIALECTS
from retrieval.passage import Hit, Passage
from retrieval.retriever import RetrievalError


class GarbledAnswer(RetrievalError):
    """The server answered 200 with something that is no answer to the question."""


def decoded(content: bytes) -> Any:
    """The JSON of a body.

    Raises:
        GarbledAnswer: it is none.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise GarbledAnswer(f"the answer is not JSON ({error}): {_start(content)}") from None


def hits_of(answer: Any, num_queries: int, k: int) -> list[list[Hit]]:
    """The hits of every query. Documents are `{id, title, text}` or Search-R1's `{id, contents}`.

    Raises:
        GarbledAnswer: a wrong number of lists, more than `k` hits, or a hit that is none.
    """
    lists = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(lists, list) or not all(isinstance(hits, list) for hits in lists):
        raise GarbledAnswer(f'the answer has no "result" with a list for every query: {_start(answer)}')
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
        raise GarbledAnswer(f"the answer does not hold {num_ids} documents: {_start(answer)}")
    return [None if row is None else _passage(row) for row in rows]


def titled_passages_of(answer: Any, limit: int) -> list[Passage]:
    """The documents of an `/access` answer to one title.

    Raises:
        GarbledAnswer: no list of one list, more than `limit` documents, or something that is no document.
    """
    lists = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(lists, list) or len(lists) != 1 or not isinstance(lists[0], list):
        raise GarbledAnswer(f"the answer does not hold the documents of one title: {_start(answer)}")
    [rows] = lists
    if len(rows) > limit:
        raise GarbledAnswer(f"the server answered a title for {limit} documents with {len(rows)}")
    return [_passage(row) for row in rows]


def _hit(row: Any, rank: int) -> Hit:
    score = row.get("score") if isinstance(row, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise GarbledAnswer(f"a hit has no score: {_start(row)}")
    return Hit(passage=_passage(row.get("document")), score=float(score), rank=rank)


def _passage(row: Any) -> Passage:
    if isinstance(row, dict):
        for keys, read in CORPUS_DIALECTS:
            if keys <= row.keys():
                id_, title, text = read(row)
                if isinstance(id_, int) and not isinstance(id_, bool):
                    id_ = str(id_)
                if isinstance(id_, str) and isinstance(text, str) and isinstance(title, str | None):
                    return Passage(id=id_, title=title or "", text=text)
    raise GarbledAnswer(f"a document is neither {{id, title, text}} nor {{id, contents}}: {_start(row)}")


def _start(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value, default=str)
    return text[:200] + ("..." if len(text) > 200 else "")
