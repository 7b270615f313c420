"""The one interface every retrieval backend implements."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self, runtime_checkable

from retrieval.passage import Hit, Passage
from retrieval.title import MAX_PASSAGES_PER_TITLE


@runtime_checkable
class Retriever(Protocol):
    """Batched search over a fixed corpus. Implementations are thread-safe."""

    @property
    def num_passages(self) -> int:
        """Number of passages in the corpus."""
        ...

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, best first, equal scores by id.

        The id that breaks ties is that of bm25s and FAISS: the row in the corpus. So the first `k` of a deeper search
        are the search with `k`, and a passage keeps its place whatever it is called. In a corpus sorted by passage id
        the two orders are one. A retriever for which this holds down to some depth only has that depth as
        `prefix_depth` (0: never); a `MicroBatcher` then searches deeper ones by themselves.

        A query without a single known term gets an empty list. Fewer than `k` hits come back only where fewer
        passages have a positive score.

        Raises:
            ValueError: `k` < 1, or an empty query.
        """
        ...

    def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
        """
        ...


class OpenRetriever(Retriever, Protocol):
    """What `open_retriever` gives: it says what it is, and holds files or connections until it is closed."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the answers, as a JSON mapping: `index_hash`, `corpus_hash` (None where it is not known),
        `backend`, `settings`, and for a combination its parts in the same form.
        """
        ...

    def __contains__(self, passage_id: object) -> bool:
        """True if the corpus has a passage with this id."""
        ...

    def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has; over HTTP many go into one request."""
        ...

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title in corpus order; see `Index.titled`."""
        ...

    def close(self) -> None:
        """Give files and connections back; the retriever cannot be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class CorpusElsewhere(ValueError):
    """The passages are not on this machine, so they cannot be gone through."""


def corpus_of(retrievers: Sequence[Retriever]) -> Sequence[Passage]:
    """The passages by row, read from disk as they are asked for, of the first retriever that has them on this machine.

    Raises:
        CorpusElsewhere: none of them has; a server gives single passages only.
    """
    for retriever in retrievers:
        with suppress(AttributeError, CorpusElsewhere):  # a combination raises it where none of its parts has it
            corpus: Sequence[Passage] = retriever.corpus  # type: ignore[attr-defined]
            return corpus
    raise CorpusElsewhere("the corpus is on a server, which gives single passages only; name an index folder for this")


class RetrievalError(RuntimeError):
    """The retriever could not answer within its deadline and retries. Not the policy's fault."""
