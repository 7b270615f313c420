"""The closed-book guesser: answers at once, from a list, without having read anything.

What it scores is what can be had without a search: an answer list taken from the training questions shows how far a
policy gets by learning which answers are common.
"""

import random
from collections.abc import Iterable, Sequence

from agent.protocol import AgentProtocol
from agent.trajectory import Turn
from envs.policies.script import Script
from envs.question import Question


class ClosedBookPolicy:
    """Guesses one of `answers`; repeated ones are guessed more often."""

    def __init__(self, protocol: AgentProtocol, answers: Sequence[str]) -> None:
        """Raises ValueError for an empty list."""
        if not answers:
            raise ValueError("closed_book needs answers to guess from: give a list, for example answers_of(questions)")
        self._script = Script(protocol)
        self._answers = list(answers)

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """A guess."""
        return self._script.answer(None, rng.choice(self._answers), [])


def answers_of(questions: Iterable[Question]) -> list[str]:
    """The first golden answer of each question, repeats kept: what a guesser can learn from a training set."""
    return [question.golden_answers[0] for question in questions]
