"""Units in step submit together, whatever the time that each takes between two rounds."""

import asyncio
from collections.abc import Sequence

import pytest

from agent.trajectory import Trajectory
from envs.episode import EpisodeSpec
from envs.rounds import Rounds
from envs.units import play_round
from tests.envs.small_world import BRIDGE
from tests.train.fakes import trajectory


class Immediate:
    """Episodes that end at once, and what was submitted together."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def submit(self, specs: Sequence[EpisodeSpec]) -> list[asyncio.Future[Trajectory]]:
        if any(spec.id == "bad" for spec in specs):
            raise ValueError("a bad spec")
        self.calls.append([spec.id for spec in specs])
        futures = [asyncio.get_running_loop().create_future() for _ in specs]
        for spec, future in zip(specs, futures, strict=True):
            future.set_result(trajectory(spec.id, []))
        return futures


def spec(name: str, unit: str) -> EpisodeSpec:
    return EpisodeSpec(id=name, question=BRIDGE, unit_id=unit, group_id=unit)


async def unit(rounds: Rounds, name: str, number: int, pause: int) -> None:
    with rounds.unit():
        await asyncio.sleep(0)  # until all units have begun
        for i in range(number):
            for _ in range(pause):
                await asyncio.sleep(0)
            played = await play_round(rounds, [spec(f"{name}{i}", name)])
            assert [t.id for t in played] == [f"{name}{i}"]


@pytest.mark.parametrize("pauses", [(0, 9, 3), (5, 0, 0), (1, 1, 12)])
async def test_a_round_holds_the_specs_of_all_live_units_in_the_order_of_their_names(pauses) -> None:
    episodes = Immediate()
    rounds = Rounds(episodes)
    numbers = {"a": 3, "b": 1, "c": 2}
    await asyncio.gather(*(unit(rounds, n, k, p) for (n, k), p in zip(numbers.items(), pauses, strict=True)))
    assert episodes.calls == [["a0", "b0", "c0"], ["a1", "c1"], ["a2"]]


async def test_a_unit_that_is_given_up_holds_nobody_back_and_is_not_played() -> None:
    episodes = Immediate()
    rounds = Rounds(episodes)
    tasks = [asyncio.create_task(unit(rounds, name, 1, pause)) for name, pause in (("a", 0), ("b", 50))]
    for _ in range(5):
        await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert episodes.calls == [["b0"]]


async def test_every_unit_that_waits_hears_of_specs_that_are_refused() -> None:
    rounds = Rounds(Immediate())

    async def ask(name: str) -> None:
        with rounds.unit():
            await asyncio.sleep(0)  # until both have begun
            await play_round(rounds, [spec(name, name)])

    outcomes = await asyncio.gather(ask("a"), ask("bad"), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["a bad spec"] * 2
