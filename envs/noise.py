"""Noisy retrieval on purpose: some searches come back without what was looked for.

ZeroSearch (arXiv:2505.04588) trains against a search engine that gets noisier as training goes on. Its engine is a
language model that writes useful or noisy documents; here a noisy search is the real one with every passage left out
that supports the question or says one of its answers, its places taken by the hits that rank behind: hard negatives
for the very query. Whether a search is noisy follows from the episode's seed, the turn and the query's place in it, so
an episode meets the same noise whatever runs beside it.
"""

import random
from collections.abc import Awaitable, Callable, Sequence

from envs.actor import stable_seed
from envs.giveaway import gives_it_away
from envs.question import Question
from retrieval.passage import Hit

Search = Callable[[str, int], Awaitable[list[Hit]]]
DEPTH = 4
"""A noisy search asks for so many times as many hits as it may show."""


def is_noiseless(question: Question) -> bool:
    """True if nothing says what would help with a question: its noisy searches are its clean ones."""
    return not (
        question.supporting_ids or any(question.golden_answers) or any(any(hop.answers) for hop in question.hops)
    )


def noise_warnings(questions: Sequence[Question], what: str) -> tuple[str, ...]:
    """What noise does not do with these questions, in a line; `what` says in it which they are.

    Raises:
        ValueError: not one of them has supports or answers, so that there would be no noise at all.
    """
    lost = [question.id for question in questions if is_noiseless(question)]
    if questions and len(lost) == len(questions):
        raise ValueError(
            f"noise leaves out passages that support a question or say an answer, and none of the {len(questions)} "
            f"{what} has supporting_ids or answers, so that nothing would be left out: annotate them, or take the "
            "noise off"
        )
    if lost:
        told = f"{len(lost)} of {len(questions)} {what} (first: {lost[0]}) have neither supporting_ids nor answers"
        return (f"{told}: their noisy searches leave nothing out",)
    without = sum(not question.supporting_ids for question in questions)
    if without:
        return (
            f"{without} of {len(questions)} {what} have no supporting_ids: a noisy search leaves out what says an "
            "answer, and keeps a support that says none",
        )
    return ()


def without_evidence(hits: list[Hit], question: Question, k: int) -> list[Hit]:
    """The first `k` hits that give nothing away, ranked from 1 again; their scores stay."""
    kept = [hit for hit in hits if not gives_it_away(hit.passage, question)][:k]
    return [Hit(passage=hit.passage, score=hit.score, rank=rank) for rank, hit in enumerate(kept, start=1)]


def is_noisy(share: float, seed: int, turn: int, place: int) -> bool:
    """True for `share` of all searches: the draw is of the episode's seed, the turn, and the query's place in it."""
    return share > 0 and random.Random(stable_seed(seed, turn, place, "noise")).random() < share


def noise_line(share: float) -> str:
    """What noise figures were taken with, in words."""
    return f"{share:g} of the searches find nothing which helps"


def noisy_search(search: Search, question: Question) -> Search:
    """A search that finds nothing which helps with `question`; the faults of `search` pass through."""

    async def find(query: str, k: int) -> list[Hit]:
        return without_evidence(await search(query, DEPTH * k), question, k)

    return find
