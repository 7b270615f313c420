"""The final evaluation of a trained policy: greedy, on questions that it has never been trained or selected on, over
searches as noisy as the run's own evaluations.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agent.engine import Engine
from agent.engines.transformers import Schedule, load_engine
from agent.hugging_face import load_tokenizer
from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.consistency import Consistency
from evaluation.metrics import Evaluation
from evaluation.run import evaluate_policy, evaluate_policy_consistency
from retrieval.ready import ready_retriever
from retrieval.retriever import OpenRetriever
from train.config import TrainConfig

SCHEDULE: Schedule = "deterministic"
"""Batches that depend on question ids alone, so that an evaluation gives the same figures again."""

EVALUATION_BATCH = 256
"""Rows decoded together."""

Found = TypeVar("Found")


def retriever_of(config: TrainConfig) -> OpenRetriever:
    """What a run searched, with the passages on this machine; close it."""
    return ready_retriever(config.data.index, top_k=config.limits.top_k, corpus_index=config.data.corpus_index)


def evaluate_model(
    model: Path, config: TrainConfig, index: OpenRetriever, questions: Sequence[Question]
) -> tuple[Evaluation, list[Trajectory]]:
    """Ask the policy in the folder `model` every question once, under a run's protocol, limits and precision."""

    async def evaluate(engine: Engine) -> tuple[Evaluation, list[Trajectory]]:
        return await evaluate_policy(questions, engine=engine, retriever=index, **_settings(model, config))

    return asyncio.run(_with_engine(model, config, evaluate))


def evaluate_model_consistency(
    model: Path, config: TrainConfig, index: OpenRetriever, questions: Sequence[Question], *, wordings: int
) -> Consistency:
    """Ask the policy every question in several wordings; see `evaluation.consistency`."""

    async def evaluate(engine: Engine) -> Consistency:
        return await evaluate_policy_consistency(
            questions, engine=engine, retriever=index, wordings=wordings, **_settings(model, config)
        )

    return asyncio.run(_with_engine(model, config, evaluate))


def _settings(model: Path, config: TrainConfig) -> dict[str, Any]:
    noise = config.rollout.noise
    return {
        "protocol": load_protocol(config.protocol.name, **config.protocol.overrides),
        "tokenizer": load_tokenizer(str(model)),
        "limits": config.limits,
        "noise": noise.evaluation if noise else 0.0,
    }


async def _with_engine(model: Path, config: TrainConfig, evaluate: Callable[[Engine], Awaitable[Found]]) -> Found:
    engine = load_engine(str(model), schedule=SCHEDULE, dtype=config.engine_dtype, max_batch=EVALUATION_BATCH)
    try:
        return await evaluate(engine)
    finally:
        await engine.close()
