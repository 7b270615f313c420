"""Several rankings of one corpus merged into one: reciprocal rank fusion, or a weighted sum of scores.

Every part is searched `depth` passages deep and the lists are merged, so a passage that each part ranks tolerably can
come before one that a single part likes. Ranks can be fused whatever the scores mean; scores of different kinds (BM25,
cosine) are first brought to the range 0 to 1, query by query.

>>> hybrid = HybridRetriever([open_index("bm25"), open_index("dense")])                      # doctest: +SKIP
>>> [hit.passage.title for hit in hybrid.search(["who painted the ceiling"], k=3)[0]]        # doctest: +SKIP
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal, Self, TypeVar

from retrieval.identity import identity_hash
from retrieval.passage import Hit, Passage
from retrieval.request import check_request
from retrieval.retriever import OpenRetriever, corpus_of
from retrieval.title import MAX_PASSAGES_PER_TITLE

Method = Literal["rrf", "weighted"]
Name = TypeVar("Name", bound=Hashable)
Ranking = Sequence[tuple[Name, float]]
"""Names and scores of one part's answer, best first."""


def reciprocal_ranks(ranking: Ranking[Name], rrf_k: float) -> list[float]:
    """1 / (rrf_k + rank) for every place of a ranking, ranks from 1 (Cormack, Clarke and Büttcher, SIGIR 2009)."""
    return [1.0 / (rrf_k + rank) for rank in range(1, len(ranking) + 1)]


def unit_scores(ranking: Ranking[Name]) -> list[float]:
    """The scores of a ranking moved and scaled to 0 (its worst) to 1 (its best); all 1 where they are equal."""
    scores = [score for _, score in ranking]
    if not scores:
        return []
    low, width = min(scores), max(scores) - min(scores)
    return [(score - low) / width if width > 0 else 1.0 for score in scores]


def fuse(
    rankings: Sequence[Ranking[Name]], weights: Sequence[float], points: Callable[[Ranking[Name]], list[float]]
) -> list[tuple[Name, float]]:
    """Merge rankings: each name gets the weighted sum of the points of its places, a ranking without it gives 0.

    `weights: [num_rankings]`. Best first. Equal sums are ordered by the place in the first ranking that has either of
    them, so the order depends on nothing else; the sums are exact (`math.fsum`), so equal ones are equal.

    >>> fuse([[("a", 9.0), ("b", 8.0)], [("b", 0.7), ("a", 0.6)]], [1, 1], unit_scores)
    [('a', 1.0), ('b', 1.0)]
    """
    earned: dict[Name, list[float]] = {}
    places: dict[Name, list[float]] = {}
    for part, (ranking, weight) in enumerate(zip(rankings, weights, strict=True)):
        for place, ((name, _), value) in enumerate(zip(ranking, points(ranking), strict=True)):
            earned.setdefault(name, []).append(weight * value)
            places.setdefault(name, [math.inf] * len(rankings))[part] = place
    totals = {name: math.fsum(values) for name, values in earned.items()}
    return sorted(totals.items(), key=lambda item: (-item[1], places[item[0]]))


class HybridRetriever:
    """Two or more retrievers over one corpus, searched and merged as one. Thread-safe where its parts are.

    Args:
        parts: retrievers over the same passages in the same order (equal `corpus_hash`), closed with the hybrid.
        method: `rrf` adds up weight / (rrf_k + rank); `weighted` adds up weight times the part's score, brought to 0
            to 1 over its `depth` hits of the query.
        weights: one positive number a part; None weighs them equally.
        rrf_k: how little the first ranks stand out; 60 is the paper's. Not used by `weighted`.
        depth: hits taken from each part, at least `k`. A passage below it in every part is not found.

    A hit's score is the fused one. Fewer than `k` hits come back only where the parts bring fewer between them.

    Raises:
        ValueError: fewer than two parts, parts over different or unknown corpora, or a setting out of its range.
    """

    def __init__(
        self,
        parts: Sequence[OpenRetriever],
        *,
        method: Method = "rrf",
        weights: Sequence[float] | None = None,
        rrf_k: float = 60,
        depth: int = 100,
    ) -> None:
        if len(parts) < 2:
            raise ValueError(f"a hybrid was given {len(parts)} part; it needs two or more indexes over one corpus")
        if method not in ("rrf", "weighted"):
            raise ValueError(f"method is {method!r}; choose rrf or weighted")
        weights = [1.0] * len(parts) if weights is None else [float(weight) for weight in weights]
        if len(weights) != len(parts):
            raise ValueError(f"there are {len(weights)} weights for {len(parts)} parts; give one weight for each part")
        if any(not math.isfinite(weight) or weight <= 0 for weight in weights):
            raise ValueError(
                f"weights are {weights}; each must be a number above 0 (leave out a part that should not count)"
            )
        if not math.isfinite(rrf_k) or rrf_k < 0:
            raise ValueError(f"rrf_k is {rrf_k}; it must be a number of at least 0 (60 is usual)")
        if depth < 1:
            raise ValueError(f"depth is {depth}; each part must give at least 1 hit (100 is usual)")
        self.parts = tuple(parts)
        self._corpus_hash = _one_corpus(self.parts)
        self._method, self._weights, self._rrf_k, self._depth = method, weights, float(rrf_k), depth

    @property
    def num_passages(self) -> int:
        """Number of passages in the corpus."""
        return self.parts[0].num_passages

    @property
    def prefix_depth(self) -> int:
        """Down to which depth the first `k` hits of a search are the search with `k`: what each part is asked for."""
        return self._depth

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers: corpus, method, weights, depth and the identity of every part."""
        settings: dict[str, Any] = {"method": self._method, "weights": self._weights, "depth": self._depth}
        if self._method == "rrf":
            settings["rrf_k"] = self._rrf_k
        made = {
            "kind": "hybrid",
            "backend": "hybrid",
            "corpus_hash": self._corpus_hash,
            "num_passages": self.num_passages,
            "settings": settings,
            "parts": [dict(part.identity) for part in self.parts],
        }
        return {**made, "index_hash": identity_hash(made)}

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, best first; equal scores in the order of the first part that has them.

        Raises:
            ValueError: `k` < 1 or larger than the corpus, or an empty query.
        """
        check_request(queries, k, self.num_passages)
        depth = min(max(self._depth, k), self.num_passages)
        answers = [part.search(queries, depth) for part in self.parts]
        return [self._merge([answer[i] for answer in answers], k) for i in range(len(queries))]

    def _merge(self, lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
        passages = {hit.passage.id: hit.passage for hits in reversed(lists) for hit in hits}
        rankings = [[(hit.passage.id, hit.score) for hit in hits] for hits in lists]
        fused = fuse(rankings, self._weights, self._points)[:k]
        return [
            Hit(passage=passages[name], score=score, rank=rank) for rank, (name, score) in enumerate(fused, start=1)
        ]

    def _points(self, ranking: Ranking[str]) -> list[float]:
        return reciprocal_ranks(ranking, self._rrf_k) if self._method == "rrf" else unit_scores(ranking)

    def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
        """
        return self.parts[0].get(passage_id)

    def __contains__(self, passage_id: object) -> bool:
        """True if the corpus has a passage with this id."""
        return passage_id in self.parts[0]

    def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has."""
        return self.parts[0].known_ids(passage_ids)

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title, as `Index.titled` gives them."""
        return self.parts[0].titled(title, limit=limit)

    @property
    def corpus(self) -> Sequence[Passage]:
        """The passages by row, where an index of the corpus is on this machine; else CorpusElsewhere."""
        return corpus_of(self.parts)

    def close(self) -> None:
        """Close every part."""
        for part in self.parts:
            part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _one_corpus(parts: Sequence[OpenRetriever]) -> str:
    """The corpus hash that all parts share."""
    hashes = [part.identity.get("corpus_hash") for part in parts]
    for number, found in enumerate(hashes, start=1):
        if not found:
            raise ValueError(
                f"part {number} of the hybrid does not say which corpus it searches (no corpus_hash); "
                "fuse indexes that were built here, or serve it with `waymark serve-index`"
            )
        if found != hashes[0]:
            raise ValueError(
                f"part {number} of the hybrid searches another corpus than part 1 ({found[:12]}... with "
                f"{parts[number - 1].num_passages} passages, {str(hashes[0])[:12]}... with {parts[0].num_passages}); "
                "build every part from the same corpus file"
            )
    return str(hashes[0])
