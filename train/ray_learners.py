"""A run whose learner is several processes: attempts at it, one after the other, until one has done every step.

Each attempt is an actor with everything that belongs to it (`train.ray_attempt`). A lost learner, sampler or machine
ends its attempt; the next one goes on from the newest checkpoint, so a loss costs the steps since then and nothing
else. What the attempts tell is shown here, in the process that the person started, which also holds the folder's lock.
"""

import secrets
import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from train.assembly import Parts
from train.checkpoint import remove_unfinished
from train.config import TrainConfig
from train.progress import Progress, RunStopped, TrainResult
from train.ray_attempt import Attempt, OpenRuntime, RunActor, actor_environment, open_crew
from train.ray_door import show
from train.ray_rank import Outcome
from train.ray_runtime import crew_name
from train.run_folder import RunFolder
from train.runtime_config import RaySettings

_NEWS_S = 0.5
_POLITELY_S = 5.0
"""An attempt that is ended has so long for a clean end; then its processes are killed."""
_MANY = 10_000


class LearnersLost(RunStopped):
    """Learner processes were lost more often than `runtime.learner_failures` allows."""


def learn_on_ray(
    config: TrainConfig,
    parts: Parts,
    run: RunFolder,
    model: str,
    progress: Progress,
    *,
    open_runtime: OpenRuntime = open_crew,
) -> TrainResult:
    """Do every step of a run with `runtime.learners` learner processes.

    Args:
        config: of the run; its runtime is ray.
        parts: of the run, as this process opened them; the others open their own.
        run: its folder, on storage that all learners' machines share.
        model: folder or id that training starts from.
        progress: is told of stages and steps.
        open_runtime: starts what plays the episodes, in the sampler's process.

    Raises:
        LearnersLost: more often than `runtime.learner_failures`.
        Exception: what a learner or the sampler raised, as it was raised there.
    """
    del parts
    settings = config.runtime
    assert isinstance(settings, RaySettings)
    name = f"{crew_name()}-{secrets.token_hex(3)}"
    for number in range(settings.learner_failures + 1):
        remove_unfinished(run.path)
        checkpoint = run.latest_checkpoint()
        attempt = Attempt(
            config=config,
            run=run.path.resolve(),
            model=model,
            checkpoint=checkpoint.resolve() if checkpoint else None,
            name=f"{name}-{number}",
            number=number,
            open_runtime=open_runtime,
        )
        outcome = _make(attempt, settings, progress)
        if outcome.error is not None:
            raise outcome.error
        if outcome.result is not None:
            return outcome.result
        checkpoint = run.latest_checkpoint()
        since = checkpoint.name if checkpoint else "the beginning"
        if number < settings.learner_failures:
            why = f" (last was said by {outcome.said})" if outcome.said else ""
            progress.stage(f"{outcome.lost} is lost: the run goes on from {since}{why}")
    said = f"; last was said by {outcome.said}" if outcome.said else ""
    raise LearnersLost(
        f"{outcome.lost} is lost, the {settings.learner_failures + 1}th time in this run, which "
        f"runtime.learner_failures: {settings.learner_failures} does not allow; the run stands at {since}: see why "
        f"processes end (their machines' memory first, then the network between them){said}. Go on with --resume"
    )


def _make(attempt: Attempt, settings: RaySettings, progress: Progress) -> Outcome:
    """Run one attempt, and leave nothing of it behind."""
    groups = set(_placement_groups())
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = (
        ray.remote(RunActor)
        .options(
            name=attempt.name,
            num_cpus=0,
            max_restarts=0,
            max_concurrency=_MANY,
            scheduling_strategy=here,
            runtime_env={"env_vars": actor_environment(settings)},
        )
        .remote(attempt)
    )
    running: Any = None
    try:
        running = actor.run.remote()
        while True:
            is_over = bool(ray.wait([running], timeout=0)[0])
            for told in ray.get(actor.news.remote(0.0 if is_over else _NEWS_S)):
                show(progress, told)
            if is_over:
                outcome: Outcome = ray.get(running)
                return outcome
    except RayActorError:
        return Outcome(lost="the sampler's process")
    finally:
        _end(actor, running)
        for group in set(_placement_groups()) - groups:
            with suppress(Exception):
                remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))


def _end(actor: Any, running: Any) -> None:
    """End an attempt: politely, then at once; everything that its actor started ends with it."""
    deadline = time.monotonic() + _POLITELY_S
    if running is not None:
        with suppress(RayActorError, GetTimeoutError):
            ray.get(actor.close.remote(), timeout=_POLITELY_S)
        with suppress(Exception):
            ray.wait([running], timeout=max(0.0, deadline - time.monotonic()))
    with suppress(Exception):
        ray.kill(actor)


def _placement_groups() -> list[str]:
    """Those of this job that reserve something: an attempt that was killed can leave some."""
    job = ray.get_runtime_context().get_job_id()
    table = placement_group_table()
    return [name for name, state in table.items() if name.endswith(job) and state["state"] != "REMOVED"]
