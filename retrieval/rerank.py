"""A second look at the best hits: a model that reads query and passage together puts them into a better order.

The first retriever finds, the scorer ranks: it is called once for all queries of a search, with every pair of query and
passage text. Any function from pairs to numbers is a scorer; `CrossEncoderScorer` is one over a sentence-transformers
CrossEncoder (Nogueira and Cho, 2019, arXiv:1901.04085).

>>> RerankingRetriever(open_index("bm25"), CrossEncoderScorer("my/cross-encoder"), depth=50)  # doctest: +SKIP
"""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from retrieval.hub import cached_folder
from retrieval.identity import identity_hash
from retrieval.model_fingerprint import model_identity
from retrieval.passage import Hit, Passage
from retrieval.request import check_request
from retrieval.retriever import OpenRetriever, corpus_of
from retrieval.title import MAX_PASSAGES_PER_TITLE

Scorer = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""Takes `(query, passage text)` pairs, gives one number a pair, higher is better. Must be thread-safe."""


class RerankingRetriever:
    """The best `depth` hits of `first` in the order of `scorer`. Thread-safe where both are.

    Args:
        first: the first stage, closed with the reranker.
        scorer: gives the new scores; a `CrossEncoderScorer`, or any function of that shape.
        depth: how many hits of each query are scored anew, at least `k`.

    A hit's score is the scorer's. Equal scores keep the first stage's order.

    Raises:
        ValueError: `depth` < 1.
    """

    def __init__(self, first: OpenRetriever, scorer: Scorer, depth: int = 50) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}; the reranker must see at least 1 hit of a query (50 is usual)")
        self.first = first
        self.scorer = scorer
        self._depth = depth

    @property
    def num_passages(self) -> int:
        """Number of passages in the corpus."""
        return self.first.num_passages

    @property
    def prefix_depth(self) -> int:
        """Down to which depth the first `k` hits of a search are the search with `k`: what is scored anew."""
        return self._depth

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers: the scorer, the depth and the identity of the first stage."""
        first = dict(self.first.identity)
        made = {
            "kind": "rerank",
            "backend": "rerank",
            "corpus_hash": first.get("corpus_hash"),
            "num_passages": self.num_passages,
            "settings": {"depth": self._depth, "scorer": _scorer_identity(self.scorer)},
            "parts": [first],
        }
        return {**made, "index_hash": identity_hash(made)}

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, best first; equal scores in the order of the first stage.

        Raises:
            ValueError: `k` < 1 or larger than the corpus, an empty query, or a scorer that gives a wrong number of
                scores or one that is not finite.
        """
        check_request(queries, k, self.num_passages)
        found = self.first.search(queries, min(max(self._depth, k), self.num_passages))
        pairs = [(query, hit.passage.contents) for query, hits in zip(queries, found, strict=True) for hit in hits]
        scores = [float(score) for score in self.scorer(pairs)] if pairs else []
        if len(scores) != len(pairs):
            raise ValueError(f"the scorer gave {len(scores)} scores for {len(pairs)} pairs; it must give one for each")
        for (query, text), score in zip(pairs, scores, strict=True):
            if not math.isfinite(score):
                raise ValueError(f"the scorer gave {score} for the query {query!r:.80} and the passage {text!r:.80}")
        given = iter(scores)
        return [_best([(next(given), hit) for hit in hits], k) for hits in found]

    def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
        """
        return self.first.get(passage_id)

    def __contains__(self, passage_id: object) -> bool:
        """True if the corpus has a passage with this id."""
        return passage_id in self.first

    def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has."""
        return self.first.known_ids(passage_ids)

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title, as `Index.titled` gives them."""
        return self.first.titled(title, limit=limit)

    @property
    def corpus(self) -> Sequence[Passage]:
        """The passages by row, where an index of the corpus is on this machine; else CorpusElsewhere."""
        return corpus_of([self.first])

    def close(self) -> None:
        """Close the first stage."""
        self.first.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CrossEncoderScorer:
    """Scores pairs with a sentence-transformers CrossEncoder. Thread-safe: one call at a time computes.

    The scores are the model's raw outputs (logits): a sigmoid over them would round good passages to the same 1.0.

    Args:
        model: a Hugging Face id or a folder, with one output (a relevance score).
        batch_size: pairs a forward pass.
        max_length: tokens a pair, longer ones are cut; None takes the model's own limit.
        device: `cpu`, `cuda`, ...; None takes a GPU where there is one.
        revision: commit or tag of a Hugging Face id.
        trust_remote_code: run code that comes with the model; off unless you say so.

    Raises:
        ValueError: sentence-transformers is not installed, the model has several outputs, or a size < 1.
        OSError: no such model.
    """

    def __init__(
        self,
        model: str,
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_length", max_length)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        try:
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise ValueError(f"reranking with a model needs `pip install 'waymark[dense]'` ({error})") from error
        import torch

        cached = cached_folder(str(model), revision)
        self._model = CrossEncoder(
            str(cached or model),
            device=device,
            revision=None if cached else revision,
            trust_remote_code=trust_remote_code,
            max_length=max_length,
            activation_fn=torch.nn.Identity(),
        )
        if self._model.num_labels != 1:
            raise ValueError(
                f"the cross-encoder {model} has {self._model.num_labels} outputs a pair; a reranker needs one with 1"
            )
        self._batch_size = batch_size
        self._lock = threading.Lock()
        commit = cached.name if cached else getattr(getattr(self._model, "config", None), "_commit_hash", None)
        self.identity = {**model_identity(str(model), revision, commit=commit), "max_length": max_length}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One raw score a pair."""
        if not pairs:
            return []
        with self._lock:  # fast tokenizers refuse to be used by two threads at once
            scores = self._model.predict(
                [list(pair) for pair in pairs], batch_size=self._batch_size, show_progress_bar=False
            )
        return [float(score) for score in scores]


def _best(scored: list[tuple[float, Hit]], k: int) -> list[Hit]:
    order = sorted(range(len(scored)), key=lambda place: (-scored[place][0], place))[:k]
    return [
        Hit(passage=scored[place][1].passage, score=scored[place][0], rank=rank)
        for rank, place in enumerate(order, start=1)
    ]


def _scorer_identity(scorer: Scorer) -> Any:
    """What a scorer says of itself; of one that says nothing its name."""
    named = getattr(scorer, "identity", None)
    if named is not None:
        return named
    kind = scorer if hasattr(scorer, "__qualname__") else type(scorer)
    return f"{kind.__module__}:{kind.__qualname__}"
