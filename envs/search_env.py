"""The search environment: what follows from what a policy sampled. It does no I/O and never waits.

One object plays one episode at a time: `reset` gives the prompt's ids, `act` takes a completion and says which calls
have to be carried out (searches, documents to open), `observe` takes their results and gives the ids to append. Whoever
drives it (`envs.episode`) samples, searches and opens in between. Nothing sampled is ever re-encoded: completions are
decoded only to be parsed, and observations are encoded once. Which condition ends an episode with which reason is a
table in docs/environment.md.
"""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from agent.action import Action, ToolRequest
from agent.chat import chat_template
from agent.engine import Completion
from agent.observation import Found, check_observation_budget, render_correction, render_observation
from agent.protocol import AgentProtocol, encode_prompt, parse_action
from agent.tools import OPEN, SEARCH, no_such_tool
from agent.trajectory import FinishReason, Shown, ToolCall, Turn
from envs.document_reader import DocumentReader
from envs.env_step import Finished as Finished
from envs.env_step import Pending as Pending
from envs.env_step import PendingAction
from envs.episode_limits import EpisodeLimits as EpisodeLimits


class SearchEnv:
    """One agent's search environment. Reusable: `reset` starts a new episode."""

    def __init__(self, protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, limits: EpisodeLimits) -> None:
        """Raises ValueError where `max_observation_tokens` cannot hold even the empty wrapper of the most calls that
        one action may make, or a window of `max_open_tokens`, and where the protocol needs a chat template that the
        tokenizer lacks.
        """
        self.protocol = protocol
        self.limits = limits
        self._tokenizer = tokenizer
        most_calls = limits.max_queries_per_turn if protocol.parallel else 1
        self._wrapper_tokens = [
            check_observation_budget(protocol, tokenizer, limits.max_observation_tokens, calls=calls)
            for calls in range(1, most_calls + 1)
        ]
        self._chat = chat_template(protocol, tokenizer) if protocol.tool_call is not None else None
        self._reader = DocumentReader(protocol, tokenizer, limits) if protocol.offers_open else None
        self._max_tokens = limits.max_trajectory_tokens
        self._clear(())

    def _clear(self, prompt_ids: tuple[int, ...]) -> None:
        self._prompt_ids = prompt_ids
        self._token_ids: list[int] = list(prompt_ids)
        self._turns: list[Turn] = []
        self._numbers: dict[str, int] = {}
        self._carried_out = {SEARCH: 0, OPEN: 0}
        self._pending: PendingAction | None = None
        self._finish_reason: FinishReason | None = None
        if self._reader is not None:
            self._reader.forget()

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

    def replay(self, turns: Sequence[Turn]) -> Pending | None:
        """Go on, after `reset`, from turns that were played before; nothing of them is encoded again.

        A last turn without an observation is pending: its calls are returned, and `observe` takes their results.

        Raises:
            RuntimeError: the episode has turns already.
            ValueError: an episode with these turns has ended.
        """
        if self._turns or self._pending is not None or not self._token_ids:
            raise RuntimeError("replay() follows reset()")
        for turn in turns:
            is_read, is_last = bool(turn.observation_ids), len(self._turns) + 1 == len(turns)
            self._token_ids.extend((*turn.action_ids, *turn.observation_ids))
            waits = is_last and turn.action.kind == "call" and not turn.calls
            if not (is_read or waits) or len(self._turns) + 1 >= self.limits.max_turns or self.max_new_tokens < 1:
                raise ValueError(f"nothing follows turn {len(self._turns)} of a prefix: its episode ended with it")
            if not is_read:
                self._pending = PendingAction.again(turn, self._allowed(turn.action.requests))
                return Pending(calls=self._pending.calls)
            self._turns.append(turn)
            for call in turn.calls:
                self._carried_out[call.tool] += 1
            if self.protocol.numbers == "trajectory":
                self._numbers.update((shown.passage_id, shown.number) for shown in turn.shown)
        return None

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
        text = self._decode(completion)
        action = self._check(parse_action(self.protocol, text, ended=completion.finish == "eos"), completion)
        tried_a_tool = self._chat is not None and any(tag[0] in text for _, tag in self.protocol.calls)
        reason = self._end_of(action, completion, shortened, tried_a_tool)
        if reason is not None:
            self._close(completion, action)
            return self._finish(reason)
        allowed = self._allowed(action.requests)
        self._pending = PendingAction(completion=completion, action=action, allowed=allowed, tried_a_tool=tried_a_tool)
        return Pending(calls=self._pending.calls)

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
        completion, action, calls = self._pending.completion, self._pending.action, self._pending.calls
        if len(results) != len(calls):
            raise ValueError(f"{len(calls)} calls are pending and {len(results)} results were given: give one for each")
        for call in calls:
            self._carried_out[call.tool] += 1
        shown: tuple[Shown, ...] = ()
        last_id = completion.token_ids[-1] if completion.token_ids else None
        if action.kind == "call":
            found, results = self._found(self._pending, results)
            observation = render_observation(
                self.protocol,
                self._tokenizer,
                found,
                numbers=self._numbers,
                max_tokens=min(self.limits.max_observation_tokens, self._room()),
                last_id=last_id,
            )
            ids, shown = observation.ids, observation.shown
            any_passage = any(result.hits for result in results)
            fits = bool(shown) or not any_passage or self._room() >= self.limits.max_observation_tokens
        else:
            as_tool = self._pending.tried_a_tool
            ids = render_correction(self.protocol, self._tokenizer, action.error, last_id=last_id, as_tool=as_tool)
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
            self._close(self._pending.completion, self._pending.action, tuple(results))
        self._finish(reason)

    def _decode(self, completion: Completion) -> str:
        ids = completion.token_ids
        ends = {self._tokenizer.eos_token_id}
        if self._chat is not None:  # a chat model may end its text with one of several tokens
            ends |= {*self._chat.markers, *self._tokenizer.all_special_ids}
        if completion.finish == "eos" and ids and ids[-1] in ends:
            ids = ids[:-1]
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _check(self, action: Action, completion: Completion) -> Action:
        """The action, or the invalid action that it is under this environment's rules."""
        error = None
        if self._chat is not None and not self._chat.markers.isdisjoint(completion.token_ids[:-1]):
            error = "a turn ends where it is ended; what follows may only be written by the environment"
        elif action.kind == "call":
            error = self._fault(action.requests)
        return action if error is None else Action(kind="invalid", thought=action.thought, error=error)

    def _fault(self, requests: tuple[ToolRequest, ...]) -> str | None:
        tools = self.protocol.tools
        unknown = sorted({request.tool for request in requests} - set(tools))
        if unknown:
            return no_such_tool(unknown[0], tools)
        most = self.limits.max_queries_per_turn
        if len(requests) > most:
            return f"{len(requests)} calls in one turn; at most {most} are allowed"
        longest = max((len(request.argument) for request in requests if request.tool == SEARCH), default=0)
        if longest > self.limits.max_query_chars:
            return f"the query has {longest} characters; at most {self.limits.max_query_chars} are allowed"
        if not requests or not all(request.argument.strip() for request in requests):
            return "the query is empty"
        return None

    def _end_of(
        self, action: Action, completion: Completion, shortened: bool, tried_a_tool: bool
    ) -> FinishReason | None:
        """Why the episode ends with this action, or None. The order of the rules is the table's in the docs."""
        if action.kind == "answer":
            return "answered"
        if action.kind == "invalid":
            if completion.finish == "length" and shortened:
                return "token_limit"
            if completion.finish == "eos" and not tried_a_tool:
                return "no_answer"
            if self.protocol.on_invalid == "end":
                return "malformed"
        if len(self._turns) + 1 >= self.limits.max_turns:
            return "turn_limit"
        if action.kind == "call" and self._wrapper_tokens[self._wrappers(action) - 1] > self._room():
            return "token_limit"
        return None

    def _wrappers(self, action: Action) -> int:
        """How many wrappers the observation of a call has: one, or one for each request where each has its message."""
        return len(action.requests) if self._chat is not None else 1

    def _allowed(self, requests: tuple[ToolRequest, ...]) -> tuple[bool, ...]:
        """For each request whether `max_searches` and `max_opens` still allow it; what they do not finds nothing."""
        limits = {SEARCH: self.limits.max_searches, OPEN: self.limits.max_opens}
        used = dict(self._carried_out)
        allowed = []
        for request in requests:
            limit = limits[request.tool]
            allowed.append(limit is None or used[request.tool] < limit)
            used[request.tool] += 1
        return tuple(allowed)

    def _found(self, pending: PendingAction, results: Sequence[ToolCall]) -> tuple[list[Found], tuple[ToolCall, ...]]:
        """What each request of an action brought, and the calls as they are kept: `open` with its window's passages."""
        found: list[Found] = []
        calls: list[ToolCall] = []
        remaining = iter(results)
        for request, allowed in zip(pending.action.requests, pending.allowed, strict=True):
            result = next(remaining) if allowed else None
            if request.tool == SEARCH or self._reader is None:
                found.append(result.hits if result is not None else ())
            else:
                window = self._reader.window(request.argument, result)
                found.append(window)
                if result is not None:
                    shown = {piece.passage.id for piece in window.pieces}
                    hits = tuple(hit for hit in result.hits if hit.passage.id in shown)
                    result = replace(result, hits=hits, status="ok" if hits else "empty")
            if result is not None:
                calls.append(result)
        return found, tuple(calls)

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
