"""Retrievers that need no index: what they answer can be told from the query; they can be slow, and can fail."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from retrieval.passage import Hit, Passage
from retrieval.request import RequestError


class Panic(BaseException):
    """What a library written in Rust raises when it panics."""


class FakeRetriever:
    """Answers query `q` with passages 0, 1, 2 ... rotated by `len(q)`; `sleep:0.3` takes that long, `crash` fails."""

    def __init__(self, num_passages: int = 20) -> None:
        self.corpus = [
            Passage(id=f"p{i}", title=f"Title {i % 7}" if i % 5 else "", text=f"text of {i}")
            for i in range(num_passages)
        ]
        self.num_passages = num_passages
        self.identity = {"index_hash": "abc", "corpus_hash": "def", "backend": "fake", "settings": {"encoder": "tiny"}}
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.batches.append(list(queries))
        self.threads.add(threading.get_ident())
        for query in queries:
            if query.startswith("sleep:"):
                time.sleep(float(query.removeprefix("sleep:")))
            if query == "crash":
                raise OSError("the disk is gone")
            if query == "refuse":
                raise RequestError("not this one")
            if query == "broken":
                raise ValueError("operands could not be broadcast together")
            if query == "panic":
                raise Panic("index out of bounds")
        return [self.expected(query, k) for query in queries]

    def expected(self, query: str, k: int) -> list[Hit]:
        if query == "unknown":
            return []
        places = [(len(query) + i) % self.num_passages for i in range(k)]
        return [Hit(passage=self.corpus[place], score=10.0 - i, rank=i + 1) for i, place in enumerate(places)]

    def get(self, passage_id: str) -> Passage:
        for passage in self.corpus:
            if passage.id == passage_id:
                return passage
        raise KeyError(passage_id)

    def __contains__(self, passage_id: object) -> bool:
        return any(passage.id == passage_id for passage in self.corpus)

    def close(self) -> None:
        pass

    def __enter__(self) -> "FakeRetriever":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_fake(spec: Any) -> FakeRetriever:
    """An opener for `serve`; `spec` is the number of passages."""
    return FakeRetriever(int(spec))


def open_fake_with_a_long_name(spec: Any) -> FakeRetriever:
    """A backend of many characters, three bytes each, of which byte 512 of the words is not the last."""
    retriever = open_fake(spec)
    retriever.identity = retriever.identity | {"backend": "検索" * 500}
    return retriever
