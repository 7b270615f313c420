"""The interface of a reward.

A reward is a small object with a name, the annotations that it needs, and a call that scores one unit. It sees what
the policy saw (`Turn.shown`), the question's annotations, and passages by id through its context; never an optimiser.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from agent.trajectory import Unit
from envs.question import Question
from retrieval.passage import Passage
from rewards.score import Scores

Questions = Mapping[str, Question]
"""Questions keyed by their id."""


class PassageRows(Protocol):
    """A corpus by row: a list of passages, or `Index.corpus`, which reads them from disk as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Passage: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardContext:
    """What rewards may look up: a passage by id (KeyError if unknown), and the corpus to fit statistics on.

    `corpus()` raises `retrieval.retriever.CorpusElsewhere` where the passages are on a server. A reward that needs them
    calls it when it is made, so that such a run is refused before it begins.
    """

    passage: Callable[[str], Passage]
    corpus: Callable[[], PassageRows]


class Reward(Protocol):
    """Scores units. `name` is the key under which it is logged; `needs` names `Question` fields that must be there.

    It may have `needs_of_protocol`, a frozenset of `AgentProtocol` fields that must be truthy: tags, or marks, that it
    reads in what the policy writes.
    """

    name: str
    needs: frozenset[str]

    def __call__(self, unit: Unit, questions: Mapping[str, Question]) -> Scores:
        """Score every trajectory of a unit. `questions` is keyed by question id."""
        ...


@runtime_checkable
class StatefulReward(Protocol):
    """A reward that remembers something between units (a schedule, a moving average); saved with the checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, as JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


RewardFactory = Callable[..., Reward]
"""`factory(context, **params) -> Reward`: what a reward's name in a config resolves to."""


def finite_parameter(reward: str, parameter: str, value: float, *, minimum: float = 0.0) -> float:
    """`value` as a float, checked to be a finite number of at least `minimum`.

    Raises:
        ValueError: it is not; the message names reward and parameter.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < minimum:
        raise ValueError(f"reward {reward}: {parameter} must be a finite number >= {minimum:g}, got {value!r}")
    return float(value)


def whole_parameter(reward: str, parameter: str, value: int, *, minimum: int = 0) -> int:
    """`value`, checked to be a whole number of at least `minimum`; a fraction is refused, not rounded.

    Raises:
        ValueError: it is not; the message names reward and parameter.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"reward {reward}: {parameter} must be a whole number >= {minimum}, got {value!r}")
    return value


def share_parameter(reward: str, parameter: str, value: float) -> float:
    """`value` as a float, checked to be above 0 and at most 1, as what a share is compared with has to be.

    Raises:
        ValueError: it is not; the message names reward and parameter.
    """
    if (share := finite_parameter(reward, parameter, value)) == 0.0 or share > 1.0:
        raise ValueError(f"reward {reward}: {parameter} must be above 0 and at most 1, got {value!r}")
    return share
