"""A finished episode, token by token, and the unit in which trajectories travel.

The turns are the only storage: an action that the policy sampled, and the observation that FOLLOWS it. Everything else
(`token_ids`, `loss_mask`, `logprobs`, `turn_index`) is derived, so the mask can never disagree with the tokens.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.action import Action
from retrieval.passage import Hit

FinishReason = Literal[
    "answered", "no_answer", "turn_limit", "token_limit", "malformed", "retrieval_outage", "engine_failure", "cut"
]
FINISH_REASONS: tuple[FinishReason, ...] = (
    "answered",
    "no_answer",
    "turn_limit",
    "token_limit",
    "malformed",
    "retrieval_outage",
    "engine_failure",
    "cut",
)
"""How an episode can end. `cut`: the sampler ended it on purpose, as a branch's candidate that was not continued."""
NOT_THE_POLICYS_FAULT: frozenset[FinishReason] = frozenset({"retrieval_outage", "engine_failure"})

UnitKind = Literal["group", "paraphrase_set", "branch_tree"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call that was carried out. `status` is "ok", "empty" (no hits) or "error"; `latency_s` is wall time.

    The hits of `open` are the passages in the window that was opened, in the document's order and with score 0.
    """

    tool: str
    argument: str
    hits: tuple[Hit, ...]
    status: Literal["ok", "empty", "error"]
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A passage as the policy saw it: the number it stood under, and whether only a part of it was shown.

    A part is what the token budget left of it, or what stands of it in an opened window.
    """

    number: int
    passage_id: str
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One action and the observation after it (empty after the last action).

    `action_ids`, `action_logprobs` and `action_versions` (policy version per token) have equal length. Logprobs are
    the engine's processed ones, at the sampling temperature.
    """

    action_ids: tuple[int, ...]
    action_logprobs: tuple[float, ...]
    action_versions: tuple[int, ...]
    action: Action
    calls: tuple[ToolCall, ...] = ()
    shown: tuple[Shown, ...] = ()
    observation_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.action_ids) == len(self.action_logprobs) == len(self.action_versions):
            raise ValueError(
                f"a turn needs one logprob and one version per action token: {len(self.action_ids)} ids, "
                f"{len(self.action_logprobs)} logprobs, {len(self.action_versions)} versions"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One episode. `view` is the wording asked: 0 is the question's text, i > 0 its paraphrase i - 1.

    `group_id` names the trajectories that share a baseline; `sample` counts inside the group. `parent_id` and
    `fork_turn` are set on branches.
    """

    id: str
    question_id: str
    view: int = 0
    unit_id: str
    group_id: str
    parent_id: str | None = None
    fork_turn: int | None = None
    sample: int = 0
    prompt_ids: tuple[int, ...]
    turns: tuple[Turn, ...]
    finish_reason: FinishReason

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """Prompt, then every action and observation: `[num_tokens]`."""
        ids = list(self.prompt_ids)
        for turn in self.turns:
            ids.extend(turn.action_ids)
            ids.extend(turn.observation_ids)
        return np.asarray(ids, dtype=np.int64)

    @property
    def loss_mask(self) -> NDArray[np.int64]:
        """1 on sampled tokens, 0 on prompt and observations: `[num_tokens]`."""
        return (self.turn_index >= 0).astype(np.int64)

    @property
    def turn_index(self) -> NDArray[np.int64]:
        """The turn that sampled each token, -1 on prompt and observations: `[num_tokens]`."""
        index = [-1] * len(self.prompt_ids)
        for i, turn in enumerate(self.turns):
            index.extend([i] * len(turn.action_ids))
            index.extend([-1] * len(turn.observation_ids))
        return np.asarray(index, dtype=np.int64)

    @property
    def logprobs(self) -> NDArray[np.float64]:
        """The engine's logprob of each sampled token, 0 elsewhere: `[num_tokens]`."""
        values = [0.0] * len(self.prompt_ids)
        for turn in self.turns:
            values.extend(turn.action_logprobs)
            values.extend([0.0] * len(turn.observation_ids))
        return np.asarray(values, dtype=np.float64)

    @property
    def versions(self) -> NDArray[np.int64]:
        """The policy version that sampled each token, -1 on prompt and observations: `[num_tokens]`."""
        values = [-1] * len(self.prompt_ids)
        for turn in self.turns:
            values.extend(turn.action_versions)
            values.extend([-1] * len(turn.observation_ids))
        return np.asarray(values, dtype=np.int64)

    @property
    def num_turns(self) -> int:
        """Number of actions taken, invalid ones included."""
        return len(self.turns)

    @property
    def final_answer(self) -> str | None:
        """The answer of the last turn, or None if the episode ended without one."""
        return self.turns[-1].action.answer if self.turns and self.finish_reason == "answered" else None

    @property
    def num_searches(self) -> int:
        """Search calls that were carried out."""
        return sum(call.tool == "search" for turn in self.turns for call in turn.calls)

    @property
    def num_opens(self) -> int:
        """Documents that were opened or looked for, each window counted."""
        return sum(call.tool == "open" for turn in self.turns for call in turn.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Trajectories that no process may split: what a sampler yields, what rewards and credit receive."""

    kind: UnitKind
    trajectories: tuple[Trajectory, ...]

    @property
    def id(self) -> str:
        """The unit id that all its trajectories carry."""
        return self.trajectories[0].unit_id

    def __post_init__(self) -> None:
        ids = {t.unit_id for t in self.trajectories}
        if len(ids) != 1:
            raise ValueError(f"a unit holds trajectories of one unit_id, got {sorted(ids) or 'none'}")
