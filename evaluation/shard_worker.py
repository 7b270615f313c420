"""What a worker's process runs when an evaluation is sharded: the conditions of one process, and no torch.

This module is imported by processes that hold no model (`envs.without_torch`), so it imports nothing that needs one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from agent.hugging_face import load_tokenizer
from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory
from envs.actor import Actor, ScriptedActor, ScriptedPolicy
from envs.engine_server import RemoteActor
from envs.episode import EpisodeSpec
from envs.episode_worker import WorkerHealth
from envs.ray_makers import RetrieverMaker
from envs.search_env import EpisodeLimits
from evaluation.conditions import ConditionPools, condition_of
from retrieval.retriever import OpenRetriever

if TYPE_CHECKING:
    from envs.ray_actors import AskEngine
    from envs.retrieval_replicas import ReplicaClient

ACTION_TIMEOUT_S = 900.0
"""Longest wait for one sampled turn, replaced engines included."""


class ConditionWorker:
    """Plays episodes in a worker's process, each under its condition."""

    def __init__(self, pools: ConditionPools, index: OpenRetriever) -> None:
        self._pools = pools
        self._index = index
        self._live = self._finished = 0

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Play one episode to its end."""
        self._live += 1
        try:
            await self._pools.prepare(condition_of(spec.id))
            [future] = self._pools.submit([spec])
            return await future
        finally:
            self._live -= 1
            self._finished += 1

    async def health(self) -> WorkerHealth:
        """What this worker is at."""
        return WorkerHealth(live=self._live, finished=self._finished, loop_lag_s=0.0, waits=())

    async def close(self) -> None:
        """Give up what is played, and the index."""
        await self._pools.close()
        self._index.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMaker:
    """Makes a worker, in its process. Without `scripted` the policy is an engine's; `model` has its tokenizer."""

    protocol: str
    retriever: RetrieverMaker
    limits: EpisodeLimits
    limits_of: dict[str, EpisodeLimits]
    seed: int
    max_concurrent: int
    temperature: float
    model: str
    trust_remote_code: bool
    context_window: int | None
    scripted: ScriptedPolicy | None
    tokenizer: PreTrainedTokenizerBase | None

    def __call__(self, ask_engine: "AskEngine", replicas: "ReplicaClient | None") -> ConditionWorker:
        """The worker."""
        del replicas
        tokenizer = self.tokenizer or load_tokenizer(self.model, trust_remote_code=self.trust_remote_code)
        actor: Actor
        if self.scripted is not None:
            actor = ScriptedActor(self.scripted, tokenizer)
        else:
            assert self.context_window is not None
            actor = RemoteActor(
                ask_engine,
                context_window=self.context_window,
                temperature=self.temperature,
                timeout_s=ACTION_TIMEOUT_S,
            )
        index = self.retriever()
        pools = ConditionPools(
            actor=actor,
            protocol=load_protocol(self.protocol),
            tokenizer=tokenizer,
            index=index,
            limits=self.limits,
            limits_of=self.limits_of,
            seed=self.seed,
            max_concurrent=self.max_concurrent,
        )
        return ConditionWorker(pools, index)
