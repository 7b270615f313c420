"""A retriever that answers from a table: what the tests of everything built on top of retrievers search with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from retrieval.passage import Hit, Passage
from retrieval.request import check_request

PASSAGES = tuple(Passage(id=name, title=name.upper(), text=f"text of {name}") for name in "abcdefgh")


class ScriptedRetriever:
    """Gives the ids and scores that `answers` has for a query, nothing for another one."""

    def __init__(
        self,
        answers: Mapping[str, Sequence[tuple[str, float]]],
        *,
        corpus_hash: str | None = "0" * 64,
        passages: Sequence[Passage] = PASSAGES,
        has_corpus: bool = True,
    ) -> None:
        self._answers = answers
        self._corpus_hash = corpus_hash
        self._passages = {passage.id: passage for passage in passages}
        self.asked: list[tuple[list[str], int]] = []
        self.closed = False
        if has_corpus:
            self.corpus = passages

    @property
    def num_passages(self) -> int:
        return len(self._passages)

    @property
    def identity(self) -> dict[str, Any]:
        return {"backend": "scripted", "corpus_hash": self._corpus_hash, "index_hash": str(self._answers)}

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        check_request(queries, k, self.num_passages)
        self.asked.append((list(queries), k))
        return [
            [
                Hit(passage=self._passages[name], score=score, rank=rank)
                for rank, (name, score) in enumerate(self._answers.get(query, ())[:k], start=1)
            ]
            for query in queries
        ]

    def get(self, passage_id: str) -> Passage:
        return self._passages[passage_id]

    def __contains__(self, passage_id: object) -> bool:
        return passage_id in self._passages

    def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        return set(passage_ids) & self._passages.keys()

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
