"""Who acts in an episode: an engine that samples a policy, or a scripted policy.

Both get an `ActionRequest` and return a `Completion`, so an episode never knows which of them it drives. Seeds are
derived from names, not from order, so that an episode samples the same whatever runs beside it.
"""

import asyncio
import hashlib
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from transformers import PreTrainedTokenizerBase

from agent.engine import Completion, Engine, EngineError, SamplingParams
from agent.trajectory import Turn
from envs.question import Question


def stable_seed(*parts: int | str) -> int:
    """A 63-bit seed from any key, the same on every machine and in every process."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """What an actor may know when it acts.

    `token_ids` is the whole context (an engine reads nothing else); `question`, `view` and `turns` are for scripted
    policies. `key` names the request: episode id and turn. `temperature` None is the actor's own.
    """

    key: str
    token_ids: tuple[int, ...]
    question: Question
    view: int
    turns: tuple[Turn, ...]
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int
    temperature: float | None = None


class Actor(Protocol):
    """Acts in many episodes at once."""

    @property
    def context_window(self) -> int | None:
        """Most tokens that the actor can read and write in one episode; None where there is no limit."""
        ...

    def episode(self) -> AbstractContextManager[None]:
        """Held while an episode is live."""
        ...

    async def act(self, request: ActionRequest) -> Completion:
        """One action.

        Raises:
            EngineError: the engine failed; the episode ends as `engine_failure`.
        """
        ...


class EngineActor:
    """Samples the policy that an engine serves; an action that takes longer than `timeout_s` is an EngineError."""

    def __init__(
        self,
        engine: Engine,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        timeout_s: float | None = None,
    ) -> None:
        self._engine = engine
        self._temperature = temperature
        self._top_p = top_p
        self._top_k = top_k
        self._timeout_s = timeout_s

    @property
    def context_window(self) -> int | None:
        """The model's context window, in tokens."""
        return self._engine.context_window

    def episode(self) -> AbstractContextManager[None]:
        """The engine's own announcement of a live episode."""
        return self._engine.episode()

    async def act(self, request: ActionRequest) -> Completion:
        """Sample one completion."""
        params = SamplingParams(
            max_new_tokens=request.max_new_tokens,
            temperature=self._temperature if request.temperature is None else request.temperature,
            top_p=self._top_p,
            top_k=self._top_k,
            stop=request.stop,
            seed=request.seed,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._engine.generate(request.token_ids, params, key=request.key)
        except TimeoutError:
            raise EngineError(f"the engine did not sample {request.key} within {self._timeout_s:g} s") from None


class ScriptedPolicy(Protocol):
    """A policy written down: it reads the question's annotations and the turns so far, and says its next action."""

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The text of the next action. `rng` is seeded by episode and turn; a policy keeps no state of its own."""
        ...


class ScriptedActor:
    """Lets a scripted policy act. Its logprobs are 0 and its version is 0: there is nothing to weight or to clip."""

    context_window: int | None = None

    def __init__(self, policy: ScriptedPolicy, tokenizer: PreTrainedTokenizerBase) -> None:
        self._policy = policy
        self._tokenizer = tokenizer

    def episode(self) -> AbstractContextManager[None]:
        """Nothing to announce."""
        return nullcontext()

    async def act(self, request: ActionRequest) -> Completion:
        """Encode what the policy says, ended as sampling would have ended: stop string, end of text, or token cap."""
        text = self._policy.act(request.question, request.view, request.turns, random.Random(request.seed))
        ids = list(self._tokenizer.encode(text, add_special_tokens=False))
        finish: Literal["stop", "eos", "length"] = "stop"
        if not any(stop in text for stop in request.stop):
            finish = "eos"
            if self._tokenizer.eos_token_id is not None:
                ids.append(self._tokenizer.eos_token_id)
        if len(ids) > request.max_new_tokens:
            ids, finish = ids[: request.max_new_tokens], "length"
        return Completion(token_ids=tuple(ids), logprobs=(0.0,) * len(ids), versions=(0,) * len(ids), finish=finish)
