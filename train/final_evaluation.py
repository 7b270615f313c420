"""The final evaluation of a trained policy: greedy, on questions that it has never been trained or selected on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent.engines.transformers import Schedule, load_engine
from agent.hugging_face import load_tokenizer
from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.metrics import Evaluation
from evaluation.run import evaluate_policy
from retrieval.ready import ready_retriever
from retrieval.retriever import OpenRetriever
from train.config import TrainConfig

SCHEDULE: Schedule = "deterministic"
"""Batches that depend on question ids alone, so that an evaluation gives the same figures again."""

EVALUATION_BATCH = 256
"""Rows decoded together."""


def retriever_of(config: TrainConfig) -> OpenRetriever:
    """What a run searched, with the passages on this machine; close it."""
    return ready_retriever(config.data.index, top_k=config.limits.top_k, corpus_index=config.data.corpus_index)


def evaluate_model(
    model: Path, config: TrainConfig, index: OpenRetriever, questions: Sequence[Question]
) -> tuple[Evaluation, list[Trajectory]]:
    """Ask the policy in the folder `model` every question once, under a run's protocol, limits and precision."""
    return asyncio.run(_evaluate(model, config, index, questions))


async def _evaluate(
    model: Path, config: TrainConfig, index: OpenRetriever, questions: Sequence[Question]
) -> tuple[Evaluation, list[Trajectory]]:
    engine = load_engine(str(model), schedule=SCHEDULE, dtype=config.engine_dtype, max_batch=EVALUATION_BATCH)
    try:
        return await evaluate_policy(
            questions,
            engine=engine,
            retriever=index,
            protocol=load_protocol(config.protocol.name, **config.protocol.overrides),
            tokenizer=load_tokenizer(str(model)),
            limits=config.limits,
        )
    finally:
        await engine.close()
