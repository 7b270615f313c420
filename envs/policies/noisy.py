"""The noisy expert: the expert with named faults at given rates, as a cold start that leaves work for RL.

Every rate is a probability per action of the kind it applies to, and faults that exclude each other share one draw, so
a rate of .3 means three in ten. A fault that is impossible where it is drawn (repeating a query before there was one)
leaves the expert's own action. After a fault the expert goes on from where the episode stands, so recovering is
demonstrated too.
"""

import random
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.trajectory import Turn
from envs.policies.context import asked_queries, candidate_answers, names_in
from envs.policies.expert import ExpertPolicy, Plan
from envs.question import Question


def _rate(description: str) -> float:
    rate: float = Field(default=0.0, ge=0.0, le=1.0, description=description)
    return rate


class NoiseRates(BaseModel):
    """How often the demonstrator makes each fault; all 0 is the expert itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wrong_query: float = _rate("Of searches: asks about another entity of the context, or for another hop's relation.")
    repeated_query: float = _rate("Of searches after the first: asks an earlier query again.")
    early_answer: float = _rate("Of searches: answers instead, with something from the context.")
    endless_search: float = _rate("Of answers: searches on although every hop is found.")
    wrong_answer: float = _rate("Of answers: another name (or number) from the passages that were shown.")
    skipped_citation: float = _rate("Of answers with citations: cites nothing.")
    wrong_citation: float = _rate("Of answers with citations: cites another passage.")
    malformed_tag: float = _rate("Of all actions: opening and closing tag do not match, or the opening tag is missing.")
    empty_thought: float = _rate("Of all actions: thinks nothing.")
    wrong_statement: float = _rate("Of judgements and reflections, where the protocol has them: the opposite is said.")

    @model_validator(mode="after")
    def _check_across_fields(self) -> "NoiseRates":
        for names in (
            ("wrong_query", "repeated_query", "early_answer"),
            ("endless_search", "wrong_answer"),
            ("skipped_citation", "wrong_citation"),
        ):
            total = sum(getattr(self, name) for name in names)
            if total > 1.0 + 1e-9:
                raise ValueError(
                    f"{' + '.join(names)} is {total:.3g}: these faults exclude each other, so their rates may "
                    "add up to at most 1; lower one of them"
                )
        return self


class NoisyPolicy:
    """The expert with faults. Equal rng and episode give an equal action."""

    def __init__(self, expert: ExpertPolicy, rates: NoiseRates) -> None:
        self._expert = expert
        self._script = expert.script
        self.rates = rates

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The expert's next action, or a faulty one."""
        rates = self.rates
        # All draws are made before any is used: changing one rate leaves the other faults of an episode in place.
        malformed, thoughtless, of_search, of_answer, of_citation = (rng.random() for _ in range(5))
        plan = self._expert.plan(question, turns)
        if plan.query is not None:
            text = self._search(question, view, turns, plan, of_search, thoughtless < rates.empty_thought, rng)
        else:
            text = self._answer(
                question, view, turns, plan, of_answer, of_citation, thoughtless < rates.empty_thought, rng
            )
        return self._script.malformed(text, rng) if malformed < rates.malformed_tag else text

    def _search(
        self,
        question: Question,
        view: int,
        turns: Sequence[Turn],
        plan: Plan,
        draw: float,
        thoughtless: bool,
        rng: random.Random,
    ) -> str:
        rates = self.rates
        thought = "" if thoughtless else self._expert.search_thought(question, plan)
        query = plan.query or ""
        fault = _pick(draw, early=rates.early_answer, repeated=rates.repeated_query, wrong=rates.wrong_query)
        if fault == "early":
            thought = "" if thoughtless else self._expert.answer_thought(question, plan)
            citations = [seen.number for seen in plan.seen.values()][:1]
            return self._script.answer(thought, self._wrong_answer(question, view, plan, rng), citations)
        if fault == "repeated":
            query = rng.choice(asked_queries(turns) or [query])
        elif fault == "wrong":
            query = self._wrong_query(question, view, plan, rng)
        return self._script.search(thought, query)

    def _answer(
        self,
        question: Question,
        view: int,
        turns: Sequence[Turn],
        plan: Plan,
        draw: float,
        citation_draw: float,
        thoughtless: bool,
        rng: random.Random,
    ) -> str:
        rates = self.rates
        fault = _pick(draw, endless=rates.endless_search, wrong=rates.wrong_answer)
        if fault == "endless":
            hop = rng.randrange(len(question.hops))
            plan = Plan(hop=hop, query=None, answers=plan.answers, sub_questions=plan.sub_questions, seen=plan.seen)
            thought = "" if thoughtless else self._expert.search_thought(question, plan)
            return self._script.search(thought, self._wrong_query(question, view, plan, rng))
        thought = "" if thoughtless else self._expert.answer_thought(question, plan)
        answer = self._expert.answer(question, plan.seen)
        if fault == "wrong":
            answer = self._wrong_answer(question, view, plan, rng)
        citations = self._expert.citations(question, plan.seen)
        citation_fault = _pick(citation_draw, skipped=rates.skipped_citation, wrong=rates.wrong_citation)
        if citation_fault == "skipped":
            citations = []
        elif citation_fault == "wrong":
            others = [s.number for s in plan.seen.values() if s.number not in citations]
            citations = [rng.choice(others or [len(plan.seen) + 1])]
        return self._script.answer(thought, answer, citations)

    def _wrong_answer(self, question: Question, view: int, plan: Plan, rng: random.Random) -> str:
        golden = {answer.lower() for answer in question.golden_answers}
        candidates = candidate_answers(
            question.wording(view), plan.seen.values(), like=self._expert.answer(question, plan.seen)
        )
        return rng.choice([c for c in candidates if c.lower() not in golden] or ["unknown"])

    def _wrong_query(self, question: Question, view: int, plan: Plan, rng: random.Random) -> str:
        """The hop's sub-question about another entity, or another hop's question about this entity."""
        hop = plan.hop or 0
        sub_question = plan.sub_questions[hop] or question.hops[hop].question
        here = names_in(sub_question)
        elsewhere = dict.fromkeys(s.passage.title for s in plan.seen.values() if s.passage.title)
        for seen in plan.seen.values():
            elsewhere.update(dict.fromkeys(names_in(seen.passage.text)))
        elsewhere.update(dict.fromkeys(names_in(question.wording(view))))
        swaps = [sub_question.replace(here[-1], name) for name in elsewhere if name not in here] if here else []
        relations = [
            filled
            for i, other in enumerate(question.hops)
            if i != hop and here and (filled := _asked_of(other.question, here[-1])) != sub_question
        ]
        kinds = [choices for choices in (swaps, relations) if choices]
        return rng.choice(rng.choice(kinds)) if kinds else " ".join(here) or sub_question


def _asked_of(sub_question: str, name: str) -> str:
    """Another hop's question, asked of `name`."""
    filled = re.sub(r"#\d+", name, sub_question)
    names = names_in(sub_question)
    return filled.replace(names[-1], name) if filled == sub_question and names else filled


def _pick(draw: float, **rates: float) -> str | None:
    """The fault in whose share of [0, 1) the draw falls, or None."""
    for name, rate in rates.items():
        if draw < rate:
            return name
        draw -= rate
    return None
