"""The expert: it follows the gold hops, searches for each, and answers with what it read.

Everything it says can be read off its context by a policy that learns from it: the query is the hop's sub-question with
the answers found so far in place of `#1`, `#2`, ...; an answer is the wording that stands in a passage that was shown;
citations are the numbers under which the supporting passages were shown. It needs `Question.hops`.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.protocol import AgentProtocol
from agent.trajectory import Turn
from envs.policies.context import FUNCTION_WORD, SeenPassage, asked_queries, occurs_in, seen_passages
from envs.policies.script import Script
from envs.question import Hop, Question

_REFERENCE = re.compile(r"#(\d+)")
_WORD_CHARACTERS = re.compile(r"\w")


class ExpertSettings(BaseModel):
    """How the expert demonstrates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thought: Literal["none", "brief", "full"] = Field(
        default="brief", description="none: no words; brief: what is looked for, 2 to 5 words; full: a sentence."
    )
    max_queries_per_hop: int = Field(
        default=2,
        ge=1,
        description="Queries before it goes on without the hop's passage: sub-question, subject, relation.",
    )
    skip_seen_hops: bool = Field(
        default=False, description="Do not search for a hop whose passage an earlier search brought by chance."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the expert would do next: a query, or (None) the answer.

    `hop` is the hop searched for; `answers` are the hops' answers as they are known (None: not reached);
    `sub_questions` have known answers filled in (None: one is missing).
    """

    hop: int | None
    query: str | None
    answers: tuple[str | None, ...]
    sub_questions: tuple[str | None, ...]
    seen: dict[str, SeenPassage]


class ExpertPolicy:
    """Follows the gold hops."""

    def __init__(self, protocol: AgentProtocol, settings: ExpertSettings | None = None) -> None:
        self.script = Script(protocol)
        self.settings = settings or ExpertSettings()

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The next search, or the answer.

        Raises:
            ValueError: the question has no hops.
        """
        plan = self.plan(question, turns)
        if plan.query is not None:
            return self.script.search(self.search_thought(question, plan), plan.query)
        return self.script.answer(
            self.answer_thought(question, plan), self.answer(question, plan.seen), self.citations(question, plan.seen)
        )

    def spoken(self, question: Question) -> list[str]:
        """Every action of an episode in which each search finds its hop: what a tokenizer should have words for."""
        answers = [hop.answers[0] if hop.answers else None for hop in question.hops]
        sub_questions = tuple(fill_references(hop.question, answers) for hop in question.hops)
        actions = []
        for i, query in enumerate(sub_questions):
            if query is not None:
                plan = Plan(hop=i, query=query, answers=tuple(answers), sub_questions=sub_questions, seen={})
                actions.append(self.script.search(self.search_thought(question, plan), query))
        closing = self._closing(
            question, [answer for answer in answers if answer is not None], question.golden_answers[0]
        )
        citations = range(1, len(question.supporting_ids) + 1)
        actions.append(self.script.answer(closing, question.golden_answers[0], citations))
        if self.script.protocol.statements:
            goals = dict.fromkeys(relation_words(hop) for hop in question.hops)
            actions += [self.script.stated("", judgement=True, reflection=False, goal=goal) for goal in goals]
            actions.append(self.script.stated("", judgement=False, reflection=True))
        return actions

    def plan(self, question: Question, turns: Sequence[Turn]) -> Plan:
        """The next step, from the annotations and what has been shown."""
        if not question.hops:
            raise ValueError(
                f"question {question.id!r} has no hops, and the expert follows them: use questions with a "
                "decomposition (Question.hops), or the policy closed_book"
            )
        seen = seen_passages(turns)
        asked = {bare(query) for query in asked_queries(turns)}
        answers: list[str | None] = [None] * len(question.hops)
        sub_questions: list[str | None] = [None] * len(question.hops)
        step: tuple[int, str] | None = None
        for i, hop in enumerate(question.hops):
            sub_question = fill_references(hop.question, answers)
            if sub_question is None:
                continue
            sub_questions[i] = sub_question
            query = self._next_query(hop, sub_question, asked, seen)
            if query is None and hop.answers:
                answers[i] = surface_form(hop.answers, hop.supporting_id, seen)
            elif query is not None and step is None:
                step = (i, query)
        return Plan(
            hop=None if step is None else step[0],
            query=None if step is None else step[1],
            answers=tuple(answers),
            sub_questions=tuple(sub_questions),
            seen=seen,
        )

    def _next_query(self, hop: Hop, sub_question: str, asked: set[str], seen: dict[str, SeenPassage]) -> str | None:
        """The query to ask for this hop now, or None when it is found or given up."""
        queries = [sub_question]
        if hop.triple is not None:
            subject, relation, _ = hop.triple
            queries += [subject, f"{subject} {relation.replace('_', ' ')}"]
        queries = queries[: self.settings.max_queries_per_hop]
        untried = [query for query in queries if bare(query) not in asked]
        if is_found(hop, seen) and (len(untried) < len(queries) or self.settings.skip_seen_hops):
            return None
        return untried[0] if untried else None

    def answer(self, question: Question, seen: dict[str, SeenPassage]) -> str:
        """The golden answer in the wording that was read, or the first one."""
        last = question.hops[-1].supporting_id if question.hops else None
        return surface_form(question.golden_answers, last, seen)

    def citations(self, question: Question, seen: dict[str, SeenPassage]) -> list[int]:
        """Numbers of the supporting passages that were shown, in the order of the hops."""
        supports = [hop.supporting_id for hop in question.hops if hop.supporting_id is not None]
        ids = dict.fromkeys(supports or question.supporting_ids)
        return [seen[i].number for i in ids if i in seen]

    def search_thought(self, question: Question, plan: Plan) -> str | None:
        """What is looked for, in the style of the settings."""
        if self.settings.thought == "none" or plan.hop is None:
            return None
        if self.settings.thought == "full":
            return f"I need to find out: {plan.sub_questions[plan.hop]}"
        return f"find {relation_words(question.hops[plan.hop])}"

    def answer_thought(self, question: Question, plan: Plan) -> str | None:
        """That the search is over; where hops stand side by side, the answers that were read, to be compared."""
        passages = [seen.passage for seen in plan.seen.values()]
        read = [answer for answer in plan.answers if answer is not None and occurs_in(answer, passages)]
        return self._closing(question, read, self.answer(question, plan.seen))

    def _closing(self, question: Question, found: Sequence[str], answer: str) -> str | None:
        listed = " , ".join(dict.fromkeys(found))
        if self.settings.thought == "none":
            return None
        if self.settings.thought == "full":
            return f"I have found {listed or 'nothing'} so the answer is {answer} ."
        chain = all(hop.depends_on for hop in question.hops[1:])
        return "found all" if chain or not listed else f"found {listed}"


def fill_references(sub_question: str, answers: Sequence[str | None]) -> str | None:
    """`#k` replaced by the k-th answer (from 1); None where that is not known yet or does not exist."""
    missing = False

    def known(match: re.Match[str]) -> str:
        nonlocal missing
        k = int(match.group(1)) - 1
        answer = answers[k] if 0 <= k < len(answers) else None
        missing = missing or answer is None
        return answer or ""

    filled = _REFERENCE.sub(known, sub_question)
    return None if missing else filled


def bare(query: str) -> str:
    """A query without case, spaces and punctuation: a tokenizer may have moved those on the way through its ids."""
    return "".join(_WORD_CHARACTERS.findall(query)).lower()


def is_found(hop: Hop, seen: dict[str, SeenPassage]) -> bool:
    """True if the hop's support was shown; without an annotated support, if one of its answers stands in a passage."""
    if hop.supporting_id is not None:
        return hop.supporting_id in seen
    passages = [s.passage for s in seen.values()]
    return any(occurs_in(answer, passages) for answer in hop.answers)


def surface_form(answers: Sequence[str], supporting_id: str | None, seen: dict[str, SeenPassage]) -> str:
    """The answer as it stands in the supporting passage, else in any that was shown, else the first wording."""
    if supporting_id is not None and supporting_id in seen:
        for answer in answers:
            if occurs_in(answer, [seen[supporting_id].passage]):
                return answer
    passages = [s.passage for s in seen.values()]
    return next((answer for answer in answers if occurs_in(answer, passages)), answers[0])


def relation_words(hop: Hop) -> str:
    """What a hop asks for in at most four words: its relation, or the content words of its question less names."""
    if hop.triple is not None:
        return hop.triple[1].replace("_", " ")
    words = re.findall(r"(?<![#\w])[a-z][\w'-]*", hop.question)
    return " ".join([word for word in words if not FUNCTION_WORD.fullmatch(word)][:4])
