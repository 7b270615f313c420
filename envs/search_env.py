"""The search environment: what follows from what a policy sampled. It does no I/O and never waits.

One object plays one episode at a time: `reset` gives the prompt's ids, `act` takes a completion and says which searches
have to be carried out, `observe` takes their results and gives the ids to append. Whoever drives it (`envs.episode`)
samples and searches in between. Nothing sampled is ever re-encoded: completions are decoded only to be parsed, and
observations are encoded once. Which condition ends an episode with which reason is a table in docs/environment.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, model_validator
from transformers import PreTrainedTokenizerBase

from agent.action import Action, ToolRequest
from agent.engine import Completion
from agent.observation import check_observation_budget, render_correction, render_observation
from agent.protocol import AgentProtocol, encode_prompt, parse_action
from agent.trajectory import FinishReason, Shown, ToolCall, Turn

SEARCH = "search"
"""The one tool of this environment."""


class EpisodeLimits(BaseModel):
    """What one episode may cost. Defaults are the field's usual ones (Search-R1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_turns: int = Field(
        default=4, ge=1, description="Actions, the answer included; a search in the last is not run."
    )
    max_searches: int | None = Field(
        default=None,
        ge=0,
        description="Searches carried out; later ones find nothing. None: no limit but the turns.",
    )
    max_new_tokens_per_turn: int = Field(default=500, ge=1, description="Tokens sampled in one action.")
    max_trajectory_tokens: int = Field(default=4096, ge=2, description="Tokens of prompt, actions and observations.")
    max_observation_tokens: int = Field(default=500, ge=1, description="Tokens of one observation with its wrapper.")
    top_k: int = Field(default=3, ge=1, description="Passages per search.")
    max_queries_per_turn: int = Field(
        default=4, ge=1, description="Searches one action may ask for; more is an invalid action."
    )
    max_query_chars: int = Field(
        default=8192,
        ge=1,
        description="Characters of one query; a longer one is an invalid action, over an index as over a server.",
    )

    @model_validator(mode="after")
    def _check_across_fields(self) -> "EpisodeLimits":
        if self.max_new_tokens_per_turn >= self.max_trajectory_tokens:
            raise ValueError(
                f"max_new_tokens_per_turn={self.max_new_tokens_per_turn} leaves no token for the prompt in "
                f"max_trajectory_tokens={self.max_trajectory_tokens}: raise the second or lower the first"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The episode goes on after `observe`. `calls` are to be carried out first; none after an invalid action."""

    calls: tuple[ToolRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The episode is over."""

    reason: FinishReason


class SearchEnv:
    """One agent's search environment. Reusable: `reset` starts a new episode."""

    def __init__(self, protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, limits: EpisodeLimits) -> None:
        """Raises ValueError where `max_observation_tokens` cannot hold even the empty wrapper."""
        self.protocol = protocol
        self.limits = limits
        self._tokenizer = tokenizer
        self._wrapper_tokens = check_observation_budget(protocol, tokenizer, limits.max_observation_tokens)
        self._max_tokens = limits.max_trajectory_tokens
        self._clear(())

    def _clear(self, prompt_ids: tuple[int, ...]) -> None:
        self._prompt_ids = prompt_ids
        self._token_ids: list[int] = list(prompt_ids)
        self._turns: list[Turn] = []
        self._numbers: dict[str, int] = {}
        self._num_searches = 0
        self._pending: tuple[Completion, Action, tuple[ToolRequest, ...]] | None = None
        self._finish_reason: FinishReason | None = None

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Ids of the prompt alone."""
        return self._prompt_ids

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Everything so far: what the next action is sampled after."""
        return tuple(self._token_ids)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns that are complete."""
        return tuple(self._turns)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the episode ended, or None while it goes on."""
        return self._finish_reason

    @property
    def max_new_tokens(self) -> int:
        """Tokens that the next action may have: the per-turn cap, or what is left of the trajectory's."""
        return min(self.limits.max_new_tokens_per_turn, self._max_tokens - len(self._token_ids))

    def encode_prompt(self, question_text: str, *, context_window: int | None = None) -> tuple[int, ...]:
        """The ids of a question's prompt. `context_window` is the model's own limit, in tokens.

        Raises:
            ValueError: an empty question, or a prompt that leaves no room for a single token of an action.
        """
        ids = encode_prompt(self.protocol, question_text, self._tokenizer)
        limit, setting, remedy = self.limits.max_trajectory_tokens, "limits.max_trajectory_tokens", "Raise it"
        if context_window is not None and context_window < limit:
            limit, setting, remedy = context_window, "the model's context window", "Take a model with a longer window"
        if len(ids) >= limit:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, and {setting} is {limit}: no room is left for an action. {remedy}, "
                f"shorten the protocol's prompt, or leave out the question {question_text[:80]!r}"
            )
        return ids

    def reset(
        self, question_text: str, *, context_window: int | None = None, prompt_ids: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Start an episode; returns the prompt's ids.

        `prompt_ids` is what `encode_prompt` gave for the same question and window, if the caller has it.

        Raises:
            ValueError: as `encode_prompt`.
        """
        if prompt_ids is None:
            prompt_ids = self.encode_prompt(question_text, context_window=context_window)
        self._max_tokens = min(self.limits.max_trajectory_tokens, context_window or self.limits.max_trajectory_tokens)
        self._clear(prompt_ids)
        return prompt_ids

    def act(self, completion: Completion) -> Pending | Finished:
        """Take the policy's action. After `Pending` call `observe` with one ToolCall per pending call.

        Raises:
            RuntimeError: the episode is over, or the last action has not been observed.
        """
        if self._finish_reason is not None or self._pending is not None or not self._token_ids:
            raise RuntimeError(
                "act() needs a running episode whose last action was observed; call reset or observe first"
            )
        shortened = self.max_new_tokens < self.limits.max_new_tokens_per_turn
        self._token_ids.extend(completion.token_ids)
        action = self._check(parse_action(self.protocol, self._decode(completion)))
        reason = self._end_of(action, completion, shortened)
        if reason is not None:
            self._close(completion, action)
            return self._finish(reason)
        calls = self._allowed(action.requests) if action.kind == "call" else ()
        self._pending = (completion, action, calls)
        return Pending(calls=calls)

    def observe(self, results: Sequence[ToolCall]) -> tuple[int, ...]:
        """Append the observation of the pending action; returns its ids.

        They are empty, and `finish_reason` is `token_limit`, where no correction, or not a word of any passage, fits
        beside a whole next action.

        Raises:
            RuntimeError: no action is pending.
            ValueError: not one result per pending call.
        """
        if self._pending is None:
            raise RuntimeError("observe() follows an act() that returned Pending")
        completion, action, calls = self._pending
        if len(results) != len(calls):
            raise ValueError(
                f"{len(calls)} searches are pending and {len(results)} results were given: give one for each"
            )
        self._num_searches += len(calls)
        shown: tuple[Shown, ...] = ()
        if action.kind == "call":
            found = [result.hits for result in results]
            observation = render_observation(
                self.protocol,
                self._tokenizer,
                [*found, *([()] * (len(action.requests) - len(found)))],
                numbers=self._numbers,
                max_tokens=min(self.limits.max_observation_tokens, self._room()),
            )
            ids, shown = observation.ids, observation.shown
            fits = bool(shown) or not any(found) or self._room() >= self.limits.max_observation_tokens
        else:
            ids = render_correction(self.protocol, self._tokenizer, action.error)
            fits = len(ids) <= self._room()
        if not fits:
            self._close(completion, action, tuple(results))
            self._finish("token_limit")
            return ()
        self._close(completion, action, tuple(results), shown, ids)
        self._token_ids.extend(ids)
        return ids

    def abandon(self, reason: FinishReason, results: Sequence[ToolCall] = ()) -> None:
        """End the episode for a fault outside the policy; a pending action keeps the calls that were made."""
        if self._pending is not None:
            completion, action, _ = self._pending
            self._close(completion, action, tuple(results))
        self._finish(reason)

    def _decode(self, completion: Completion) -> str:
        ids = completion.token_ids
        if completion.finish == "eos" and ids and ids[-1] == self._tokenizer.eos_token_id:
            ids = ids[:-1]
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _check(self, action: Action) -> Action:
        """The action, or the invalid action that it is under this environment's rules."""
        if action.kind != "call":
            return action
        error = None
        unknown = sorted({request.tool for request in action.requests} - {SEARCH})
        if unknown:
            error = f"there is no tool {unknown[0]!r}; the only one is {SEARCH!r}"
        elif len(action.requests) > self.limits.max_queries_per_turn:
            error = (
                f"{len(action.requests)} queries in one turn; at most {self.limits.max_queries_per_turn} are allowed"
            )
        elif (longest := max((len(r.argument) for r in action.requests), default=0)) > self.limits.max_query_chars:
            error = f"the query has {longest} characters; at most {self.limits.max_query_chars} are allowed"
        elif not action.requests or not all(request.argument.strip() for request in action.requests):
            error = "the query is empty"
        return action if error is None else Action(kind="invalid", thought=action.thought, error=error)

    def _end_of(self, action: Action, completion: Completion, shortened: bool) -> FinishReason | None:
        """Why the episode ends with this action, or None. The order of the rules is the table's in the docs."""
        if action.kind == "answer":
            return "answered"
        if action.kind == "invalid":
            if completion.finish == "length" and shortened:
                return "token_limit"
            if completion.finish == "eos":
                return "no_answer"
            if self.protocol.on_invalid == "end":
                return "malformed"
        if len(self._turns) + 1 >= self.limits.max_turns:
            return "turn_limit"
        if action.kind == "call" and self._wrapper_tokens > self._room():
            return "token_limit"
        return None

    def _allowed(self, requests: tuple[ToolRequest, ...]) -> tuple[ToolRequest, ...]:
        """The requests that `max_searches` still allows; the rest finds nothing."""
        if self.limits.max_searches is None:
            return requests
        return requests[: max(0, self.limits.max_searches - self._num_searches)]

    def _room(self) -> int:
        """Tokens left once the next action has its full `max_new_tokens_per_turn`."""
        return self._max_tokens - len(self._token_ids) - self.limits.max_new_tokens_per_turn

    def _close(
        self,
        completion: Completion,
        action: Action,
        calls: tuple[ToolCall, ...] = (),
        shown: tuple[Shown, ...] = (),
        observation_ids: tuple[int, ...] = (),
    ) -> None:
        self._pending = None
        self._turns.append(
            Turn(
                action_ids=completion.token_ids,
                action_logprobs=completion.logprobs,
                action_versions=completion.versions,
                action=action,
                calls=calls,
                shown=shown,
                observation_ids=observation_ids,
            )
        )

    def _finish(self, reason: FinishReason) -> Finished:
        self._finish_reason = reason
        return Finished(reason=reason)
