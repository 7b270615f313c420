"""What plays a run's episodes and takes its weights, by `runtime` of the config: here, in this process.

`train.sampler` sees a `Runtime` and nothing below it, so the loop is the same whether the engine is an object of this
process or actors on a cluster (`train.ray_runtime`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from agent.engine import Engine, Sleeper
from agent.engines.opening import open_engine
from agent.trajectory import Trajectory
from envs.actor import EngineActor
from envs.episode import EpisodeSpec
from envs.episode_pool import EpisodePool
from envs.packed_weights import SharedWeights
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.retriever import RetrievalError
from train.assembly import Parts
from train.config import TrainConfig

if TYPE_CHECKING:
    import torch

    NewWeights = Iterable[tuple[str, torch.Tensor]] | SharedWeights
    """Named tensors, or what the processes of a run share already."""


class Runtime(Protocol):
    """Plays episodes with the newest weights. Everything but its making runs on one event loop."""

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        """Start episodes, all at once for whoever batches them; one future each, in order."""
        ...

    async def update_weights(self, named: "NewWeights", version: int) -> None:
        """Give the engine or engines new weights; when it returns, new requests are sampled with them."""
        ...

    async def pause(self) -> None:
        """Give the engines' GPU memory to the learner; nothing is played."""
        ...

    async def resume(self) -> None:
        """Take it back; sampling goes on once there are new weights."""
        ...

    async def answers(self, query: str) -> str | None:
        """Search once: None where the retriever answers and, where engines are processes, one of them does; else what
        is said.
        """
        ...

    async def readings(self) -> dict[str, float]:
        """Figures of the processes themselves, for the metrics."""
        ...

    async def close(self) -> None:
        """End everything that was started."""
        ...


class InProcess:
    """Engine, retriever and episodes in this process.

    Raises:
        ValueError: the engine cannot serve this model here.
    """

    def __init__(self, config: TrainConfig, parts: Parts, model: str) -> None:
        self._engine: Engine = open_engine(
            config.engine_opened, model, purpose="rollouts", dtype=config.engine_dtype, in_step=config.in_step
        )
        self._top_k = config.limits.top_k
        self._batcher = MicroBatcher(parts.index, **config.retrieval.model_dump())
        self._episodes = EpisodePool(
            actor=EngineActor(
                self._engine, temperature=config.rollout.temperature, timeout_s=config.runtime.action_timeout_s
            ),
            search=self._batcher.search,
            documents=DocumentReader(parts.index).open if parts.protocol.offers_open else None,
            protocol=parts.protocol,
            tokenizer=parts.tokenizer,
            limits=config.limits,
            max_concurrent=config.rollout.max_concurrent_episodes,
        )

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        """Start episodes; one future each, in order."""
        return self._episodes.submit(specs)

    async def update_weights(self, named: "NewWeights", version: int) -> None:
        """Replace the engine's weights in place; the loop goes on meanwhile, for an update may wait for what runs."""
        assert not isinstance(named, SharedWeights), "they are shared among processes, and this is the only one"
        await asyncio.to_thread(self._engine.update_weights, named, version)

    async def pause(self) -> None:
        """Put the engine to sleep; one that cannot is refused with the config."""
        assert isinstance(self._engine, Sleeper)
        await asyncio.to_thread(self._engine.sleep)

    async def resume(self) -> None:
        """Wake the engine."""
        assert isinstance(self._engine, Sleeper)
        await asyncio.to_thread(self._engine.wake)

    async def answers(self, query: str) -> str | None:
        """Search once, with the deadlines and retries of episodes."""
        try:
            await self._batcher.search(query, self._top_k)
        except RetrievalError as error:
            return str(error)
        return None

    async def readings(self) -> dict[str, float]:
        """None: there is one process."""
        return {}

    async def close(self) -> None:
        """Give up what is played and release engine and batcher; the index is the caller's."""
        await self._episodes.close()
        await self._batcher.close()
        await self._engine.close()
