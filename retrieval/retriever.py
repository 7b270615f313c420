"""The one interface every retrieval backend implements."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from retrieval.passage import Hit, Passage


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
        the two orders are one.

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


class RetrievalError(RuntimeError):
    """The retriever could not answer within its deadline and retries. Not the policy's fault."""
