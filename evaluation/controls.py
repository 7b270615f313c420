"""What a policy's figure must be compared with before it means anything.

A control changes one thing about an evaluation, a wrapper around the retriever or a limit, and leaves the policy alone:
`closed_book` (the retriever finds nothing: what the weights know), `random_retriever` (passages that have nothing to do
with the query: what guessing from text gains), `single_search` (one search and no document opened: what the question
alone finds). The oracle decomposition searches with the gold sub-questions filled in: what searching step by step can
find at best.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from agent.trajectory import Trajectory
from envs.question import Question
from envs.search_env import EpisodeLimits
from evaluation.metrics import Evaluation
from evaluation.retrieval_quality import Progress, evaluate_index
from evaluation.run import evaluate_policy
from retrieval.passage import Hit, Passage
from retrieval.request import check_request
from retrieval.retriever import CorpusElsewhere, Retriever, corpus_of

MAX_RANDOM_POOL = 100_000
"""Passages from which random ones are drawn; of a larger corpus a uniform sample of this size is kept."""


@dataclass(frozen=True)
class EmptyRetriever:
    """Finds nothing. Bad input is refused as by the retriever that it stands for."""

    inner: Retriever

    @property
    def num_passages(self) -> int:
        """Passages of the corpus that is kept from the policy."""
        return self.inner.num_passages

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """An empty list for every query."""
        check_request(queries, k, self.num_passages)
        return [[] for _ in queries]

    def open_document(self, key: str, limit: int) -> list[Passage]:
        """No document has this name."""
        del key, limit
        return []

    def get(self, passage_id: str) -> Passage:
        """The passage with this id (KeyError if unknown)."""
        return self.inner.get(passage_id)


@dataclass(frozen=True)
class RandomRetriever:
    """Finds passages drawn at random, the same for the same query and seed.

    Raises:
        CorpusElsewhere: the passages of `inner` are not on this machine.
    """

    inner: Retriever
    seed: int = 0
    prefix_depth: ClassVar[int] = 0
    """A deeper search draws anew."""
    pool: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids = _uniform_sample(corpus_of([self.inner]), MAX_RANDOM_POOL, self.seed)
        object.__setattr__(self, "pool", ids)

    @property
    def num_passages(self) -> int:
        """Passages of the corpus drawn from."""
        return self.inner.num_passages

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """`k` distinct random passages for every query, scores 1/rank."""
        check_request(queries, k, self.num_passages)
        return [
            [Hit(passage=passage, score=1.0 / rank, rank=rank) for rank, passage in enumerate(self._drawn(query, k), 1)]
            for query in queries
        ]

    def open_document(self, key: str, limit: int) -> list[Passage]:
        """One random passage, whatever the name."""
        del limit
        return self._drawn(f"open {key}", 1)

    def _drawn(self, key: str, k: int) -> list[Passage]:
        digest = hashlib.blake2b(f"{self.seed}/{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        rng = random.Random(int.from_bytes(digest, "big"))
        return [self.inner.get(id_) for id_ in rng.sample(self.pool, min(k, len(self.pool)))]

    def get(self, passage_id: str) -> Passage:
        """The passage with this id (KeyError if unknown)."""
        return self.inner.get(passage_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One thing changed: `retriever` wraps the index, `limits` are fields of `EpisodeLimits` replaced."""

    description: str
    retriever: Callable[[Retriever, int], Retriever] = lambda index, seed: index
    limits: Mapping[str, Any] = field(default_factory=dict)
    reads_corpus: bool = False

    def limits_of(self, limits: EpisodeLimits) -> EpisodeLimits:
        """The limits of the evaluation with this control's replaced."""
        return EpisodeLimits(**{**limits.model_dump(), **self.limits})


CONTROLS: dict[str, Control] = {
    "closed_book": Control(
        description="every search finds nothing", retriever=lambda index, seed: EmptyRetriever(index)
    ),
    "random_retriever": Control(
        description="every search finds random passages",
        retriever=lambda index, seed: RandomRetriever(index, seed),
        reads_corpus=True,
    ),
    "single_search": Control(
        description="searches after the first find nothing, and no document can be opened",
        limits={"max_searches": 1, "max_opens": 0},
    ),
}


async def evaluate_controls(
    questions: Sequence[Question],
    *,
    index: Retriever,
    limits: EpisodeLimits,
    names: Sequence[str] = tuple(CONTROLS),
    seed: int = 0,
    on_control: Callable[[str], None] | None = None,
    **settings: Any,
) -> dict[str, tuple[Evaluation, list[Trajectory]]]:
    """Evaluate a policy under each named control; `settings` are those of `evaluation.run.evaluate_policy`.

    Raises:
        ValueError: as `check_controls`, before anything is played.
    """
    check_controls(index, names)
    results = {}
    for name in names:
        if on_control is not None:
            on_control(name)
        control = CONTROLS[name]
        retriever = await asyncio.to_thread(control.retriever, index, seed)
        results[name] = await evaluate_policy(
            questions, retriever=retriever, limits=control.limits_of(limits), seed=seed, **settings
        )
    return results


def check_controls(index: Retriever, names: Sequence[str] = tuple(CONTROLS)) -> None:
    """See that these controls can be run over this retriever.

    Raises:
        ValueError: an unknown control, or one that draws passages from a corpus that is on a server.
    """
    unknown = sorted(set(names) - set(CONTROLS))
    if unknown:
        raise ValueError(f"unknown control {', '.join(unknown)}; there are {', '.join(CONTROLS)}")
    for name in names:
        try:
            if CONTROLS[name].reads_corpus:
                corpus_of([index])
        except CorpusElsewhere as error:
            raise CorpusElsewhere(
                f"the control {name} draws passages from the corpus, which is on a server that gives single ones only: "
                "name an index folder over the same corpus too (--corpus-index), or do without controls"
            ) from error


def oracle_decomposition(
    retriever: Retriever,
    questions: Sequence[Question],
    *,
    ks: Sequence[int] = (5, 10),
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """What searching can find at best, without any policy.

    Two summaries of `evaluation.retrieval_quality`: `single_search_with_question` (the question is the only query) and
    `oracle_decomposition` (every gold sub-question with the gold answers of earlier hops filled in; its `hop_recall@K`
    is the share of all hops whose support is among the first K). A summary is missing where the questions lack what it
    needs: supports for the first, decompositions for the second. A K larger than the corpus is left out.
    """
    depths = [k for k in ks if k <= retriever.num_passages]
    found: dict[str, dict[str, Any]] = {}
    if depths and any(question.supporting_ids for question in questions):
        quality = evaluate_index(retriever, questions, ks=depths, seed=seed, progress=progress)
        found["single_search_with_question"] = quality.summary
    if depths and any(hop.supporting_id is not None for question in questions for hop in question.hops):
        quality = evaluate_index(retriever, questions, ks=depths, stepwise=True, seed=seed, progress=progress)
        found["oracle_decomposition"] = quality.summary
    return found


def _uniform_sample(corpus: Sequence[Passage], size: int, seed: int) -> tuple[str, ...]:
    """Ids of `size` passages, every subset equally likely; all of them where fewer. Only these passages are read."""
    rows: Iterable[int] = range(len(corpus))
    if len(corpus) > size:
        rows = sorted(random.Random(seed).sample(range(len(corpus)), size))
    return tuple(corpus[row].id for row in rows)
