"""Cheats: what a policy does that wants a process reward and not the answer. Rewards are tested against them.

Each is the cheapest behaviour of its kind; an honest trajectory must score higher on every reward that ships.
"""

import random
from collections.abc import Sequence

from agent.protocol import AgentProtocol
from agent.trajectory import Turn
from envs.policies.context import candidate_answers, names_in, seen_passages
from envs.policies.script import Script
from envs.question import Question


class CitationStuffer:
    """Searches once with the question, answers with the first name that it saw, and cites everything, three times."""

    def __init__(self, protocol: AgentProtocol) -> None:
        self._script = Script(protocol)

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """One search, then the stuffed answer."""
        if not turns:
            return self._script.search(None, question.wording(view))
        seen = seen_passages(turns)
        names = candidate_answers(question.wording(view), seen.values(), like=question.golden_answers[0])
        return self._script.answer(None, names[0] if names else "unknown", [s.number for s in seen.values()] * 3)


class QuerySpammer:
    """Never answers: asks about every name that it has read, one after the other, then begins again."""

    def __init__(self, protocol: AgentProtocol) -> None:
        self._script = Script(protocol)

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """Another search, always."""
        names = dict.fromkeys(names_in(question.wording(view)))
        for seen in seen_passages(turns).values():
            names.update(dict.fromkeys([*names_in(seen.passage.title), *names_in(seen.passage.text)]))
        queries = list(names) or [question.wording(view)]
        return self._script.search(None, queries[len(turns) % len(queries)])


class QuestionCopier:
    """Searches with the question itself, word for word, `num_searches` times, and gives it back as the answer."""

    def __init__(self, protocol: AgentProtocol, *, num_searches: int = 2) -> None:
        self._script = Script(protocol)
        self._num_searches = num_searches

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The question, as query or as answer."""
        if len(turns) < self._num_searches:
            return self._script.search(None, question.wording(view))
        numbers = [s.number for s in seen_passages(turns).values()]
        return self._script.answer(None, question.wording(view), numbers[:1])
