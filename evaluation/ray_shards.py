"""An evaluation's episodes sharded over Ray: workers play them, engines sample, whatever dies is started again.

The same conditions as in one process (`evaluation.conditions`), inside every worker's process; this process keeps the
questions, the store and the figures. Workers hold no model and no torch: an index whose encoder needs one is served
(`waymark serve-index`) and named by its address.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.trajectory import Trajectory
from envs.crew_settings import CrewSettings
from envs.episode import EpisodeSpec
from envs.ray_crew import RayCrew
from envs.ray_episodes import RayEpisodes
from envs.ray_makers import EngineMaker, RetrieverMaker
from envs.ray_session import crew_name, ray_session
from envs.search_env import EpisodeLimits
from evaluation.evaluated_policy import EvaluatedPolicy
from evaluation.job_settings import EvaluationJob
from evaluation.shard_worker import ShardMaker

_EPISODE_TIMEOUT_S = 3600.0


class RayShards:
    """Plays a job's episodes on a cluster; made by `open`, on the event loop that uses it."""

    def __init__(self, session: ExitStack, crew: RayCrew, episodes: RayEpisodes) -> None:
        self._session = session
        self._crew = crew
        self._episodes = episodes

    @classmethod
    async def open(
        cls, job: EvaluationJob, policy: EvaluatedPolicy, limits_of: Mapping[str, EpisodeLimits]
    ) -> "RayShards":
        """Connect, start engines and workers.

        Raises:
            ConnectionError: there is no cluster at the address.
            TimeoutError: it has no room, or the actors did not start in time.
        """
        settings = CrewSettings(
            engines=0 if policy.scripted is not None else job.ray_engines,
            workers=job.ray_workers,
            engine_gpus=job.ray_engine_gpus,
            start_timeout_s=600.0,
        )
        make = ShardMaker(
            protocol=job.protocol,
            retriever=RetrieverMaker(
                index=_absolute(job.index),
                top_k=job.limits.top_k,
                corpus_index=job.corpus_index.absolute() if job.corpus_index else None,
            ),
            limits=job.limits,
            limits_of=dict(limits_of),
            seed=job.seed,
            max_concurrent=job.max_batch,
            temperature=job.temperature,
            model=str(_absolute(job.policy)),
            trust_remote_code=job.trust_remote_code,
            context_window=policy.context_window,
            scripted=policy.scripted,
            tokenizer=policy.tokenizer if policy.scripted is not None else None,
        )
        with ExitStack() as session:
            session.enter_context(
                ray_session(job.ray_address, cpus=sum(bundle.get("CPU", 0.0) for bundle in settings.bundles()))
            )
            crew = RayCrew(
                open_engine=EngineMaker(spec=job.spec(), model=make.model, dtype=job.dtype, purpose="evaluation"),
                make_worker=make,  # type: ignore[arg-type]  # a ConditionWorker is asked for the same
                settings=settings,
                name=crew_name(),
            )
            await crew.__aenter__()
            episodes = RayEpisodes(
                crew.workers, max_concurrent=job.ray_workers * job.max_batch, deadline_s=_EPISODE_TIMEOUT_S
            )
            return cls(session.pop_all(), crew, episodes)

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        """Start episodes; one future each, in order."""
        return self._episodes.submit(specs)

    async def close(self) -> None:
        """Give up what is played, end every actor, and leave the cluster."""
        try:
            await self._episodes.close()
            await self._crew.close()
        finally:
            self._session.close()


def _absolute(given: Any) -> Any:
    """A path that is there as one that other processes find; whatever else as it is."""
    return str(Path(given).absolute()) if isinstance(given, (str, Path)) and Path(given).exists() else given
