"""Controls that decide what the policy's searches find, whatever it asks for: its queries are taken out of the figure.

`question_search` (the first search finds what the question itself finds), `oracle_decomposition` (the n-th search finds
what the n-th gold sub-question finds, earlier gold answers filled in) and `oracle_passages` (the first search finds the
gold supports). Later searches find nothing, and no document can be opened. What is left is what the policy makes of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envs.policies.expert import fill_references
from envs.question import Question
from envs.search_env import EpisodeLimits
from retrieval.passage import Hit
from retrieval.retriever import Retriever

Found = tuple[tuple[Hit, ...], ...]
"""What an episode's searches find, one after the other."""

_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedControl:
    """`pinned(retriever, questions, k)` gives what each question's searches find, None where it lacks what is needed.

    `needs` says in words what that is. With `shows_all` the limits are widened so that every passage pinned can be
    read.
    """

    description: str
    needs: str
    pinned: Callable[[Retriever, Sequence[Question], int], list[Found | None]]
    shows_all: bool = False

    def limits_of(self, limits: EpisodeLimits, questions: Sequence[Question]) -> EpisodeLimits:
        """The limits of the evaluation, without opening; with `shows_all`, wide enough for the most supports."""
        changed = {"max_opens": 0}
        if self.shows_all:
            most = max((len(question.supporting_ids) for question in questions), default=0)
            if most > limits.top_k:
                tokens = -(-limits.max_observation_tokens * most // limits.top_k)
                wider = tokens - limits.max_observation_tokens
                changed |= {"top_k": most, "max_observation_tokens": tokens}
                changed["max_trajectory_tokens"] = limits.max_trajectory_tokens + wider
        return EpisodeLimits(**{**limits.model_dump(), **changed})


def _of_question(retriever: Retriever, questions: Sequence[Question], k: int) -> list[Found | None]:
    hits = _search(retriever, [question.text for question in questions], k)
    return [(tuple(found),) for found in hits]


def _of_hops(retriever: Retriever, questions: Sequence[Question], k: int) -> list[Found | None]:
    queries = [gold_queries(question) for question in questions]
    hits = iter(_search(retriever, [query for asked in queries for query in asked], k))
    return [tuple(tuple(next(hits)) for _ in asked) if asked else None for asked in queries]


def _of_supports(retriever: Retriever, questions: Sequence[Question], k: int) -> list[Found | None]:
    del k
    found: list[Found | None] = []
    for question in questions:
        passages = []
        for passage_id in question.supporting_ids:
            try:
                passages.append(retriever.get(passage_id))
            except KeyError:
                break
        complete = passages and len(passages) == len(question.supporting_ids)
        hits = tuple(Hit(passage=passage, score=1.0 / rank, rank=rank) for rank, passage in enumerate(passages, 1))
        found.append((hits,) if complete else None)
    return found


def gold_queries(question: Question) -> list[str]:
    """The gold sub-questions in order, gold answers filled in; empty where a hop lacks what the next one needs."""
    queries = []
    for i, hop in enumerate(question.hops):
        earlier = [before.answers[0] if before.answers else None for before in question.hops[:i]]
        query = fill_references(hop.question, earlier)
        if query is None or not query.strip():
            return []
        queries.append(query)
    return queries


def _search(retriever: Retriever, queries: Sequence[str], k: int) -> list[list[Hit]]:
    hits: list[list[Hit]] = []
    for start in range(0, len(queries), _BATCH):
        hits += retriever.search(queries[start : start + _BATCH], k)
    return hits


PINNED_CONTROLS: Mapping[str, PinnedControl] = {
    "question_search": PinnedControl(
        description="the first search finds what the question itself finds, later ones find nothing",
        needs="a question",
        pinned=_of_question,
    ),
    "oracle_decomposition": PinnedControl(
        description="the n-th search finds what the n-th gold sub-question finds",
        needs="hops with answers (decomposition)",
        pinned=_of_hops,
    ),
    "oracle_passages": PinnedControl(
        description="the first search finds the gold supports",
        needs="supports that are in the corpus (supporting_ids)",
        pinned=_of_supports,
        shows_all=True,
    ),
}
"""By name; `evaluation.controls.CONTROLS` has those that change the retriever or a limit."""
