"""What plays a run's episodes and takes its weights, by `runtime` of the config: actors on Ray."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from agent.engines.loading import load_model_config, model_window
from agent.engines.opening import VLLMSpec
from agent.trajectory import Trajectory
from envs.crew_settings import CrewHealth, CrewSettings
from envs.engine_server import EngineHealth
from envs.episode import EpisodeSpec
from envs.episode_worker import WorkerHealth
from envs.ray_crew import RayCrew
from envs.ray_episodes import RayEpisodes
from envs.ray_makers import EngineMaker, RetrieverMaker, WorkerMaker
from envs.ray_session import crew_name as crew_name
from envs.ray_session import ray_session as connected
from envs.retrieval_replicas import ReplicaClient, ReplicaSettings
from retrieval.batcher import MicroBatcher
from retrieval.retriever import OpenRetriever, RetrievalError
from train.config import TrainConfig
from train.ledger import Ledger
from train.runtime_config import RaySettings

if TYPE_CHECKING:
    from train.runtime import NewWeights

_READINGS_TIMEOUT_S = 2.0


@contextlib.contextmanager
def ray_session(settings: RaySettings) -> Iterator[None]:
    """Connect to the cluster, or start a Ray on this machine that ends with the block; nothing where one is connected.

    A Ray of this machine gets as many CPUs as the run reserves, where the machine has fewer: they are shares.

    Raises:
        ConnectionError: there is no cluster at the address.
    """
    wanted = sum(bundle.get("CPU", 0.0) for bundle in crew_settings(settings).bundles())
    wanted += settings.learners * settings.learner_cpus if settings.learners > 1 else 0.0
    with connected(settings.address or os.environ.get("RAY_ADDRESS"), cpus=wanted):
        yield


def crew_settings(settings: RaySettings) -> CrewSettings:
    """The crew that the config asks for."""
    return CrewSettings(
        engines=settings.engines,
        engine_cpus=settings.engine_cpus,
        engine_gpus=settings.engine_gpus,
        workers=settings.workers,
        worker_cpus=settings.worker_cpus,
        retrievers=settings.retrievers,
        retriever_cpus=settings.retriever_cpus,
        retriever_gpus=settings.retriever_gpus,
        heartbeat_s=settings.heartbeat_s,
        heartbeat_timeout_s=settings.heartbeat_timeout_s,
        engine_silence_s=settings.engine_silence_s,
        start_timeout_s=settings.start_timeout_s,
    )


def no_engine(health: CrewHealth) -> str | None:
    """What is wrong in words, where no engine of a crew answers; else None."""
    if any(isinstance(state, EngineHealth) for state in health.engines):
        return None
    said = next((f": {str(state).splitlines()[0]}" for state in health.engines if state is not None), "")
    return f"none of {len(health.engines)} engines answers{said}"


def engine_window(config: TrainConfig, model: str) -> int:
    """Most tokens of an episode that the engine takes."""
    window = model_window(load_model_config(model, trust_remote_code=config.policy.trust_remote_code))
    limit = config.engine.max_model_len if isinstance(config.engine, VLLMSpec) else None
    return min(window, limit) if limit else window


class OnRay:
    """Engines, retrieval replicas and episode workers as actors. Made by `open`, on the event loop that uses it."""

    def __init__(self, crew: RayCrew, episodes: RayEpisodes, asking: MicroBatcher | ReplicaClient, top_k: int) -> None:
        self._crew = crew
        self._episodes = episodes
        self._asking = asking
        self._top_k = top_k
        self._again = 0

    @classmethod
    async def open(
        cls,
        config: TrainConfig,
        index: OpenRetriever,
        model: str,
        *,
        name: str,
        tell: Callable[[str], None],
        ledger: Ledger,
    ) -> "OnRay":
        """Start the crew of a run.

        Args:
            config: of the run; its runtime is ray.
            index: this process's own retriever, which is asked whether an outage is over.
            model: folder or id that engines open.
            name: begins the actors' names.
            tell: is told in one line what a person should know.
            ledger: told of an episode that is played again, and why.

        Raises:
            TimeoutError: the cluster has no room, or the actors did not start in time.
        """
        settings = config.runtime
        assert isinstance(settings, RaySettings)
        retriever = RetrieverMaker(
            index=config.data.index, top_k=config.limits.top_k, corpus_index=config.data.corpus_index
        )
        crew = RayCrew(
            open_engine=EngineMaker(spec=config.engine_opened, model=model, dtype=config.engine_dtype),
            make_worker=WorkerMaker(
                protocol=config.protocol.name,
                overrides=config.protocol.overrides,
                model=model,
                trust_remote_code=config.policy.trust_remote_code,
                limits=config.limits,
                retriever=retriever,
                batching=config.retrieval.model_dump(),
                temperature=config.rollout.temperature,
                context_window=engine_window(config, model),
                timeout_s=settings.action_timeout_s,
                max_concurrent=settings.episodes_per_worker,
            ),
            open_retriever=retriever,
            asking=ReplicaSettings(**config.retrieval.model_dump()),
            settings=crew_settings(settings),
            name=name,
            tell=tell,
        )
        await crew.__aenter__()
        runtime: OnRay

        def again(spec: EpisodeSpec, why: str) -> None:
            runtime._again += 1
            ledger.write("again", unit=spec.unit_id, trajectory=spec.id, why=why)

        episodes = RayEpisodes(
            crew.workers,
            max_concurrent=min(config.rollout.max_concurrent_episodes, settings.workers * settings.episodes_per_worker),
            deadline_s=settings.episode_timeout_s,
            on_again=again,
        )
        asking = crew.replica_client() or MicroBatcher(index, **config.retrieval.model_dump())
        runtime = cls(crew, episodes, asking, config.limits.top_k)
        return runtime

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        """Start episodes; one future each, in order."""
        return self._episodes.submit(specs)

    async def update_weights(self, named: "NewWeights", version: int) -> None:
        """Give every engine new weights, through Ray's object store."""
        await self._crew.update_weights(named, version)

    async def pause(self) -> None:
        """Put every engine to sleep."""
        await self._crew.sleep()

    async def resume(self) -> None:
        """Wake every engine."""
        await self._crew.wake()

    async def answers(self, query: str) -> str | None:
        """Search once, with the deadlines and retries of episodes, and see that an engine can be reached."""
        try:
            await self._asking.search(query, self._top_k)
        except RetrievalError as error:
            return str(error)
        return no_engine(await self._crew.health())

    async def readings(self) -> dict[str, float]:
        """How late the workers' event loops are, live episodes, and what was replaced or played again so far."""
        counts = {"ray/replaced_actors": float(self._crew.replaced), "ray/episodes_again": float(self._again)}
        try:
            async with asyncio.timeout(_READINGS_TIMEOUT_S):
                health = await self._crew.health()
        except TimeoutError:
            return counts  # an actor is being started again
        workers = [state for state in health.workers if isinstance(state, WorkerHealth)]
        lag = self._crew.take_loop_lag_s()
        return {**counts, "ray/loop_lag_s": lag, "ray/live_episodes": float(sum(state.live for state in workers))}

    async def close(self) -> None:
        """Give up what is played, and end every actor."""
        await self._episodes.close()
        await self._crew.close()
        await self._asking.close()
