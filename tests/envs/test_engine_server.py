"""A server changes its engine one thing after the other, and books what may hang."""

import asyncio
import threading

import pytest

from envs.engine_server import EngineServer
from tests.envs.ray_parts import SleepingEngine


class Held(SleepingEngine):
    """An engine whose changes last until they are released, each of which is noted."""

    def __init__(self) -> None:
        super().__init__(0)
        self.begun: list[int | str] = []
        self.release = threading.Event()

    def update_weights(self, named, version):
        self._change(version)
        super().update_weights(named, version)

    def sleep(self) -> None:
        self._change("sleep")

    def wake(self) -> None:
        self._change("wake")

    def _change(self, what: int | str) -> None:
        self.begun.append(what)
        assert self.release.wait(60), "nobody released it"


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_an_update_that_is_asked_for_again_while_it_runs_is_done_once_and_before_the_next():
    engine = Held()
    server = EngineServer(lambda: engine)
    asked = [asyncio.create_task(server.update_weights([], version)) for version in (1, 1, 1, 2, 1)]

    async def has_begun() -> bool:
        return bool(engine.begun)

    await until(has_begun)
    await asyncio.sleep(0.1)  # so long each further one has time to begin
    engine.release.set()
    assert await asyncio.gather(*asked) == [1, 1, 1, 2, 2]
    assert engine.begun == [1, 2]
    assert (await server.health()).version == 2


@pytest.mark.parametrize("what", ["sleep", "wake"])
async def test_an_engine_that_hangs_while_it_falls_asleep_or_wakes_counts_as_silent(what: str):
    engine = Held()
    server = EngineServer(lambda: engine)
    if what == "wake":
        engine.release.set()
        await server.sleep()
        engine.release.clear()
    changing = asyncio.create_task(getattr(server, what)())

    async def is_silent() -> bool:
        return (await server.health()).silent_s > 0

    await until(is_silent)
    engine.release.set()
    await changing
    assert (await server.health()).silent_s == 0
