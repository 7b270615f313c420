"""One attempt at a run whose learner is several processes: the actor that owns everything of it.

`RunActor` holds sampler, crew and ledger, and starts the learners with Ray Train; all of these processes are its own,
so that none outlives it. Each learner process runs `train.loop.learn` and asks this actor for units
(`train.ray_door`). The attempt ends with a result, with the error that a person must see, or with a lost process, after
which `train.ray_learners` makes another one.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import ray

from agent.trajectory import Unit
from envs.packed_weights import SharedWeights
from evaluation.metrics import Evaluation
from rewards.compose import Composition
from train.assembly import Parts, assemble
from train.checkpoint import admission_of, beginning, rewards_of
from train.config import TrainConfig
from train.judge import UnitJudge
from train.judge_outage import JudgeGuard
from train.ledger import Ledger
from train.ray_door import Told
from train.ray_rank import Outcome, learner_environment, outcome_of, portable, rank_function
from train.ray_runtime import OnRay
from train.run_folder import RunFolder
from train.runtime import Runtime
from train.runtime_config import RaySettings
from train.sampler import Sampler

_COLLECTIVES_S = 1800
"""Longest wait of a rank for another one, beside what an evaluation or an outage may take."""


class OpenRuntime(Protocol):
    """Starts what plays the episodes, on the event loop that uses it."""

    def __call__(
        self,
        config: TrainConfig,
        parts: Parts,
        model: str,
        *,
        name: str,
        tell: Callable[[str], None],
        ledger: Ledger,
    ) -> Awaitable[Runtime]:
        """See `train.ray_runtime.OnRay.open`."""
        ...


async def open_crew(
    config: TrainConfig, parts: Parts, model: str, *, name: str, tell: Callable[[str], None], ledger: Ledger
) -> Runtime:
    """The crew of a run."""
    return await OnRay.open(config, parts.index, model, name=name, tell=tell, ledger=ledger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What an attempt is made with. `number` counts from 0; `name` begins the actors' names.

    `checkpoint` is where sampler and learners go on, None at the beginning: chosen once, because a process of the
    attempt before, out of reach, may still write one.
    """

    config: TrainConfig
    run: Path
    model: str
    checkpoint: Path | None
    name: str
    number: int
    open_runtime: OpenRuntime = open_crew


class RunActor:
    """Runs one attempt; made as an actor, on the machine of the run's folder."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._sampler: asyncio.Future[Sampler]
        self._rewards: Composition
        self._judge: UnitJudge
        self._failures: list[tuple[int, BaseException]] = []
        self._ranks: dict[int, Any] = {}
        self._is_closed = False

    async def run(self) -> Outcome:
        """Start everything, wait for the learners' end, and end everything."""
        self._sampler = asyncio.get_running_loop().create_future()
        this = ray.get_runtime_context().current_actor
        learners = asyncio.create_task(asyncio.to_thread(self._fit, this))
        async with AsyncExitStack() as opened:
            try:
                try:
                    self._sampler.set_result(await self._open(opened))
                except Exception as error:
                    self._failures.append((-1, portable(error)))
                    self._end_ranks()
                    self._sampler.set_exception(error)
                    self._sampler.exception()  # seen, also where no rank asks
                return await learners
            finally:
                self._end_ranks()

    async def _open(self, opened: AsyncExitStack) -> Sampler:
        attempt, config = self._attempt, self._attempt.config
        parts = await asyncio.to_thread(assemble, config)
        opened.callback(parts.close)
        run = RunFolder.attach(attempt.run)
        state = beginning(attempt.checkpoint)
        if attempt.checkpoint:
            parts.rewards.load_state_dict(rewards_of(state))
        self._rewards = parts.rewards
        guard = JudgeGuard.of(
            parts.rewards.rewards, config.composition, patience_s=config.rollout.outage_patience_s
        )  # only tells a failing judge from a group without spread; learners wait for it
        self._judge = UnitJudge(parts.rewards, parts.estimator, parts.questions_by_id, keeps=False, guard=guard)
        ledger = Ledger(run.path / "ledger.jsonl")
        opened.callback(ledger.close)
        ledger.resume(state.step)
        tell = asyncio.get_running_loop().call_soon_threadsafe

        def say(line: str) -> None:
            tell(self._told.put_nowait, ("stage", line))

        runtime = await attempt.open_runtime(config, parts, attempt.model, name=attempt.name, tell=say, ledger=ledger)
        opened.push_async_callback(runtime.close)
        sampler = Sampler(
            config,
            parts,
            runtime,
            judge=self._judge,
            ledger=ledger,
            version=state.step,
            state=admission_of(state, config.rollout.questions_per_step),
            tell=say,
        )
        opened.push_async_callback(sampler.close)
        return sampler

    async def next_units(self, step: int, rank: int, world_size: int) -> list[Unit]:
        """See `Sampler.next_units`."""
        return await (await self._ready()).next_units(step, rank, world_size)

    async def publish(self, shared: SharedWeights, version: int) -> None:
        """See `Sampler.publish`."""
        sampler = await self._ready()
        self._rewards.step = version  # groups are asked whether they teach at the weights of now
        await sampler.publish(shared, version)

    async def pause(self) -> None:
        """See `Sampler.pause`."""
        await (await self._ready()).pause()

    async def resume(self) -> None:
        """See `Sampler.resume`."""
        await (await self._ready()).resume()

    async def evaluate(self, step: int) -> Evaluation:
        """See `Sampler.evaluate`."""
        return await (await self._ready()).evaluate(step)

    async def checkpoint(self) -> dict[str, Any]:
        """See `Sampler.checkpoint`."""
        return await (await self._ready()).checkpoint()

    async def readings(self) -> dict[str, float]:
        """See `Sampler.readings`; and what was asked of judges here, to choose groups."""
        figures = await (await self._ready()).readings()
        asked = self._judge.take_reading()
        return {**figures, **asked.metrics()} if asked else figures

    async def tell(self, told: Told) -> None:
        """Keep something for whoever follows the run."""
        self._told.put_nowait(told)

    async def news(self, timeout_s: float) -> list[Told]:
        """What was told since the last call; waits for something, but not longer than this."""
        found: list[Told] = []
        try:
            async with asyncio.timeout(timeout_s):
                found.append(await self._told.get())
        except TimeoutError:
            return found
        while not self._told.empty():
            found.append(self._told.get_nowait())
        return found

    async def joined(self, rank: int, actor: Any) -> int:
        """A learner's process has begun; returns this process's id. Raises RuntimeError where nothing is to begin."""
        if self._is_closed:
            raise RuntimeError("the run is being ended")
        self._ranks[rank] = actor
        return os.getpid()

    async def failed(self, rank: int, error: BaseException) -> None:
        """A rank ends with this error."""
        self._failures.append((rank, error))

    async def close(self) -> None:
        """End the learners, whatever they do; `run` then returns."""
        self._end_ranks()

    async def _ready(self) -> Sampler:
        return await asyncio.shield(self._sampler)

    def _end_ranks(self) -> None:
        self._is_closed = True
        for actor in self._ranks.values():
            ray.kill(actor)
        self._ranks.clear()

    def _fit(self, this: Any) -> Outcome:
        """Run the learners under Ray Train, on a thread; Ray Train's own retries are off."""
        from ray import train
        from ray.train.torch import TorchConfig, TorchTrainer

        api: Any = train  # typed as Ray Train's first version, which is no longer what is there
        attempt = self._attempt
        settings = attempt.config.runtime
        assert isinstance(settings, RaySettings)
        resources = {"CPU": settings.learner_cpus, "GPU": settings.learner_gpus}
        patience = attempt.config.rollout.outage_patience_s + settings.episode_timeout_s

        class Trainer(TorchTrainer):
            """Without Ray Train's detached cleaner of placement groups, which may outlive the run: who starts an
            attempt removes what it left.
            """

            def _create_default_callbacks(self) -> list[Any]:
                made = super()._create_default_callbacks()  # type: ignore[misc]
                return [one for one in made if type(one).__name__ != "PlacementGroupCleanerCallback"]

        trainer: Any = Trainer(
            cast(
                Callable[[], None], rank_function(attempt.config, attempt.run, attempt.model, attempt.checkpoint, this)
            ),
            torch_config=TorchConfig(
                backend="nccl" if settings.learner_gpus else "gloo", timeout_s=int(_COLLECTIVES_S + patience)
            ),
            scaling_config=api.ScalingConfig(
                num_workers=settings.learners,
                use_gpu=settings.learner_gpus > 0,
                resources_per_worker={name: amount for name, amount in resources.items() if amount},
            ),
            run_config=api.RunConfig(
                name=attempt.name,
                storage_path=str(attempt.run / ".learner" / "ray"),
                failure_config=api.FailureConfig(max_failures=0, controller_failure_limit=0),
                worker_runtime_env={"env_vars": learner_environment(settings)},
            ),
        )
        try:
            result = trainer.fit()
        except Exception as error:
            return outcome_of(error, self._failures)
        return Outcome(result=result.return_value)


def actor_environment(settings: RaySettings) -> dict[str, str]:
    """Environment variables of the actor, which Ray hands on to what it starts: Ray Train reads some there alone."""
    return {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a config's relative paths are those of where the run was started
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(settings.start_timeout_s),
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",
        "OMP_NUM_THREADS": "1",
    }
