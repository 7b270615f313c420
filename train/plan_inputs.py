"""What a plan is made of besides the config: sizes of model, questions, prompts and index, as far as they are here.

`inputs_of` reads the parts of a run that can start; `inputs_found` looks at each input alone, so that a recipe can be
planned on a machine that lacks its model, its data or its index: what is missing is listed, and the rest is planned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.engines.loading import load_model_config
from agent.hugging_face import load_tokenizer
from agent.protocol import encode_prompt
from agent.protocols.registry import load_protocol
from envs.datasets import read_questions
from envs.question import Question
from retrieval.ready import ready_retriever
from retrieval.retriever import RetrievalError
from train.assembly import Parts
from train.config import TrainConfig
from train.plan_model import ModelShape, read_shape

Found = TypeVar("Found")
_SAMPLE = 200
"""So many questions are encoded to tell how long prompts are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """Sizes that a plan needs; None is what is not known on this machine, and `missing` says why, a line each.

    prompt_tokens: shortest and longest prompt of a sample. index_bytes: on disk, of a folder.
    """

    shape: ModelShape | None
    prompt_tokens: tuple[int, int] | None
    num_train: int | None
    num_dev: int | None
    num_passages: int | None
    index_bytes: int | None
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def inputs_of(config: TrainConfig, parts: Parts) -> PlanInputs:
    """The inputs of a run whose parts are all here."""
    return PlanInputs(
        shape=read_shape(config.policy.model, trust_remote_code=config.policy.trust_remote_code),
        prompt_tokens=_prompt_tokens(config, parts.train_questions, parts.tokenizer),
        num_train=len(parts.train_questions),
        num_dev=len(parts.dev_questions),
        num_passages=parts.index.num_passages,
        index_bytes=_index_bytes(config),
        warnings=parts.warnings,
    )


def inputs_found(config: TrainConfig) -> PlanInputs:
    """The inputs that are here, each looked at alone; `missing` has a line for each of the others."""
    missing: list[str] = []

    def try_to(what: str, look: Callable[[], Found]) -> Found | None:
        try:
            return look()
        except (ValueError, OSError, RetrievalError) as error:
            missing.append(f"{what}: {_one_line(error)}")
            return None

    policy, data = config.policy, config.data
    trust = policy.trust_remote_code
    tokenizer = None
    shape = try_to("policy.model", lambda: read_shape(policy.model, trust_remote_code=trust))
    if shape is not None:
        try_to("policy.model's weights", lambda: load_model_config(policy.model, trust_remote_code=trust))
        tokenizer = try_to("policy.model's tokenizer", lambda: load_tokenizer(policy.model, trust_remote_code=trust))
    train = try_to("data.train_questions", lambda: read_questions(data.train_questions, format=data.format))
    dev: list[Question] | None = []
    if data.dev_questions is not None:
        asked = data.dev_questions
        dev = try_to("data.dev_questions", lambda: read_questions(asked, format=data.format)[: data.dev_limit])

    def passages() -> int | None:
        with ready_retriever(data.index, top_k=config.limits.top_k, corpus_index=data.corpus_index) as index:
            return index.num_passages

    return PlanInputs(
        shape=shape,
        prompt_tokens=_prompt_tokens(config, train, tokenizer) if train and tokenizer is not None else None,
        num_train=len(train) if train is not None else None,
        num_dev=len(dev) if dev is not None else None,
        num_passages=try_to("data.index", passages),
        index_bytes=_index_bytes(config),
        missing=tuple(missing),
    )


def _prompt_tokens(config: TrainConfig, questions: list[Question], tokenizer: object) -> tuple[int, int] | None:
    protocol = load_protocol(config.protocol.name, **config.protocol.overrides)
    lengths = [len(encode_prompt(protocol, q.text, tokenizer)) for q in questions[:_SAMPLE]]  # type: ignore[arg-type]
    return (min(lengths), max(lengths)) if lengths else None


def _index_bytes(config: TrainConfig) -> int | None:
    folder = Path(str(config.data.index))
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
