"""A retriever whose every hit is the query itself, and that can be held up or made to fail."""

from collections.abc import Callable, Sequence

from retrieval.passage import Hit, Passage
from retrieval.request import RequestError


class EchoRetriever:
    """Answers every query with one passage of that name; `before` may wait or raise first."""

    num_passages = 1000
    prefix_depth: int | None = None

    def __init__(self, before: Callable[[Sequence[str]], None] = lambda queries: None) -> None:
        self.batches: list[list[str]] = []
        self._before = before

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.batches.append(list(queries))
        if any(not query for query in queries):
            raise RequestError("query is empty")
        self._before(queries)
        return [[Hit(passage=Passage(id=query, title="", text=""), score=1.0, rank=1)] * k for query in queries]

    def get(self, passage_id: str) -> Passage:
        return Passage(id=passage_id, title="", text="")


def ids(hits: list[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]
