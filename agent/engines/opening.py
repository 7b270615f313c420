"""Engines by config: which of the three serves the policy, with its settings, opened with one call.

    engine: transformers                                   the embedded one
    engine: vllm                                           vLLM, on this machine
    engine: {kind: vllm, on_update: continue, max_num_seqs: 64}
    engine: {kind: openai, url: "http://127.0.0.1:8000"}   a server

Only what the config names is imported.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field

from agent.engine import Engine
from agent.engines.openai_settings import OpenAISettings
from agent.engines.served_model import ServedModel
from agent.engines.vllm_settings import VLLMSettings, refuse_sleep

Purpose = Literal["evaluation", "rollouts"]
Precision = Literal["float32", "bfloat16"]


class TransformersSpec(BaseModel):
    """The embedded engine, on the learner's own library."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["transformers"] = "transformers"
    """The engine."""
    schedule: Literal["auto", "deterministic", "eager"] = "auto"
    """What is batched with what: by keys alone, or by what waits (`agent.engines.transformers`). `auto`: deterministic
    where episodes and engine share one process and wait for each policy version, else eager."""
    max_batch: int = Field(default=256, ge=1)
    """Most rows decoded together."""
    dtype: Precision | None = None
    """Precision of the computation (the weights stay as they are); None is the learner's, so that logprobs agree."""
    device: str | None = None
    """torch's name of the device; None is the GPU where there is one."""
    trust_remote_code: bool = False
    """Let the model's folder bring code of its own."""

    def chosen_schedule(self, *, in_step: bool) -> Literal["deterministic", "eager"]:
        """The schedule, where `auto` depends on whether every live episode waits for each version in this process."""
        if self.schedule != "auto":
            return self.schedule
        return "deterministic" if in_step else "eager"


class VLLMSpec(VLLMSettings):
    """vLLM on this machine."""

    kind: Literal["vllm"] = "vllm"
    """The engine."""


class OpenAISpec(OpenAISettings):
    """A served model."""

    kind: Literal["openai"] = "openai"
    """The engine."""


def _by_name(given: Any) -> Any:
    if isinstance(given, str):
        return {"kind": given}
    return {"kind": "transformers", **given} if isinstance(given, dict) else given


AnySpec = TransformersSpec | VLLMSpec | OpenAISpec

EngineSettings = Annotated[Annotated[AnySpec, Discriminator("kind")], BeforeValidator(_by_name)]
"""A field of a config: an engine's name, or a mapping with `kind` (transformers where left out) and its settings."""


def check_engine(spec: AnySpec, model: str | Path) -> None:
    """Refuse, before anything is spent, what this engine could not serve on this machine.

    Raises:
        ValueError: no such model, or one that vLLM has no kernels for.
    """
    if isinstance(spec, VLLMSpec):
        import torch

        on_cpu = not torch.cuda.is_available()
        served = ServedModel(model, max_model_len=spec.max_model_len, trust_remote_code=spec.trust_remote_code)
        served.check_servable(on_cpu=on_cpu)
        refuse_sleep(spec, on_cpu=on_cpu)
        if spec.chosen_driver() == "process":
            spec.chosen_transfer(on_cpu=on_cpu)


def open_engine(
    spec: AnySpec,
    model: str | Path,
    *,
    purpose: Purpose = "evaluation",
    version: int = 0,
    dtype: Precision = "float32",
    in_step: bool = True,
) -> Engine:
    """The engine that the config names, serving a model.

    Args:
        spec: which engine, and its settings.
        model: a Hugging Face folder or id; a served model's tokenizer is read from it.
        purpose: "rollouts" refuses a server whose answers cannot be trained on.
        version: of the model's weights.
        dtype: the precision where the settings leave it open.
        in_step: whether every live episode is of this process and waits for each version: what `auto` schedules mean.

    Raises:
        ValueError: no such model, one that the engine cannot serve, or a library that is not installed.
        EngineError: a server does not answer.
    """
    if isinstance(spec, TransformersSpec):
        from agent.engines.transformers import load_engine

        return load_engine(
            model,
            schedule=spec.chosen_schedule(in_step=in_step),
            max_batch=spec.max_batch,
            dtype=spec.dtype or dtype,
            device=spec.device,
            trust_remote_code=spec.trust_remote_code,
            version=version,
        )
    if isinstance(spec, VLLMSpec):
        return _open_vllm(spec.model_copy(update={"dtype": spec.dtype or dtype}), model, version)
    return _open_server(spec, model, purpose, version)


def _open_vllm(spec: VLLMSpec, model: str | Path, version: int) -> Engine:
    if spec.chosen_driver() == "process":
        from agent.engines.vllm_async import AsyncVLLMEngine

        return AsyncVLLMEngine(model, spec, version=version)
    from agent.engines.vllm import VLLMEngine

    return VLLMEngine(model, spec, version=version)


def _open_server(spec: OpenAISpec, model: str | Path, purpose: Purpose, version: int) -> Engine:
    try:
        from agent.engines.openai import OpenAIEngine
    except ImportError as error:
        raise ValueError(f"asking {spec.url} needs `pip install 'waymark[serve]'` ({error})") from error
    from agent.hugging_face import load_tokenizer

    return OpenAIEngine(spec, load_tokenizer(model), purpose=purpose, version=version)
