"""Supports that a data set names by the title of a page, as the ids that a corpus has for it.

HotpotQA and 2WikiMultihopQA annotate pages, MuSiQue paragraphs of pages; none of them knows the ids of a corpus. A name
that the corpus has as an id is left alone. Any other is looked up as a title: where one passage carries it, that is the
support; where several do (a corpus of paragraphs), the one of them that says an answer of the hop, or of the question,
if there is exactly one. What stays open is counted and told, never guessed.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from envs.giveaway import gives_it_away
from envs.question import Question
from retrieval.passage import Passage
from retrieval.retriever import OpenRetriever

_LISTED = 3
_AT_ONCE = 8


def resolve_titles(index: OpenRetriever, questions: Sequence[Question]) -> tuple[list[Question], str | None]:
    """The questions with ids of `index` for titles, and a line about the titles that stay open (None where none does).

    Raises:
        RetrievalError: the retriever does not answer.
    """
    named = dict.fromkeys(name for question in questions for name in _names(question))
    known = index.known_ids(list(named))
    unknown = [name for name in named if name not in known]
    if not unknown:
        return list(questions), None
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # a server is asked for each title by itself
        pages = dict(zip(unknown, pool.map(index.titled, unknown), strict=True))
    if not any(pages.values()):
        return list(questions), None  # no titles at all: the check of supports says what is missing
    resolved = [_resolved(question, pages) for question in questions]
    still = [name for question in resolved for name in question.supporting_ids if pages.get(name)]
    if not still:
        return resolved, None
    first = ", ".join(repr(name) for name in still[:_LISTED])
    return resolved, (
        f"{len(still)} supports are named by a title that several passages carry (first: {first}), and none "
        "or several of them say the answer: they count as not found"
    )


def _names(question: Question) -> list[str]:
    hops = [hop.supporting_id for hop in question.hops if hop.supporting_id is not None]
    return [*question.supporting_ids, *hops]


def _resolved(question: Question, pages: dict[str, list[Passage]]) -> Question:
    of_hop: dict[str, str] = {}
    hops = []
    for hop in question.hops:
        support = hop.supporting_id
        if support is not None and pages.get(support):
            narrow = replace(question, supporting_ids=(), golden_answers=hop.answers, hops=())
            support = _passage(pages[support], narrow) or support
            of_hop.setdefault(hop.supporting_id or "", support)
        hops.append(replace(hop, supporting_id=support))
    whole = replace(question, supporting_ids=())
    ids = [
        of_hop.get(name) or (_passage(pages[name], whole) if pages.get(name) else None) or name
        for name in question.supporting_ids
    ]
    return replace(question, supporting_ids=tuple(dict.fromkeys(ids)), hops=tuple(hops))


def _passage(passages: Sequence[Passage], question: Question) -> str | None:
    if len(passages) == 1:
        return passages[0].id
    texts = [
        Passage(id=passage.id, title="", text=passage.text) for passage in passages
    ]  # the title is the same in all
    saying = [text.id for text in texts if gives_it_away(text, question)]
    return saying[0] if len(saying) == 1 else None
