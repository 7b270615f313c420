"""Episodes on the workers of a crew: each is played to its end exactly once, whatever dies meanwhile.

An episode's id and seed say everything about it, so one whose worker was lost, or whose trajectory was lost with the
node that held it, is played again by another, and what the first attempt may still send is dropped. Work goes to the
worker that has least of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from agent.trajectory import Trajectory
from envs.episode import EpisodeSpec
from envs.ray_actors import LOST, until_it_answers

_PAUSE_S = 0.2
"""Before an episode whose worker was lost is given to the next."""


class RayEpisodes:
    """Plays episodes on workers; use from one event loop, and `close` it.

    Args:
        workers: actors with `play(spec)` and `health()`.
        max_concurrent: episodes at once, on all workers together.
        deadline_s: of one attempt at an episode; one that takes longer is given to another worker.
        max_attempts: after so many an episode's error is raised.
        on_again: told the spec and the reason when an episode is played again.
    """

    def __init__(
        self,
        workers: Sequence[Any],
        *,
        max_concurrent: int = 1024,
        deadline_s: float = 3600.0,
        max_attempts: int = 10,
        on_again: Callable[[EpisodeSpec, str], None] = lambda spec, why: None,
    ) -> None:
        if not workers or max_concurrent < 1 or max_attempts < 1 or deadline_s <= 0:
            raise ValueError(
                f"{len(workers)} workers, max_concurrent={max_concurrent}, max_attempts={max_attempts}, "
                f"deadline_s={deadline_s}: each must be more than 0"
            )
        self._workers = list(workers)
        self._load = [0] * len(workers)
        self._max_concurrent = max_concurrent
        self._deadline_s = deadline_s
        self._max_attempts = max_attempts
        self._on_again = on_again
        self._queue: deque[tuple[EpisodeSpec, asyncio.Future[Trajectory]]] = deque()
        self._places: set[asyncio.Task[None]] = set()
        self._lost: dict[int, asyncio.Task[None]] = {}
        """Workers that have died, and the wait for each one's successor."""

    def submit(self, specs: Sequence[EpisodeSpec]) -> list[asyncio.Future[Trajectory]]:
        """Start episodes; one future each, in order. A cancelled future's episode is not begun."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in specs]
        self._queue.extend(zip(specs, futures, strict=True))
        for _ in range(min(self._max_concurrent - len(self._places), len(specs))):
            place = asyncio.create_task(self._work())
            self._places.add(place)
            place.add_done_callback(self._places.discard)
        return futures

    async def close(self) -> None:
        """Give up every episode; their futures are cancelled."""
        while self._queue:
            self._queue.popleft()[1].cancel()
        places = list(self._places)
        for place in places:
            place.cancel()
        waits = list(self._lost.values())
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*places, *waits, return_exceptions=True)

    async def _work(self) -> None:
        while self._queue:
            spec, future = self._queue.popleft()
            if future.done():
                continue
            try:
                trajectory = await self._play(spec)
            except asyncio.CancelledError:
                future.cancel()
                raise
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(trajectory)
        self._places -= {asyncio.current_task()}  # before anybody submits: who leaves takes nothing from the queue

    async def _play(self, spec: EpisodeSpec) -> Trajectory:
        attempt, avoid = 1, -1
        while True:
            i = await self._least_loaded(avoid)
            self._load[i] += 1
            attempted = self._workers[i].play.remote(spec)
            try:
                async with asyncio.timeout(self._deadline_s):
                    return await attempted
            except asyncio.CancelledError:
                ray.cancel(attempted)
                raise
            except (*LOST, TimeoutError) as error:
                ray.cancel(attempted)
                if isinstance(error, RayActorError):
                    self._wait_for_successor(i)
                if attempt == self._max_attempts:
                    raise
                told = str(error).splitlines()[0] if str(error) else f"no end within {self._deadline_s:g} s"
                self._on_again(spec, told)
            finally:
                self._load[i] -= 1
            attempt, avoid = attempt + 1, i
            await asyncio.sleep(_PAUSE_S)

    async def _least_loaded(self, avoid: int) -> int:
        """The worker that has least to do of those that live; not `avoid`, where there is another.

        Raises:
            TimeoutError: every worker has died, and none has come back within `deadline_s`.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                while len(self._lost) == len(self._workers):
                    await asyncio.wait(self._lost.values(), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise TimeoutError(
                f"all {len(self._workers)} episode workers have died, and none was started again within "
                f"{self._deadline_s:g} s: see whether the cluster still has room for one"
            ) from None
        living = [i for i in range(len(self._workers)) if i not in self._lost]
        able = [i for i in living if i != avoid] or living
        return min(able, key=lambda i: (self._load[i], i))

    def _wait_for_successor(self, i: int) -> None:
        """Give a worker that has died nothing, until it answers again: an attempt that cannot begin is none."""
        if i not in self._lost:
            self._lost[i] = asyncio.create_task(until_it_answers(self._workers[i]))
            self._lost[i].add_done_callback(lambda _: self._lost.pop(i))
