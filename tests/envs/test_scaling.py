"""The benchmarks of Ray measure what they say: on a clock that jumps from timer to timer their figures are exact."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ray_overhead import specs_of_round
from benchmarks.scaling import Place, Row, asleep, of_linear, play_places, rate_of, specs_of_place
from benchmarks.simulation.processor_time import processor_time
from benchmarks.simulation.sleeping_crew import (
    LIMITS,
    PROTOCOL,
    Pace,
    SleepingEngine,
    SleepingSearch,
    load_tokenizer,
    save_tokenizer,
    told,
)
from envs.actor import EngineActor
from envs.episode_pool import EpisodePool

PACE = Pace(step_s=0.025, search_s=0.05, tokens=80)


class JumpingClock(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while it works and jumps to the next timer when it would wait."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def simulated(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=JumpingClock) as runner:
        return runner.run(work)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def in_process(folder: Path, *, max_concurrent: int = 64, search_s: float = PACE.search_s) -> EpisodePool:
    return EpisodePool(
        actor=EngineActor(SleepingEngine(folder, PACE)),
        search=SleepingSearch(search_s),
        protocol=PROTOCOL,
        tokenizer=load_tokenizer(folder),
        limits=LIMITS,
        max_concurrent=max_concurrent,
    )


async def played(episodes: EpisodePool, *, places: int, per_worker: int = 4, own: int = 2) -> tuple[list[Place], float]:
    """The places, and the time at which the last had played its own."""
    done: list[float] = []
    try:
        found = await play_places(
            episodes,
            [specs_of_place(place, per_worker, prefix="row") for place in range(places)],
            own=own,
            spread_s=PACE.turn_s,
            on_done=lambda: done.append(asyncio.get_running_loop().time()),
        )
    finally:
        await episodes.close()
    [at] = done
    return found, at


def row(workers: int, places: list[Place]) -> Row:
    return Row(
        workers=workers,
        concurrent=len(places),
        trajectories_per_s=rate_of(places),
        turns_per_s=0.0,
        of_linear=1.0,
        late_ms=0.0,
        driver_lag_ms=0.0,
        cores={},
    )


def test_without_any_overhead_a_place_takes_what_engine_and_search_sleep(folder: Path) -> None:
    places, _ = simulated(played(in_process(folder), places=8))
    for place in places:
        assert place.seconds == pytest.approx(sum(asleep(t, PACE) for t in place.own), abs=1e-6)
    mean = sum(asleep(t, PACE) for place in places for t in place.own) / 16
    assert rate_of(places) == pytest.approx(8 / mean)
    assert sum(t.num_searches for place in places for t in place.own) > 8, "nothing was searched: it tests nothing"


def test_what_a_turn_takes_beyond_is_late(folder: Path) -> None:
    places, _ = simulated(played(in_process(folder, search_s=PACE.search_s + 0.2), places=4))
    late = sum(place.seconds - sum(asleep(t, PACE) for t in place.own) for place in places)
    searching = sum(bool(turn.calls) for place in places for t in place.own for turn in t.turns)
    assert late == pytest.approx(0.2 * searching, abs=1e-6)


def test_more_workers_play_copies_of_the_same_episodes_so_that_the_ratio_is_exact(folder: Path) -> None:
    one, _ = simulated(played(in_process(folder), places=4))
    three, _ = simulated(played(in_process(folder), places=12))
    assert [[told(t)[1:] for t in place.own] for place in three] == 3 * [
        [told(t)[1:] for t in place.own] for place in one
    ]
    assert len({t.id for place in three for t in place.own}) == 24, "two episodes share an id"
    assert of_linear(rate_of(three), 3, row(1, one)) == pytest.approx(1.0)


def test_what_is_saturated_is_below_linear(folder: Path) -> None:
    one, _ = simulated(played(in_process(folder, max_concurrent=4), places=4))
    three, _ = simulated(played(in_process(folder, max_concurrent=4), places=12))
    assert of_linear(rate_of(three), 3, row(1, one)) < 0.6


def test_the_load_stays_until_the_last_place_is_done(folder: Path) -> None:
    begun: list[float] = []
    pool = in_process(folder)
    submit = pool.submit

    def counted(specs: Any) -> Any:
        begun.append(asyncio.get_running_loop().time())
        return submit(specs)

    pool.submit = counted  # type: ignore[method-assign]
    places, at = simulated(played(pool, places=8))
    first = min(place.seconds for place in places)
    assert len(begun) > 2 * 8, "no place went on after its own"
    assert first < at - PACE.turn_s and max(begun) > at - 10 * PACE.turn_s
    assert max(begun) <= at, "what is begun after the end only costs time"


def test_an_episode_that_fails_ends_the_measurement() -> None:
    class Broken:
        def submit(self, specs: Any) -> Any:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(ValueError("it broke"))
            return [future]

    with pytest.raises(ExceptionGroup) as failed:
        simulated(
            play_places(Broken(), [specs_of_place(0, 1, prefix="row")], own=1, spread_s=0.0, on_done=lambda: None)
        )
    assert "it broke" in str(failed.value.exceptions[0])


def test_rounds_differ_in_names_alone() -> None:
    one, other = specs_of_round(6, "round0"), specs_of_round(6, "round1")
    assert {spec.id for spec in one}.isdisjoint(spec.id for spec in other)
    assert [(s.question, s.seed, s.sample) for s in one] == [(s.question, s.seed, s.sample) for s in other]
    assert [spec.sample for spec in one] == [0, 1, 2, 3, 0, 1] and one[0].unit_id == one[3].unit_id != one[4].unit_id


def test_processor_time_is_booked_to_whoever_used_it() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    started = [
        subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in "ab"
    ]
    try:
        before = processor_time({})
        for child in started:
            assert child.stdout is not None and child.stdout.readline() == b"done\n"
        after = processor_time({"workers": [started[0].pid]})
    finally:
        for child in started:
            child.communicate(b"\n")
    assert after.seconds["workers"] >= 0.29 and after.seconds["rest of Ray"] >= 0.29
    assert after.rss_mb["driver"] > 10 and after.since(before)["driver"] < 0.29


def test_a_worker_of_the_benchmarks_imports_no_model(folder: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path\n"
        "from benchmarks.simulation.sleeping_crew import MakeWorker, Pace\n"
        "pace = Pace(step_s=0.1, search_s=0.1)\n"
        "MakeWorker(folder=Path(sys.argv[1]), pace=pace, max_concurrent=4)(None)\n"
        "print(json.dumps([name for name in ('torch', 'vllm') if sys.modules.get(name) is not None]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "WAYMARK_WITHOUT_TORCH": "1"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []
