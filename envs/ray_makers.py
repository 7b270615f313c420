"""What the actors of a run are made with: plain data that travels to their processes and is opened there.

This module is imported by episode workers, which hold no model: torch and vLLM are imported inside `EngineMaker` alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agent.hugging_face import load_tokenizer
from agent.protocols.registry import load_protocol
from envs.engine_server import RemoteActor
from envs.episode_limits import EpisodeLimits
from envs.episode_worker import EpisodeWorker
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.ready import ready_retriever

if TYPE_CHECKING:
    from agent.engine import Engine
    from envs.ray_actors import AskEngine
    from envs.retrieval_replicas import ReplicaClient
    from retrieval.retriever import OpenRetriever


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMaker:
    """Opens the engine of an engine's process; `spec` is that of the config, `dtype` what it leaves open.

    What it samples is trained on, unless `purpose` is `evaluation`.
    """

    spec: Any
    model: str
    dtype: Any
    purpose: Literal["rollouts", "evaluation"] = "rollouts"

    def __call__(self) -> "Engine":
        """The engine."""
        from agent.engines.opening import open_engine

        return open_engine(self.spec, self.model, purpose=self.purpose, dtype=self.dtype, in_step=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverMaker:
    """Opens the retriever of a replica's or a worker's process."""

    index: Any
    top_k: int
    corpus_index: Path | None

    def __call__(self) -> "OpenRetriever":
        """The retriever."""
        return ready_retriever(self.index, top_k=self.top_k, corpus_index=self.corpus_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMaker:
    """Makes the worker of a worker's process; it searches through replicas, or opens the index itself."""

    protocol: str
    overrides: dict[str, Any]
    model: str
    trust_remote_code: bool
    limits: EpisodeLimits
    retriever: RetrieverMaker
    batching: dict[str, Any]
    temperature: float
    context_window: int
    timeout_s: float
    max_concurrent: int

    def __call__(self, ask_engine: "AskEngine", replicas: "ReplicaClient | None") -> EpisodeWorker:
        """The worker."""
        protocol = load_protocol(self.protocol, **self.overrides)
        actor = RemoteActor(
            ask_engine, context_window=self.context_window, temperature=self.temperature, timeout_s=self.timeout_s
        )
        settings: dict[str, Any] = {
            "actor": actor,
            "protocol": protocol,
            "tokenizer": load_tokenizer(self.model, trust_remote_code=self.trust_remote_code),
            "limits": self.limits,
            "max_concurrent": self.max_concurrent,
        }
        if replicas is not None:
            opens = replicas.documents if protocol.offers_open else None
            return EpisodeWorker(search=replicas.search, documents=opens, **settings)
        index = self.retriever()
        batcher = MicroBatcher(index, **self.batching)

        async def close() -> None:
            await batcher.close()
            index.close()

        documents = DocumentReader(index).open if protocol.offers_open else None
        return EpisodeWorker(search=batcher.search, documents=documents, on_close=close, **settings)
