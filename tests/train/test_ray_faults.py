"""A run on Ray whose processes are killed, hang, or get no answer is the run that it would have been: every step done,
nothing lost, doubled or in the wrong group.
"""

import asyncio
import os
import random
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from tests.retrieval.server.served import served
from tests.train.ray_runs import (
    Does,
    DrivenRun,
    Kind,
    actor,
    at_this_load,
    counted,
    is_running,
    ray_settings,
    steps_logged,
    wait_until,
    whole,
)
from tests.train.test_retriever_by_config import free_port
from train.config import check_config
from train.ledger import read_ledger
from train.run import train
from train.testbed import Testbed

SEED = 20260
STEPS = 36
TRAJECTORIES = 8
"""Of a step."""


@pytest.mark.slow
def test_a_run_survives_sigkill_of_every_kind_of_process(testbed: Testbed, searching: Path, tmp_path: Path) -> None:
    """Workers, engines, retrieval replicas and the learner, at random moments of a run of 36 steps."""
    settings = ray_settings(
        testbed, searching, steps=STEPS, checkpoint_every=3, runtime={"engines": 2, "workers": 2, "retrievers": 2}
    )
    rng = random.Random(SEED)
    victims: list[Kind | None] = ["RayWorker", "RayEngine", "RayRetriever", None] * 2
    rng.shuffle(victims)
    moments = sorted(rng.sample(range(1, STEPS - 2), len(victims)))
    with DrivenRun(settings, tmp_path / "run") as run:
        for step, victim in zip(moments, victims, strict=True):
            run.reaches(step)
            delay_s = rng.uniform(0.0, 0.3)
            print(f"seed {SEED}: after step {step} and {delay_s:.2f} s, SIGKILL to {victim or 'the learner'}")
            time.sleep(delay_s)
            if victim is None:
                kill_learner(run)
            else:
                kill_actor(run, victim, rng)
        assert run.ended() == 0, run.said()[-3000:]
        wait_until(lambda: not run.left_over(agents=False), "the end of every process", within_s=at_this_load(10))
        wait_until(lambda: not run.left_over(), "the end of Ray's agents")
    assert whole(tmp_path / "run", settings) == []
    assert counted(tmp_path / "run", "retriever_calls") > 0, "nothing was searched, so no replica was missed"
    events = [event["event"] for event in read_ledger(tmp_path / "run" / "ledger.jsonl")]
    assert events.count("resumed") >= 1
    assert "again" in events, "no kill of a worker hit an episode"


def kill_learner(run: DrivenRun) -> None:
    """Kill the driver, see that its actors end with it, and go on."""
    run.family()
    run.driver.kill()
    run.driver.wait()
    wait_until(lambda: not run.left_over(agents=False), "the end of the killed learner's actors and Ray")
    run.start()


def kill_actor(run: DrivenRun, kind: Kind, rng: random.Random) -> None:
    """Kill one of two actors, at work if that is seen within two steps, and see that it has a successor."""
    wait_until(lambda: len(run.actors(kind)) == 2, f"two processes {kind}")
    before = run.actors(kind)
    if kind == "RayWorker":  # a heartbeat shows as work too; where more than half of the episodes run, both have some
        victims = before
        wait_until(lambda: 2 * run.playing() > TRAJECTORIES, "episodes at both workers")
    else:  # a search is over in milliseconds, and may not be seen
        logged = steps_logged(run.folder)
        enough = f"a {kind} at work, or two steps more"
        victims = wait_until(
            lambda: run.actors(kind, at_work=True) or (steps_logged(run.folder) > logged + 1 and before), enough
        )
    victim = rng.choice(victims)
    victim.kill()
    wait_until(lambda: run.came_back(kind, before), f"another {kind} in the place of {victim.pid}")


@pytest.mark.slow
def test_engines_that_hang_without_dying_are_found_and_replaced(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    """One is stopped as a whole, of the other every request hangs while it says that it is well."""
    found = {"heartbeat_timeout_s": 8.0, "engine_silence_s": 8.0}
    settings = ray_settings(testbed, searching, steps=12, runtime={"engines": 2, **found})
    stopped: list[psutil.Process] = []

    def stop() -> None:
        pid = ray.get(actor("engine-0").__ray_call__.remote(lambda server: os.getpid()))
        stopped.append(psutil.Process(pid))
        os.kill(pid, signal.SIGSTOP)

    def hang(server: Any) -> None:
        async def never(*_: Any, **__: Any) -> None:
            await asyncio.sleep(3600)

        server._engine.generate = never

    progress = Does({3: stop, 7: lambda: ray.get(actor("engine-1").__ray_call__.remote(hang))})
    train(check_config(settings), tmp_path / "run", progress=progress)
    assert whole(tmp_path / "run", settings) == []
    assert any(line.startswith("engine 0 did not answer for 8 s") for line in progress.lines), progress.lines
    assert any(line.startswith("engine 1 finished nothing for ") for line in progress.lines), progress.lines
    assert counted(tmp_path / "run", "ray/replaced_actors") >= 2
    assert stopped and not is_running(stopped[0])


@pytest.mark.slow
def test_a_retriever_that_is_down_for_20_s_costs_time_and_no_step(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    """Episodes wait within their deadline and leave as outages; the run pauses, says so, and goes on by itself."""
    command = ("-m", "scripts.serve_index", str(testbed.index), "--port", str(free_port()))
    down_s = 20.0
    with ExitStack() as servers:
        first = servers.enter_context(served(*command))
        settings = ray_settings(
            testbed,
            searching,
            steps=10,
            data={"index": first.url, "train_questions": str(testbed.questions("train"))},
            retrieval={"timeout_s": 1.0, "retries": 1},
            rollout={"questions_per_step": 2, "samples_per_question": 4, "max_outage_share": 0.2},
        )
        back = threading.Timer(down_s, lambda: servers.enter_context(served(*command)))

        def take_down() -> None:
            first.end(signal.SIGKILL)
            back.start()

        progress = Does({4: take_down})
        train(check_config(settings), tmp_path / "run", progress=progress)
        assert time.monotonic() - progress.done_at > down_s
        back.join()
    assert whole(tmp_path / "run", settings) == []
    said = [line.split(":")[0].split(" after")[0] for line in progress.lines]
    assert "paused" in said and "goes on" in said, progress.lines
    events = list(read_ledger(tmp_path / "run" / "ledger.jsonl"))
    lost = [event for event in events if event["event"] == "accepted" and event["finish"] == "retrieval_outage"]
    assert lost and counted(tmp_path / "run", "groups/sampled_again") >= 1
