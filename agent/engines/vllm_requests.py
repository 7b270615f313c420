"""Requests in vLLM's words, and its answers in ours, the same for both drivers."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.sampling import check_params, check_prompt
from agent.engines.served_model import ServedModel
from agent.engines.vllm_settings import VLLMSettings
from agent.out_of_memory import VLLM_SETTINGS, OutOfMemory, is_out_of_memory, out_of_memory

_LEAST_TEMPERATURE = 0.01
_counter = itertools.count()

PROCESS_ENDED = (
    "vLLM's process has ended; why stands in its own words in the log. If they are of memory: "
    + "; or ".join(VLLM_SETTINGS)
)
"""Of a process that died vLLM tells its caller no more than that."""


class NotFinite(EngineError):
    """A logprob is not finite; keys and values that are not finite either then lie in the cache."""


def engine_error(error: BaseException) -> EngineError | OutOfMemory:
    """An error of its own for everybody who waits, so that no two share a traceback."""
    if is_out_of_memory(error):
        return out_of_memory(error, "vLLM", VLLM_SETTINGS)
    if isinstance(error, EngineError):
        return EngineError(*error.args)
    if type(error).__name__ == "EngineDeadError":
        return EngineError(PROCESS_ENDED)
    failure = EngineError(f"the engine failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def request_id(key: str) -> str:
    """A name for a request that no other request of this process has."""
    return f"{key}/{next(_counter)}"


def checked_sampling(model: ServedModel, prompt_ids: Sequence[int], params: SamplingParams) -> Any:
    """vLLM's parameters for a completion; `max_new_tokens` is cut to the room left in the context window.

    Raises:
        ValueError: as `generate` of every engine, and a temperature that vLLM would silently raise.
    """
    check_params(params)
    if 0 < params.temperature < _LEAST_TEMPERATURE:
        raise ValueError(
            f"temperature is {params.temperature}; vLLM samples at 0 (greedy) or {_LEAST_TEMPERATURE} and above"
        )
    room = check_prompt(prompt_ids, vocab_size=model.vocab_size, context_window=model.context_window)
    from vllm import SamplingParams as VLLMParams
    from vllm.sampling_params import RequestOutputKind

    return VLLMParams(
        max_tokens=min(params.max_new_tokens, room),
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        seed=params.seed % 2**63,
        stop=list(params.stop),
        include_stop_str_in_output=True,
        detokenize=bool(params.stop),
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        ignore_eos=True,
        stop_token_ids=sorted(i for i in model.eos_token_ids if i < model.vocab_size),
        logprobs=0,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def checked_scoring(model: ServedModel, token_ids: Sequence[int], temperature: float) -> tuple[list[int], Any] | None:
    """The prompt and parameters that score these tokens; None for a single token, whose score needs no model.

    The last token is scored as a candidate for the one that follows the others, so that a full window fits.

    Raises:
        ValueError: as `score` of every engine.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; scoring needs a positive one")
    if len(token_ids) > model.context_window:
        raise ValueError(f"{len(token_ids)} tokens to score do not fit the context window of {model.context_window}")
    check_prompt(token_ids, vocab_size=model.vocab_size, context_window=model.context_window + 1)
    if len(token_ids) == 1:
        return None
    from vllm import SamplingParams as VLLMParams
    from vllm.sampling_params import RequestOutputKind

    params = VLLMParams(
        max_tokens=1,
        temperature=0.0,
        ignore_eos=True,
        detokenize=False,
        logprobs=1,
        logprob_token_ids=[int(token_ids[-1])],
        prompt_logprobs=0,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    return [int(i) for i in token_ids[:-1]], params


def engine_prompt(prompt_ids: Sequence[int], version: int, settings: VLLMSettings) -> dict[str, Any]:
    """A prompt in vLLM's words. Its salt keeps it from blocks that other weights have computed."""
    prompt: dict[str, Any] = {"prompt_token_ids": [int(i) for i in prompt_ids]}
    if settings.prefix_cache_on_update == "salt":
        prompt["cache_salt"] = f"version {version}"
    return prompt


def needs_reset(settings: VLLMSettings, before: int, version: int) -> bool:
    """True if an update has to empty the prefix cache. A version that is not newer may have salted blocks already."""
    return settings.prefix_cache_on_update == "reset" or version <= before


def completion_of(output: Any, key: str) -> Completion:
    """What vLLM's finished request got.

    Raises:
        EngineError: it was aborted or failed inside vLLM.
        NotFinite: its logprobs are not finite.
    """
    sample = output.outputs[0]
    ids = tuple(int(i) for i in sample.token_ids)
    if sample.finish_reason == "length":
        finish = "length"
    elif sample.finish_reason == "stop":
        finish = "stop" if isinstance(sample.stop_reason, str) else "eos"
    else:
        raise EngineError(f"vLLM ended request {key!r} with {sample.finish_reason!r}: {sample.stop_reason}")
    logprobs = tuple(_chosen(sample.logprobs, i, token) for i, token in enumerate(ids))
    if not all(map(math.isfinite, logprobs)):
        raise NotFinite(f"the logits of request {key!r} are not finite: the weights have diverged")
    versions: list[int] = []
    for span in sample.weight_versions:
        versions[len(versions) :] = [int(span.version)] * (span.end - span.start)
    if len(versions) != len(ids):
        raise EngineError(f"vLLM gave {len(versions)} weight versions for the {len(ids)} tokens of request {key!r}")
    return Completion(token_ids=ids, logprobs=logprobs, versions=tuple(versions), finish=finish)  # type: ignore[arg-type]


def scores_of(output: Any, token_ids: Sequence[int]) -> list[float]:
    """The logprob of each token given those before it, the first 0.0: `[num_tokens]`."""
    prompt = [row[token].logprob for row, token in zip(output.prompt_logprobs[1:], token_ids[1:-1], strict=True)]
    return [0.0, *prompt, output.outputs[0].logprobs[0][token_ids[-1]].logprob]


def _chosen(flat: Any, position: int, token: int) -> float:
    """The sampled token's logprob, out of vLLM's flat lists."""
    begin, end = flat.start_indices[position], flat.end_indices[position]
    return float(flat.logprobs[flat.token_ids.index(token, begin, end)])
