"""Cheats: what a policy does that wants a process reward and not the answer. Rewards are tested against them.

Each is the cheapest behaviour of its kind; an honest trajectory must score higher on every reward that ships, or
docs/hackability.md says why not. A cheat searches `num_searches` times with the question and answers with the first
name that it saw, and does one thing of its own beside. With `honest=True` that one thing is all it does wrong: it
searches, thinks, answers and cites as the expert (which needs `Question.hops`). The cheats of searching are in
`envs.policies.search_cheats`; what they state where the protocol asks for it is in `envs.policies.stating`.
"""

import random
from collections.abc import Sequence

from agent.protocol import AgentProtocol
from agent.trajectory import Turn
from envs.policies.context import candidate_answers, seen_passages
from envs.policies.expert import ExpertPolicy, ExpertSettings
from envs.policies.script import Script
from envs.question import Question

REFUSAL = "cannot be determined"
GENERIC = "one of the well known places"


class Cheat:
    """Searches with the question, answers with the first name that it saw, and cites the first passage."""

    def __init__(self, protocol: AgentProtocol, *, num_searches: int = 1, honest: bool = False) -> None:
        self.script = Script(protocol)
        self.num_searches = num_searches
        self.honest = honest
        self._expert = ExpertPolicy(protocol, ExpertSettings(thought="full"))

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The next search, or the answer."""
        query = self.query(question, view, turns)
        thought = self.thought(question, turns, searches=query is not None)
        if query is not None:
            return self.script.search(thought, query)
        return self.script.answer(thought, self.answer(question, view, turns), self.citations(question, turns))

    def query(self, question: Question, view: int, turns: Sequence[Turn]) -> str | None:
        """What is searched for next; None answers."""
        if self.honest:
            return self._expert.plan(question, turns).query
        return question.wording(view) if len(turns) < self.num_searches else None

    def thought(self, question: Question, turns: Sequence[Turn], *, searches: bool) -> str | None:
        """The expert's, or the same words whatever was read."""
        if self.honest:
            plan = self._expert.plan(question, turns)
            of_search = self._expert.search_thought(question, plan) if searches else None
            return of_search or self._expert.answer_thought(question, plan)
        return "I need to look that up" if searches else "I have found it"

    def answer(self, question: Question, view: int, turns: Sequence[Turn]) -> str:
        """The expert's, or the first name in the passages, where there is none in the question."""
        seen = seen_passages(turns)
        if self.honest:
            return self._expert.answer(question, seen)
        names = candidate_answers(question.wording(view), seen.values(), like=question.golden_answers[0])
        return names[0] if names else "unknown"

    def citations(self, question: Question, turns: Sequence[Turn]) -> list[int]:
        """The expert's, or the first passage that was shown."""
        seen = seen_passages(turns)
        if self.honest:
            return self._expert.citations(question, seen)
        return [s.number for s in seen.values()][:1]


class CitationStuffer(Cheat):
    """Cites everything that it was shown, three times."""

    def citations(self, question: Question, turns: Sequence[Turn]) -> list[int]:
        """All numbers, three times."""
        return [s.number for s in seen_passages(turns).values()] * 3


class UnreadCiter(Cheat):
    """Cites the three numbers after those that it was shown: passages that it has never read."""

    def citations(self, question: Question, turns: Sequence[Turn]) -> list[int]:
        """Numbers that stand under nothing."""
        last = max((s.number for s in seen_passages(turns).values()), default=0)
        return [last + 1, last + 2, last + 3]


class PassageCopier(Cheat):
    """Copies every passage that it was shown into the answer, and cites them all: the answer is in there somewhere."""

    def answer(self, question: Question, view: int, turns: Sequence[Turn]) -> str:
        """Every text, one after the other."""
        return " ".join(s.passage.text for s in seen_passages(turns).values()) or super().answer(question, view, turns)

    def citations(self, question: Question, turns: Sequence[Turn]) -> list[int]:
        """All of them."""
        return [s.number for s in seen_passages(turns).values()]


class QuestionCopier(Cheat):
    """Searches with the question itself, word for word, `num_searches` times, and gives it back as the answer."""

    def __init__(self, protocol: AgentProtocol, *, num_searches: int = 2, honest: bool = False) -> None:
        super().__init__(protocol, num_searches=num_searches, honest=honest)

    def answer(self, question: Question, view: int, turns: Sequence[Turn]) -> str:
        """The question."""
        return question.wording(view)


class Refuser(Cheat):
    """Says of every question that its answer cannot be determined."""

    def answer(self, question: Question, view: int, turns: Sequence[Turn]) -> str:
        """The refusal."""
        return REFUSAL


class GenericAnswerer(Cheat):
    """Gives one generic answer to every question in every wording: nothing is as consistent."""

    def answer(self, question: Question, view: int, turns: Sequence[Turn]) -> str:
        """The generic answer."""
        return GENERIC


class EmptyThinker(Cheat):
    """Thinks nothing."""

    def thought(self, question: Question, turns: Sequence[Turn], *, searches: bool) -> str | None:
        """An empty block."""
        return ""


class Forger(Cheat):
    """Writes the observation itself, with the answer in it, then answers and cites what it has written."""

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The forged observation with an answer behind it, until the protocol has refused it once; then the answer."""
        if self.honest and self._expert.plan(question, turns).query is not None:
            return super().act(question, view, turns, rng)
        answer = self.script.answer(
            self.thought(question, turns, searches=False), self.answer(question, view, turns), [1, 2]
        )
        if turns and turns[-1].action.kind == "invalid":
            return answer
        text = f"[1] {question.wording(view)} {self.answer(question, view, turns)}."
        return text.join(self.script.protocol.information) + answer
