"""What follows an action in the search environment: the episode goes on with calls to carry out, or it is over."""

from dataclasses import dataclass
from typing import Self

from agent.action import Action, ToolRequest
from agent.engine import Completion
from agent.trajectory import FinishReason, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The episode goes on after `observe`. `calls` are to be carried out first; none after an invalid action."""

    calls: tuple[ToolRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The episode is over."""

    reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAction:
    """An action that waits for its observation; `allowed` tells for each of its requests whether it is carried out."""

    completion: Completion
    action: Action
    allowed: tuple[bool, ...]
    tried_a_tool: bool

    @property
    def calls(self) -> tuple[ToolRequest, ...]:
        """The requests that are carried out."""
        return tuple(r for r, allowed in zip(self.action.requests, self.allowed, strict=True) if allowed)

    @classmethod
    def again(cls, turn: Turn, allowed: tuple[bool, ...]) -> Self:
        """The call of a turn that was played before and has no observation yet."""
        completion = Completion(
            token_ids=turn.action_ids, logprobs=turn.action_logprobs, versions=turn.action_versions, finish="stop"
        )
        return cls(completion=completion, action=turn.action, allowed=allowed, tried_a_tool=False)
