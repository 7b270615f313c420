"""Many episodes on one event loop, at most so many at once.

Each of the places is one worker that plays episode after episode and holds one announcement to the engine from before
its first request to its last, so that a deterministic engine never sees the gap between two episodes. Episodes may be
submitted at any time; those of one `submit` call are announced together, before the first of them samples.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from transformers import PreTrainedTokenizerBase

from agent.protocol import AgentProtocol
from agent.trajectory import Trajectory
from envs.actor import Actor
from envs.episode import Documents, EpisodeSpec, Search, check_tools, play
from envs.search_env import EpisodeLimits, SearchEnv


class EpisodePool:
    """Plays episodes; use from one event loop, and `close` it.

    Raises:
        ValueError: `max_concurrent` below 1, or a protocol that offers `open` without `documents`.
    """

    def __init__(
        self,
        *,
        actor: Actor,
        search: Search,
        protocol: AgentProtocol,
        tokenizer: PreTrainedTokenizerBase,
        limits: EpisodeLimits,
        documents: Documents | None = None,
        max_concurrent: int = 256,
    ) -> None:
        check_tools(protocol, documents)
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent={max_concurrent}: at least one episode must be allowed to run")
        self._actor = actor
        self._search = search
        self._documents = documents
        self._new_env = lambda: SearchEnv(protocol, tokenizer, limits)
        self._checker = self._new_env()
        self._max_concurrent = max_concurrent
        self._queue: deque[tuple[EpisodeSpec, tuple[int, ...], asyncio.Future[Trajectory]]] = deque()
        self._idle: list[SearchEnv] = []
        self._places: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()

    def submit(self, specs: Sequence[EpisodeSpec]) -> list[asyncio.Future[Trajectory]]:
        """Start episodes; one future each, in order. A cancelled future's episode is not begun, or ends where it is.

        Every prompt is encoded and checked before anything is started.

        Raises:
            ValueError: an id that another live episode has, or a prompt that does not fit the limits or the window.
            IndexError: a question has no such wording.
        """
        ids = [spec.id for spec in specs]
        if len(set(ids)) != len(ids) or not self._known.isdisjoint(ids):
            raise ValueError("two episodes have one id: ids name trajectories and order requests, so make them unique")
        window = self._actor.context_window
        texts = dict.fromkeys(spec.question.wording(spec.view) for spec in specs)
        prompts = {text: self._checker.encode_prompt(text, context_window=window) for text in texts}
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Trajectory]] = []
        for spec in specs:
            future: asyncio.Future[Trajectory] = loop.create_future()
            self._queue.append((spec, prompts[spec.question.wording(spec.view)], future))
            futures.append(future)
        self._known.update(ids)
        for _ in range(min(self._max_concurrent - len(self._places), len(specs))):
            announcement = ExitStack()
            announcement.enter_context(self._actor.episode())
            env = self._idle.pop() if self._idle else self._new_env()
            place = asyncio.create_task(self._work(env, announcement))
            self._places.add(place)
            place.add_done_callback(partial(self._left, announcement))
        return futures

    async def close(self) -> None:
        """Give up every episode, begun or not; their futures are cancelled."""
        while self._queue:
            self._queue.popleft()[2].cancel()
        places = list(self._places)
        for place in places:
            place.cancel()
        await asyncio.gather(*places, return_exceptions=True)

    def _left(self, announcement: ExitStack, place: asyncio.Task[None]) -> None:
        self._places.discard(place)
        announcement.close()  # again, for a place that was cancelled before it began

    async def _work(self, env: SearchEnv, announcement: ExitStack) -> None:
        with announcement:
            while self._queue:
                spec, prompt_ids, future = self._queue.popleft()
                if not future.done():
                    await self._one(spec, prompt_ids, future, env)
                self._known.discard(spec.id)
            self._idle.append(env)
            self._places -= {asyncio.current_task()}  # before anybody submits: who leaves takes nothing from the queue

    async def _one(
        self, spec: EpisodeSpec, prompt_ids: tuple[int, ...], future: asyncio.Future[Trajectory], env: SearchEnv
    ) -> None:
        episode = asyncio.create_task(self._played(spec, prompt_ids, env))
        future.add_done_callback(lambda _: episode.cancel())  # nobody wants what was given up; no harm to an ended one
        try:
            trajectory = await episode
        except asyncio.CancelledError:
            future.cancel()
            place = asyncio.current_task()
            if place is not None and place.cancelling():
                raise
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(trajectory)

    async def _played(self, spec: EpisodeSpec, prompt_ids: tuple[int, ...], env: SearchEnv) -> Trajectory:
        wording = spec.question.wording(spec.view)
        env.reset(wording, context_window=self._actor.context_window, prompt_ids=prompt_ids)
        return await play(spec, self._actor, env, self._search, self._documents)


async def run_episodes(
    specs: Sequence[EpisodeSpec],
    *,
    actor: Actor,
    search: Search,
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    limits: EpisodeLimits,
    documents: Documents | None = None,
    max_concurrent: int = 256,
    on_finish: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play these episodes, at most `max_concurrent` at once; the trajectories come in the order of the specs.

    Every prompt is encoded and checked before the first token is sampled. `documents` opens documents, for a protocol
    that offers `open`. `on_finish` is called with each trajectory when it ends (for progress). The first exception
    gives the other episodes up and is raised as it is.

    Raises:
        ValueError: `max_concurrent` < 1, two specs with one id, or what `EpisodePool.submit` refuses.
    """
    pool = EpisodePool(
        actor=actor,
        search=search,
        protocol=protocol,
        tokenizer=tokenizer,
        limits=limits,
        documents=documents,
        max_concurrent=max_concurrent,
    )
    try:
        futures = pool.submit(specs)
        if on_finish is not None:
            for future in futures:
                future.add_done_callback(partial(_tell, on_finish))
        return list(await asyncio.gather(*futures))
    finally:
        await pool.close()


def _tell(on_finish: Callable[[Trajectory], None], future: asyncio.Future[Trajectory]) -> None:
    if not future.cancelled() and future.exception() is None:
        on_finish(future.result())
