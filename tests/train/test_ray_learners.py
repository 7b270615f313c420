"""A run of several learner processes is the run of one, and outlives the loss of a learner."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from safetensors.numpy import load_file

from evaluation.trajectory_store import read_trajectories
from tests.train.conftest import run_settings
from tests.train.scripted_runtime import learn_alone, open_held, open_nothing, open_outage, open_scripted
from tests.train.test_resume import reproducible
from train.assembly import assemble
from train.checkpoint import list_checkpoints, read_state
from train.config import TrainConfig, check_config
from train.ledger import audit
from train.progress import Progress, TrainResult
from train.ray_attempt import OpenRuntime
from train.ray_learners import LearnersLost, learn_on_ray
from train.ray_rank import is_peers_end, outcome_of, portable
from train.rollouts import RolloutFailure
from train.run_folder import RunFolder
from train.testbed import Testbed
from train.watch_config import WatchLimits
from train.watch_record import CollapseStop, read_alarms

TWO = {"kind": "ray", "learners": 2, "learner_cpus": 0.5, "start_timeout_s": 400}
REWARDS = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}}
FADING = {
    **REWARDS,
    "fading": {**REWARDS["even_tokens"], "gate": "em_first", "schedule": {"kind": "cosine", "steps": 3}},
}
OF_PACKING = ("padding", "micro_batches", "scripted/", "seconds/", "update/", "watch/update_tail", "watch/alarms")
"""Figures of how rows were packed. Each rank probes an update on a micro-batch of its own, and the watch judges it
where there are enough tokens."""


class Kept(Progress):
    """Keeps what is told, and calls `at_step` at every step."""

    def __init__(self, at_step: Callable[[int], None] = lambda step: None) -> None:
        self.stages: list[str] = []
        self.steps: list[int] = []
        self._at_step = at_step

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        self.steps.append(step)
        self._at_step(step)


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="waymark")
    yield
    ray.shutdown()


def settings(testbed: Testbed, **changes: Any) -> TrainConfig:
    given: dict[str, Any] = {"runtime": TWO, "rewards": REWARDS, "cold_start": None, **changes}
    return check_config(run_settings(testbed, **given))


def on_two(
    config: TrainConfig, out: Path, progress: Progress, open_runtime: OpenRuntime = open_scripted
) -> TrainResult:
    with assemble(config) as parts:
        run = RunFolder.open(out, config, resume=False)
        try:
            return learn_on_ray(config, parts, run, config.policy.model, progress, open_runtime=open_runtime)
        finally:
            run.close()


def processes(*titles: str) -> list[psutil.Process]:
    """Those of this test's own Ray that Ray calls so, by number."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            told = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(title in told for title in titles):
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def wait_until_gone(seconds: float) -> None:
    """Processes of a run must not outlive it."""
    of_run = ("RayTrainWorker", "RunActor", "TrainController", "PlacementGroupCleaner", "SynchronizationActor")
    deadline = time.monotonic() + seconds
    while left := processes(*of_run):
        assert time.monotonic() < deadline, f"{left} outlive the run"
        time.sleep(0.1)


@pytest.mark.slow
def test_two_learners_do_what_one_does(testbed: Testbed, tmp_path: Path, on_ray: None) -> None:
    """Three groups over two ranks: one has twice the rows of the other. Sampling is scripted, because an engine that
    batches what happens to wait rounds differently from run to run, which can flip a token. A reward whose weight fades
    has the same weight on both ranks, at every step."""
    config = settings(testbed, rewards=FADING, learner={"learning_rate": 1e-2, "max_tokens_per_micro_batch": 64})
    told = Kept()
    both = on_two(config, tmp_path / "two", told)
    assert told.steps == [0, 1, 2, 3, 4]
    assert "scripted runtime of 0" in told.stages
    with assemble(config) as parts:
        alone = learn_alone(config, parts, tmp_path / "one", Kept())
    assert both.trajectories == alone.trajectories == 48
    assert both.dev == alone.dev
    lines = [reproducible(tmp_path / name) for name in ("two", "one")]
    for two, one in zip(*lines, strict=True):
        names = {name for name in one if not name.startswith(OF_PACKING)}
        assert names == {name for name in two if not name.startswith(OF_PACKING)}
        numbers = {name for name in names if isinstance(one[name], int | float)}
        assert {n: two[n] for n in numbers} == pytest.approx({n: one[n] for n in numbers}, rel=2e-4, abs=1e-6)
    assert all(line["grad_norm"] > 0 for line in lines[0][1:]), "nothing was learned, so nothing is shown"
    for two, one in zip(lines[0][1:], lines[1][1:], strict=True):
        assert two["update/tokens"] > one["update/tokens"], "the probes of both ranks count"
        assert 0.1 < two["update/shift"] / one["update/shift"] < 10
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("two", "one"))
    began = load_file(Path(config.policy.model) / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert any(abs(theirs[name] - began[name]).max() > 1e-3 for name in theirs)
    for name in ours:
        assert abs(ours[name] - theirs[name]).max() < 1e-3 * max(1e-2, abs(theirs[name] - began[name]).max()), name
    stored = [
        [(one.trajectory.id, list(one.trajectory.token_ids)) for one in read_trajectories(tmp_path / name)]
        for name in ("two/trajectories", "one/trajectories")
    ]
    assert stored[0] == stored[1]
    wait_until_gone(10)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["one learner", "another learner", "the sampler"])
def test_a_lost_process_costs_the_steps_since_the_checkpoint(
    testbed: Testbed, tmp_path: Path, on_ray: None, victim: str
) -> None:
    """Between its fifth step and the end of its eighth, where the run is held until the process is dead."""
    rng = random.Random(victim)
    killed: list[int] = []
    is_dead = tmp_path / "is dead"

    def kill(step: int) -> None:
        if step == 5 and not killed:
            victims = processes("RunActor" if victim == "the sampler" else "RayTrainWorker")
            assert len(victims) == (1 if victim == "the sampler" else 2)
            time.sleep(rng.uniform(0, 0.3))
            killed.append(victims[0 if victim == "one learner" else -1].pid)
            os.kill(killed[0], signal.SIGKILL)
            is_dead.touch()

    told = Kept(kill)
    config = settings(testbed, steps=12, checkpoint_every=4, evaluate_every=0)
    result = on_two(config, tmp_path / "run", told, open_held(8, is_dead))
    assert killed
    assert result.steps == 12
    assert [line["step"] for line in reproducible(tmp_path / "run")] == list(range(1, 13))
    assert any("is lost: the run goes on from step-" in line for line in told.stages), told.stages
    problems = audit(tmp_path / "run" / "ledger.jsonl", steps=12, units_per_step=3, samples=4)
    assert problems == []
    ids = [stored.trajectory.id for stored in read_trajectories(tmp_path / "run" / "trajectories")]
    assert len(ids) == len(set(ids)) == 12 * 12
    wait_until_gone(10)


@pytest.mark.slow
def test_what_a_learner_raises_is_what_the_person_sees(testbed: Testbed, tmp_path: Path, on_ray: None) -> None:
    failing = {"use": "tests.train.scripted_runtime:FailsAtUnit", "params": {"unit": "step000001-unit001"}}
    config = settings(testbed, rewards={"fails": failing})
    with pytest.raises(ArithmeticError, match="no score for step000001-unit001: see the reward's settings") as raised:
        on_two(config, tmp_path / "run", Kept())
    assert "ray::" not in str(raised.value)
    wait_until_gone(10)


@pytest.mark.slow
def test_an_outage_ends_several_learners_with_its_advice(testbed: Testbed, tmp_path: Path, on_ray: None) -> None:
    rollout = {"questions_per_step": 3, "samples_per_question": 4, "outage_patience_s": 0.5}
    config = settings(testbed, rollout=rollout, evaluate_every=0)
    told = Kept()
    with pytest.raises(RolloutFailure, match=r"the last error: it is not there.*--resume"):
        on_two(config, tmp_path / "run", told, open_outage)
    assert any(line.startswith("paused: 12 of 12 trajectories had no answer") for line in told.stages), told.stages
    wait_until_gone(10)


@pytest.mark.slow
def test_the_watch_ends_every_learner(testbed: Testbed, tmp_path: Path, on_ray: None) -> None:
    """Only the first one reads the figures; the other must save with it and end with it, and nothing is tried again."""
    limits = {**dict.fromkeys(WatchLimits.model_fields), "entropy_rise": 1.0001, "entropy_fall": 0.9999}
    watch = {"action": "stop", "stop_signals": 1, "limits": limits}
    config = settings(testbed, watch=watch, learner={"learning_rate": 1e-2}, evaluate_every=0, checkpoint_every=0)
    told, run = Kept(), tmp_path / "run"
    with pytest.raises(CollapseStop, match="the collapse watch ended the run at step"):
        on_two(config, run, told)
    (alarm,) = read_alarms(run)
    assert alarm["stops"] and told.steps[-1] == alarm["step"]
    state = read_state(list_checkpoints(run)[-1])
    assert (state.step, state.watch["stopped"]["step"]) == (alarm["step"], alarm["step"])
    assert len(list(read_trajectories(run / alarm["batch"] / "trajectories"))) == 12, "of both ranks"
    assert not any("goes on from" in line for line in told.stages) and not (run / "model").exists()
    wait_until_gone(10)


@pytest.mark.slow
def test_a_crew_that_cannot_be_had_ends_the_run(testbed: Testbed, tmp_path: Path, on_ray: None) -> None:
    with pytest.raises(TimeoutError, match="no room for 99 engines"):
        on_two(settings(testbed), tmp_path / "run", Kept(), open_nothing)
    wait_until_gone(10)


@pytest.mark.slow
def test_learners_that_are_lost_too_often_end_the_run(testbed: Testbed, tmp_path: Path, on_ray: None) -> None:
    def kill(step: int) -> None:
        for process in processes("RayTrainWorker"):
            process.kill()

    config = settings(testbed, runtime={**TWO, "learner_failures": 0}, evaluate_every=0)
    with pytest.raises(LearnersLost, match=r"runtime\.learner_failures: 0 does not allow.*--resume"):
        on_two(config, tmp_path / "run", Kept(kill), open_held(2, tmp_path / "never"))
    wait_until_gone(10)


@pytest.mark.slow
def test_a_learner_that_is_killed_while_it_starts_is_a_loss_and_no_error(
    testbed: Testbed, tmp_path: Path, on_ray: None
) -> None:
    killed = threading.Event()

    def kill() -> None:
        while not (starting := processes("RayTrainWorker")):
            time.sleep(0.01)
        starting[0].kill()
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    told = Kept()
    config = settings(testbed, evaluate_every=0)
    result = on_two(config, tmp_path / "run", told)
    assert killed.is_set()
    assert result.steps == config.steps
    assert any("is lost: the run goes on from the beginning" in line for line in told.stages), told.stages
    wait_until_gone(10)


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_error_that_cannot_travel_keeps_its_words() -> None:
    assert str(portable(Unpicklable(1, 2))) == "Unpicklable: 1 and 2"
    error = RolloutFailure("check that the retriever answers")
    assert portable(error) is error


def test_what_a_rank_says_of_its_lost_peer_is_no_error_of_its_own() -> None:
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    gone = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    assert is_peers_end(gone)
    assert not is_peers_end(ValueError("learner.trl: gloo"))
    group = WorkerGroupError("", {0: UserExceptionWithTraceback(gone, ""), 1: RuntimeError("the actor died")})
    outcome = outcome_of(group, [(0, gone)])
    assert outcome.lost == "learner 1"
    assert (
        outcome.said is not None
        and outcome.said.startswith("learner 0: ")
        and "Connection closed by peer" in outcome.said
    )
    real = ValueError("a row that does not fit")
    assert outcome_of(group, [(0, gone), (1, real)]).error is real


def test_only_what_a_learner_or_the_sampler_raised_is_an_error() -> None:
    from ray.exceptions import RayActorError
    from ray.train import ControllerError

    at_start = outcome_of(ControllerError(RuntimeError("worker group startup failed:\nthe node died")), [])
    assert (at_start.error, at_start.lost, at_start.said) == (None, "the group of learners", "Ray Train: the node died")
    assert outcome_of(RayActorError(), []).lost == "the group of learners"
    of_sampler = RuntimeError("no room for the engines; nccl cannot be loaded")
    assert outcome_of(RayActorError(), [(-1, of_sampler)]).error is of_sampler


def test_a_folder_can_be_attached_to_while_another_process_holds_its_lock(tmp_path: Path, testbed: Testbed) -> None:
    config = settings(testbed)
    held = RunFolder.open(tmp_path / "run", config, resume=False)
    attached = RunFolder.attach(tmp_path / "run")
    attached.close()
    assert json.loads(json.dumps(str(attached.path))) == str(held.path)
    held.close()
