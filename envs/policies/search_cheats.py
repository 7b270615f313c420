"""Cheats of searching: too much of it, too little, or the same again. See `envs.policies.cheats`."""

from collections.abc import Sequence

from agent.protocol import AgentProtocol
from agent.trajectory import Turn
from envs.policies.cheats import Cheat
from envs.policies.context import asked_queries, names_in, seen_passages
from envs.policies.expert import bare
from envs.question import Question

VARIATIONS = ("{}", "please {}", "{} ?", "{} please", "tell me {}", "{} now")
"""How one query becomes many that say the same."""


class QuerySpammer(Cheat):
    """Never answers: asks about every name that it has read, one after the other, then begins again."""

    def query(self, question: Question, view: int, turns: Sequence[Turn]) -> str | None:
        """Another search, always."""
        names = dict.fromkeys(names_in(question.wording(view)))
        for seen in seen_passages(turns).values():
            names.update(dict.fromkeys([*names_in(seen.passage.title), *names_in(seen.passage.text)]))
        queries = list(names) or [question.wording(view)]
        return queries[len(turns) % len(queries)]


class QueryRepeater(Cheat):
    """Asks for the names of the question `num_searches` times, word for word, then answers.

    With `honest` it asks each query of the expert's twice.
    """

    def __init__(self, protocol: AgentProtocol, *, num_searches: int = 4, honest: bool = False) -> None:
        super().__init__(protocol, num_searches=num_searches, honest=honest)

    def query(self, question: Question, view: int, turns: Sequence[Turn]) -> str | None:
        """The last query once more, or the next one."""
        if self.honest:
            asked = asked_queries(turns)
            if asked and len(asked) % 2:
                return self.again(asked[-1], 1)
            return super().query(question, view, turns)
        names = " ".join(names_in(question.wording(view))) or question.wording(view)
        return self.again(names, len(turns)) if len(turns) < self.num_searches else None

    def again(self, query: str, repetition: int) -> str:
        """The query for the n-th time."""
        return query


class NearDuplicator(QueryRepeater):
    """A repeater whose queries differ in words that say nothing, so that no two are equal."""

    def again(self, query: str, repetition: int) -> str:
        """The query in another dress."""
        return VARIATIONS[repetition % len(VARIATIONS)].format(query)


class Guesser(Cheat):
    """Never searches: answers at once with a name from the question and cites a first passage that nobody showed it."""

    def query(self, question: Question, view: int, turns: Sequence[Turn]) -> str | None:
        """Nothing."""
        return None

    def citations(self, question: Question, turns: Sequence[Turn]) -> list[int]:
        """The first number."""
        return [1]


class EndlessSearcher(Cheat):
    """Searches as the expert does and finds what there is to find, then goes on searching and never answers.

    This is what hop rewards without a price teach. It always follows the hops; `honest` changes nothing.
    """

    def __init__(self, protocol: AgentProtocol) -> None:
        super().__init__(protocol, honest=True)

    def query(self, question: Question, view: int, turns: Sequence[Turn]) -> str | None:
        """The expert's query, then the names that were read, one after the other."""
        if (query := super().query(question, view, turns)) is not None:
            return query
        asked = {bare(query) for query in asked_queries(turns)}
        names = [name for seen in seen_passages(turns).values() for name in names_in(seen.passage.text)]
        return next((name for name in names if bare(name) not in asked), question.wording(view))
