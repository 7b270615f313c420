"""A run on Ray whose processes are killed, hang, or get no answer is the run that it would have been: every step done,
nothing lost, doubled or in the wrong group.
"""

import random
import time
from pathlib import Path

import psutil
import pytest

from tests.train.ray_runs import DrivenRun, Kind, counted, ray_settings, wait_until, whole
from train.ledger import read_ledger
from train.testbed import Testbed

SEED = 20260
STEPS = 36


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
                run.kill(run.family()[0])
                run.driver.wait()
                wait_until(lambda: not run.left_over(agents=False), "the end of the killed learner's actors and Ray")
                run.start()
            else:
                wait_until(lambda: len(run.actors(victim)) == 2, f"two processes {victim}")
                before = run.actors(victim)
                one = rng.choice(wait_until(lambda: run.actors(victim, at_work=True), f"a {victim} at work"))
                run.kill(one)
                wait_until(lambda: came_back(run, victim, before), f"another {victim} in the place of {one.pid}")
        assert run.ended() == 0, run.said()[-3000:]
        wait_until(lambda: not run.left_over(agents=False), "the end of every process", within_s=10)
        wait_until(lambda: not run.left_over(), "the end of Ray's agents")
    assert whole(tmp_path / "run", settings) == []
    assert counted(tmp_path / "run", "retriever_calls") > 0, "nothing was searched, so no replica was missed"
    events = [event["event"] for event in read_ledger(tmp_path / "run" / "ledger.jsonl")]
    assert events.count("resumed") >= 1
    assert "again" in events, "no kill of a worker hit an episode"


def came_back(run: DrivenRun, kind: Kind, before: list[psutil.Process]) -> bool:
    """True if as many of a kind run as before, and not all are the same."""
    now = run.actors(kind)
    return len(now) == len(before) and set(now) != set(before)
