"""The interface of a reward.

A reward is a small object with a name, the annotations that it needs, and a call that scores one unit. It sees what
the policy saw (`Turn.shown`), the question's annotations, and passages by id through its context; never an optimiser.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.trajectory import Unit
from envs.question import Question
from retrieval.passage import Passage
from rewards.score import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardContext:
    """What rewards may look up: a passage by id (KeyError if unknown), and the corpus to fit statistics on."""

    passage: Callable[[str], Passage]
    corpus: Callable[[], Sequence[Passage]]


class Reward(Protocol):
    """Scores units. `name` is the key under which it is logged; `needs` names `Question` fields that must be there."""

    name: str
    needs: frozenset[str]

    def __call__(self, unit: Unit, questions: Mapping[str, Question]) -> Scores:
        """Score every trajectory of a unit. `questions` is keyed by question id."""
        ...


RewardFactory = Callable[..., Reward]
"""`factory(context, **params) -> Reward`: what a reward's name in a config resolves to."""
