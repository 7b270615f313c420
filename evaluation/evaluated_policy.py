"""The policy that an evaluation asks: a model's folder or hub id, or one of the scripted ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from agent.engine import Engine
from agent.engines.transformers import Precision, Schedule, load_engine
from agent.hugging_face import load_tokenizer
from agent.protocol import AgentProtocol
from agent.tiny import build_tokenizer
from envs.actor import ScriptedPolicy
from envs.datasets import read_questions
from envs.policies.closed_book import answers_of
from envs.policies.registry import load_policy
from envs.question import Question
from retrieval.retriever import Retriever

SCRIPTED = "scripted:"
SCHEDULE: Schedule = "deterministic"
"""Batches that depend on question ids alone, so that an evaluation gives the same figures again."""

_TOKENIZER_QUESTIONS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedPolicy:
    """A tokenizer with either an engine or a scripted policy. `context_window` is the engine's, in tokens."""

    tokenizer: PreTrainedTokenizerBase
    engine: Engine | None = None
    scripted: ScriptedPolicy | None = None
    context_window: int | None = None


def load_model_policy(
    model: str, *, max_batch: int, dtype: Precision, trust_remote_code: bool = False
) -> EvaluatedPolicy:
    """A Hugging Face folder or id.

    Raises:
        ValueError: it has no tokenizer or weights.
    """
    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    engine = load_engine(
        model, schedule=SCHEDULE, max_batch=max_batch, dtype=dtype, trust_remote_code=trust_remote_code
    )
    return EvaluatedPolicy(tokenizer=tokenizer, engine=engine, context_window=engine.context_window)


def load_scripted_policy(
    name: str,
    protocol: AgentProtocol,
    questions: Sequence[Question],
    retriever: Retriever,
    *,
    top_k: int,
    answers_from: Path | None = None,
) -> EvaluatedPolicy:
    """A scripted policy, with a tokenizer made of the questions and of what a search for each of them finds.

    It is not made of the head of the corpus, which a server does not give: so an index and a server over it make the
    same one, and the same trajectories.

    Raises:
        ValueError: there is no such policy.
        RetrievalError: a search was not answered.
    """
    params: dict[str, Any] = {}
    if name == "closed_book":
        params["answers"] = answers_of(questions if answers_from is None else read_questions(answers_from))
    scripted = load_policy(name, protocol, **params)
    texts = [question.text for question in questions]
    found = retriever.search(texts[:_TOKENIZER_QUESTIONS], top_k) if texts else []
    texts += dict.fromkeys(hit.passage.contents for hits in found for hit in hits)
    tokenizer = build_tokenizer(texts, tags=protocol.tags, vocab_size=8192)
    return EvaluatedPolicy(tokenizer=tokenizer, scripted=scripted)
