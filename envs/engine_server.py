"""An engine behind a process boundary: what an engine's process runs, and what an episode's process talks to.

`EngineServer` holds any engine and is plain Python: Ray makes an actor of it (`envs.ray_crew`), a test calls it
directly. A server that starts, for the first time or again after a crash, asks `latest` for the newest weights before
it samples, so that a replaced engine serves the current version. `RemoteActor` is the side of the episodes: it samples
through a `call` that may fail because the engine has died, and asks again, of its successor, until a deadline.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.engine import Completion, EngineError, SamplingParams, Sleeper
from envs.actor import ActionRequest

if TYPE_CHECKING:  # episode workers import this module and no torch
    from agent.engine import Engine

Weights = Sequence[tuple[str, Any]]
"""Names and tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """What a health check reads. `silent_s` is how long nothing has been finished, neither a request nor an update of
    the weights nor falling asleep or waking, while some run, else 0."""

    version: int
    running: int
    finished: int
    silent_s: float


class EngineServer:
    """Serves one engine. Use from one event loop.

    Args:
        open_engine: makes the engine; called once, here, in the process that serves.
        latest: the newest weights and their version, or None while there are none but those that the engine opens.
    """

    def __init__(
        self,
        open_engine: Callable[[], "Engine"],
        latest: Callable[[], tuple[Weights, int] | None] = lambda: None,
    ) -> None:
        self._engine = open_engine()
        self._sleeps = False
        self._running = 0
        self._finished = 0
        self._working = 0
        self._last_finish = time.monotonic()
        self._changing = asyncio.Lock()
        newest = latest()
        if newest is not None:
            weights, version = newest
            self._engine.update_weights(weights, version)

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, key: str) -> Completion:
        """Sample one completion, as `Engine.generate`."""
        with self._at_work():
            self._running += 1
            try:
                return await self._engine.generate(prompt_ids, params, key=key)
            finally:
                self._running -= 1
                self._finished += 1

    async def update_weights(self, weights: Weights, version: int) -> int:
        """Replace the weights and tell the version; an older version than the engine's is passed over. One after the
        other, in the order in which they came: the same update asked for twice is done once.
        """
        async with self._changing:
            if version > self._engine.version:
                await self._on_a_thread(self._engine.update_weights, weights, version)
        return self._engine.version

    async def sleep(self) -> None:
        """Give the engine's memory to a learner on the same GPU; only engines that can."""
        async with self._changing:
            await self._on_a_thread(_sleeper(self._engine).sleep)
            self._sleeps = True

    async def wake(self) -> None:
        """Take it back, unless this process was started after the engine fell asleep."""
        async with self._changing:
            if self._sleeps:
                await self._on_a_thread(_sleeper(self._engine).wake)
                self._sleeps = False

    async def _on_a_thread(self, change: Callable[..., None], *args: Any) -> None:
        """Change the engine beside the event loop; booked, so that one that hangs in it is found."""
        with self._at_work():
            await asyncio.to_thread(change, *args)

    async def health(self) -> EngineHealth:
        """What this engine is at."""
        silent = time.monotonic() - self._last_finish if self._working else 0.0
        return EngineHealth(
            version=self._engine.version, running=self._running, finished=self._finished, silent_s=silent
        )

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Book something that must come to an end, for `silent_s`."""
        if self._working == 0:
            self._last_finish = time.monotonic()
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._last_finish = time.monotonic()

    def context_window(self) -> int:
        """Most tokens that the model takes."""
        return self._engine.context_window

    async def close(self) -> None:
        """Release the engine."""
        await self._engine.close()


def _sleeper(engine: "Engine") -> Sleeper:
    if not isinstance(engine, Sleeper):
        raise TypeError(f"a {type(engine).__name__} cannot sleep; set engine: vllm, or runtime.layout: disaggregated")
    return engine


class EngineGone(Exception):
    """The engine's process has died or cannot be reached; its successor may answer."""


class RemoteActor:
    """Samples a policy that another process serves; an `envs.actor.Actor`.

    Args:
        call: asks the engine of a unit once. EngineGone means that asking again may help.
        context_window: of the model.
        temperature: of sampling.
        timeout_s: longest time that one action may take, successors of a dead engine included.
        pause_s: before it is asked again.
    """

    def __init__(
        self,
        call: Callable[[str, Sequence[int], SamplingParams], Awaitable[Completion]],
        *,
        context_window: int,
        temperature: float = 1.0,
        timeout_s: float = 600.0,
        pause_s: float = 0.5,
    ) -> None:
        self._call = call
        self._context_window = context_window
        self._temperature = temperature
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self.asked_again = 0
        """Actions that were asked again because an engine had died."""

    @property
    def context_window(self) -> int | None:
        """The model's context window, in tokens."""
        return self._context_window

    def episode(self) -> AbstractContextManager[None]:
        """Nothing to announce: engines behind processes batch what arrives."""
        return nullcontext()

    async def act(self, request: ActionRequest) -> Completion:
        """Sample one completion.

        Raises:
            EngineError: the engine failed, or no engine answered in time.
        """
        params = SamplingParams(
            max_new_tokens=request.max_new_tokens,
            temperature=self._temperature if request.temperature is None else request.temperature,
            stop=request.stop,
            seed=request.seed,
        )
        gone: EngineGone | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        return await self._call(request.key, request.token_ids, params)
                    except EngineGone as error:
                        gone = error
                        self.asked_again += 1
                        await asyncio.sleep(self._pause_s)
        except TimeoutError:
            last = f"; the last was: {gone}" if gone else ""
            raise EngineError(f"no engine sampled {request.key} within {self._timeout_s:g} s{last}") from None
