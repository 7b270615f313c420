"""A component of the reward as a config states it, and the reward that it names."""

import difflib
import inspect
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from retrieval.retriever import CorpusElsewhere
from rewards.annotation import QUESTION_FIELDS
from rewards.gates import GATE_NEEDS, Gate
from rewards.registry import load_reward
from rewards.reward import Reward, RewardContext
from rewards.schedule import Schedule

_FACTORY = (
    "a reward is named by its factory, which takes (context, **params) and returns an object with `name`, `needs` (a "
    "frozenset of Question fields) and a call (unit, questions) -> Scores"
)


class RewardTerm(BaseModel):
    """One component of the reward, as a config states it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: str | None = Field(
        default=None, description="A built-in reward's name or `module:object`; default: the component's own name."
    )
    weight: float = Field(
        default=1.0, allow_inf_nan=False, description="Factor of the component; 0 logs it without training on it."
    )
    gate: tuple[Gate, ...] = Field(
        default=(), description="Gate, or gates of which all must be open; where one is closed the component is 0."
    )
    schedule: Schedule | None = Field(default=None, description="How the weight changes over the run; None: not.")
    params: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the reward.")
    allow_missing: bool = Field(
        default=False, description="Accept questions without the annotation that the reward needs; they score NaN."
    )

    @field_validator("gate", mode="before")
    @classmethod
    def _one_gate_is_a_list_of_one(cls, gate: Any) -> Any:
        if gate is None:
            return ()
        return (gate,) if isinstance(gate, str) else gate

    @field_validator("gate")
    @classmethod
    def _some_episode_opens_them_all(cls, gate: tuple[Gate, ...]) -> tuple[Gate, ...]:
        if "correct" in gate and (against := {"wrong", "em_first"}.intersection(gate)):
            raise ValueError(
                f"gates correct and {' and '.join(sorted(against))} are never open together, so that the component "
                "would always be 0; leave one out"
            )
        return gate

    def weight_at(self, step: int, total_steps: int | None) -> float:
        """The weight after `step` optimiser steps of a run."""
        return self.weight * self.factor_at(step, total_steps)

    def factor_at(self, step: int, total_steps: int | None) -> float:
        """The schedule's factor after `step` optimiser steps; 1 without a schedule."""
        return self.schedule.factor(step, total_steps) if self.schedule else 1.0

    @property
    def gate_needs(self) -> frozenset[str]:
        """`Question` fields that the gates need."""
        return frozenset().union(*(GATE_NEEDS[gate] for gate in self.gate))


def make_reward(name: str, term: RewardTerm, context: RewardContext) -> Reward:
    """The reward that a component names.

    Raises:
        ValueError: an unknown name, parameters that the reward does not take, or what is no reward.
        CorpusElsewhere: it reads the whole corpus, which is on a server.
        FileNotFoundError: a file that its parameters name is not there; the message names the component too.
    """
    reference = term.use or name
    factory = load_reward(reference)
    if not callable(factory):
        raise ValueError(f"rewards.{name}: {reference} is a {type(factory).__name__}; {_FACTORY}")
    signature = inspect.signature(factory)
    try:
        signature.bind(context, **term.params)
    except TypeError as error:
        raise ValueError(_misfit(name, reference, signature, error)) from None
    try:
        reward = factory(context, **term.params)
    except CorpusElsewhere as error:
        raise CorpusElsewhere(f"rewards.{name} reads the whole corpus. {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"rewards.{name}.params: {error}") from error
    if not callable(reward) or not isinstance(getattr(reward, "needs", None), frozenset | set):
        raise ValueError(f"rewards.{name}: {reference} made a {type(reward).__name__}, which is no reward; {_FACTORY}")
    unknown = sorted(reward.needs - QUESTION_FIELDS)
    if unknown:
        raise ValueError(f"rewards.{name}: {reference} needs {unknown}; a Question has {sorted(QUESTION_FIELDS)}")
    return reward


def _misfit(name: str, reference: str, signature: inspect.Signature, error: TypeError) -> str:
    """Why a factory cannot be called with a context and the parameters given."""
    parameters = list(signature.parameters.values())
    if "completions" in signature.parameters:
        return (
            f"rewards.{name}: {reference} takes completions, as TRL's reward functions do, and is no factory: name it "
            f"by {{use: rewards.adapters:trl_reward, params: {{function: {reference}, tokenizer: MODEL}}}}"
        )
    if not any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters):
        return f"rewards.{name}: {reference} does not take the context, its first argument; {_FACTORY}"
    names = [p.name for p in parameters[1:]]
    wrong = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    near = difflib.get_close_matches(wrong[1], names, n=1) if wrong else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"rewards.{name}.params: {error}{hint}; {reference} takes {', '.join(names) or 'no parameters'}"
