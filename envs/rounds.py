"""Units in step: what many units ask for in their rounds is submitted together, when none of them has anything running.

A unit that is scored between two rounds has no episode that a deterministic engine could wait for, so what is batched
with what would depend on the time that scoring takes. Behind this door it depends on ids alone. The price is that every
round waits for the slowest episode of all units.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from agent.trajectory import Trajectory
from envs.episode import EpisodeSpec
from envs.units import Episodes


class Rounds:
    """Holds what units submit until every unit that has `begun` has submitted its round or has ended.

    A unit submits once a round and awaits all of it. Use from one event loop.
    """

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes
        self._live = 0
        self._asked: list[tuple[Sequence[EpisodeSpec], list[asyncio.Future[Trajectory]]]] = []

    @contextmanager
    def unit(self) -> Iterator[None]:
        """Held while a unit lives; begin all units of a start before any of them submits."""
        self._live += 1
        try:
            yield
        finally:
            self._live -= 1
            self._flush()

    def submit(self, specs: Sequence[EpisodeSpec]) -> list[asyncio.Future[Trajectory]]:
        """A unit's round; one future each, in order. They start once every other unit has asked or ended."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Trajectory]] = [loop.create_future() for _ in specs]
        self._asked.append((specs, futures))
        self._flush()
        return futures

    def _flush(self) -> None:
        self._asked = [one for one in self._asked if not all(future.done() for future in one[1])]
        if not self._asked or len(self._asked) < self._live:
            return
        asked, self._asked = sorted(self._asked, key=lambda one: one[0][0].unit_id), []
        specs = [spec for specs, _ in asked for spec in specs]
        wanted = [future for _, futures in asked for future in futures]
        try:
            started = self._episodes.submit(specs)
        except Exception as error:  # each unit that waits has to hear of it
            for future in wanted:
                future.set_exception(error)
            return
        for future, played in zip(wanted, started, strict=True):
            played.add_done_callback(partial(_pass_on, future))
            future.add_done_callback(lambda _, played=played: played.cancel())  # type: ignore[misc]


def _pass_on(future: asyncio.Future[Trajectory], played: asyncio.Future[Trajectory]) -> None:
    if future.done():
        return
    if played.cancelled():
        future.cancel()
    elif (error := played.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(played.result())
