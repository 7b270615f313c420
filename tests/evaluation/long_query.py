"""A policy that asks for a whole essay first, then for what it was told to, and answers."""

import random
from collections.abc import Sequence

from agent.protocol import AgentProtocol
from agent.trajectory import Turn
from envs.policies.script import Script
from envs.question import Question

CHARACTERS = 9_000


class LongQueryPolicy:
    def __init__(self, protocol: AgentProtocol) -> None:
        self._script = Script(protocol)

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        if len(turns) < 2:
            return self._script.search("", question.text if turns else "x" * CHARACTERS)
        return self._script.answer("", "no idea", [])
