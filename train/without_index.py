"""What can be refused of a run before its index, its questions and its policy are there.

Protocol, estimator and rewards are made as the run will make them, in a context without a corpus. A reward of a user's
own may ask for it as it is made: such a run is checked as far as that, and whole when it is assembled.
"""

from typing import NoReturn

from agent.protocols.registry import load_protocol
from retrieval.passage import Passage
from rewards.compose import build_rewards
from rewards.reward import RewardContext
from train.assembly import check_parts
from train.config import TrainConfig
from train.credit import load_estimator


class _NoIndexYet(Exception):
    """A reward asked for what is not there yet."""


class _NoPassages:
    def __len__(self) -> int:
        raise _NoIndexYet

    def __getitem__(self, row: int, /) -> Passage:
        raise _NoIndexYet


def check_without_index(config: TrainConfig) -> None:
    """See that protocol, estimator and rewards can be made, and fit each other.

    Raises:
        ValueError: (or a subclass) a name, a parameter or a combination that cannot be, as `assemble` says it.
    """
    load_protocol(config.protocol.name, **config.protocol.overrides)
    estimator = load_estimator(config.credit.estimator, **config.credit.params)
    context = RewardContext(passage=_no_passage, corpus=_NoPassages)
    try:
        rewards = build_rewards(config.rewards, context, rule=config.composition.rule, total_steps=config.planned_steps)
        check_parts(config, rewards, estimator)
    except _NoIndexYet:
        return


def _no_passage(_: str) -> NoReturn:
    raise _NoIndexYet
