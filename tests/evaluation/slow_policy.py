"""A policy that answers right after a while, and writes down whom it was asked."""

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

from agent.protocol import AgentProtocol
from agent.trajectory import Turn
from envs.policies.script import Script
from envs.question import Question


class SlowPolicy:
    """Takes 0.2 s to answer."""

    def __init__(self, protocol: AgentProtocol) -> None:
        self._script = Script(protocol)

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The golden answer."""
        with Path(os.environ["SLOW_POLICY_LOG"]).open("a") as log:
            log.write(f"{question.id}\n")
        time.sleep(0.2)
        return self._script.answer(None, question.golden_answers[0], [])
