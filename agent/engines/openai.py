"""A model that somebody else serves behind an OpenAI-compatible `/v1/completions`: prompts go there as token ids.

A vLLM server gives the sampled ids back, with their logprobs: such a model can be evaluated, and rolled out as it
stands. Where text alone comes back its ids are encoded anew and marked (`Completion.exact` is False): that serves an
evaluation. The engine cannot change the weights; `version` stays what it was opened with.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.openai_endpoint import Endpoint, first_choice
from agent.engines.openai_settings import OpenAISettings
from agent.engines.sample_groups import SampleGroups
from agent.engines.sampling import check_params, check_prompt

Purpose = Literal["evaluation", "rollouts"]


class OpenAIEngine(SampleGroups):
    """Samples a served model; implements `agent.engine.Engine` but for new weights.

    Args:
        settings: the server.
        tokenizer: the served model's.
        purpose: "rollouts" refuses a server that does not give token ids and logprobs back.
        version: of the weights that are served.

    Raises:
        ValueError: the server does not serve that model, or cannot serve rollouts and was asked to.
        EngineError: it does not answer.
    """

    def __init__(
        self,
        settings: OpenAISettings,
        tokenizer: PreTrainedTokenizerBase,
        *,
        purpose: Purpose = "evaluation",
        version: int = 0,
    ) -> None:
        self._endpoint = Endpoint(settings)
        self._tokenizer = tokenizer
        self._purpose = purpose
        self._version = version
        if purpose == "rollouts" and not self._endpoint.gives_ids:
            raise ValueError(
                f"{settings.url} does not give the sampled token ids and their logprobs back, and text encoded anew is "
                "not what was sampled: it can be evaluated, not trained on. A vLLM server does (return_token_ids)"
            )

    @property
    def version(self) -> int:
        """Version of the weights that are served."""
        return self._version

    @property
    def context_window(self) -> int:
        """Most tokens, prompt and completion together, that the server takes."""
        return self._endpoint.context_window

    @property
    def exact(self) -> bool:
        """True if the ids of a completion are those that were sampled."""
        return self._endpoint.gives_ids

    @contextmanager
    def episode(self) -> Iterator[None]:
        """Announce a live episode; this engine waits for nobody."""
        yield

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        """Sample one completion; cancelling the caller closes its connection, on which vLLM stops sampling.

        Raises:
            ValueError: a sampling parameter out of range, an empty prompt, one that leaves no room in the context
                window, an id outside the tokenizer's vocabulary, or, in rollouts, parameters whose logprobs this server
                does not give.
            EngineError: the server failed or the engine was closed.
        """
        check_params(params)
        room = check_prompt(prompt_ids, vocab_size=len(self._tokenizer), context_window=self.context_window)
        as_sampled = params.temperature in (0, 1) and params.top_p == 1 and params.top_k == 0
        if self._purpose == "rollouts" and not (as_sampled or self._endpoint.processed):
            raise ValueError(
                f"the server's logprobs are at temperature 1 and unfiltered, and temperature is {params.temperature}, "
                f"top_p {params.top_p}, top_k {params.top_k}; start it with --logprobs-mode processed_logprobs, or "
                "sample at temperature 1"
            )
        most = min(params.max_new_tokens, room)
        choice = await self._endpoint.complete(self._body(prompt_ids, params, most))
        return self._as_sampled(choice, key) if self.exact else self._encoded_anew(choice, params, most)

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Raises ValueError: a served model's weights are not this engine's to change."""
        raise ValueError(
            f"the model at {self._endpoint.settings.url} is served by somebody else, whose weights this engine cannot "
            "change; train with engine: vllm or transformers"
        )

    def score(self, token_ids: Sequence[int], *, temperature: float = 1.0) -> list[float]:
        """Logprob of each token given those before it, at temperature 1; the first is 0.0: `[num_tokens]`.

        Raises:
            ValueError: no tokens, no room for one more in the context window, an unknown id, or another temperature.
            EngineError: the server failed, or does not score prompts.
        """
        if temperature != 1:
            raise ValueError(f"temperature is {temperature}; a server scores a prompt at temperature 1 alone")
        check_prompt(token_ids, vocab_size=len(self._tokenizer), context_window=self.context_window)
        body = {**self._model_and(token_ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        answer = self._endpoint.ask("POST", "/completions", body)
        rows = first_choice(answer, self._endpoint.settings.url).get("prompt_logprobs")
        if not rows or len(rows) != len(token_ids):
            raise EngineError(f"{self._endpoint.settings.url} does not score prompts; a vLLM server does")
        scores = (row[str(token)]["logprob"] for row, token in zip(rows[1:], token_ids[1:], strict=True))
        return [0.0, *map(float, scores)]

    async def close(self) -> None:
        """Close the connections. A second call does nothing."""
        await self._endpoint.close()

    def _model_and(self, prompt_ids: Sequence[int]) -> dict[str, Any]:
        return {"model": self._endpoint.model, "prompt": [int(i) for i in prompt_ids]}

    def _body(self, prompt_ids: Sequence[int], params: SamplingParams, max_tokens: int) -> dict[str, Any]:
        """The request; everything that a server's own defaults could change is written out."""
        body = {
            **self._model_and(prompt_ids),
            "max_tokens": max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": params.seed % 2**63,
            "stop": list(params.stop),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        if self.exact:
            body |= {
                "top_k": params.top_k,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "logprobs": 0,
                "return_token_ids": True,
                "include_stop_str_in_output": True,
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
            }
        return body

    def _as_sampled(self, choice: dict[str, Any], key: str) -> Completion:
        ids = tuple(int(i) for i in choice.get("token_ids") or ())
        given = (choice.get("logprobs") or {}).get("token_logprobs") or ()
        logprobs = tuple(math.nan if value is None else float(value) for value in given)
        if len(ids) != len(logprobs) or not ids:
            raise EngineError(f"the server gave {len(ids)} token ids and {len(logprobs)} logprobs for request {key!r}")
        if not all(map(math.isfinite, logprobs)):
            raise EngineError(f"the logits of request {key!r} are not finite: the weights have diverged")
        stopped = isinstance(choice.get("stop_reason"), str)
        return Completion(
            token_ids=ids,
            logprobs=logprobs,
            versions=(self._version,) * len(ids),
            finish=_finish(choice, key, by_string=stopped),
        )

    def _encoded_anew(self, choice: dict[str, Any], params: SamplingParams, most: int) -> Completion:
        """A completion from text alone, cut to `most` tokens. A server leaves the stop string out; it is put back."""
        text = choice.get("text") or ""
        end = left_out_stop(text, params.stop) if choice.get("finish_reason") == "stop" else ""
        finish = _finish(choice, "", by_string=bool(end))
        ids = tuple(self._tokenizer.encode(text + end, add_special_tokens=False))
        if len(ids) > most:
            ids, finish = ids[:most], "length"
        return Completion(
            token_ids=ids,
            logprobs=(0.0,) * len(ids),
            versions=(self._version,) * len(ids),
            finish=finish,
            exact=False,
        )


def _finish(choice: dict[str, Any], key: str, *, by_string: bool) -> Literal["stop", "eos", "length"]:
    reason = choice.get("finish_reason")
    if reason == "length":
        return "length"
    if reason != "stop":
        raise EngineError(f"the server ended request {key!r} with {reason!r}")
    return "stop" if by_string else "eos"


def left_out_stop(text: str, stop: Sequence[str]) -> str:
    """The stop string that ended a text from which it was cut: the closing tag whose opening one came last.

    Empty where none was opened: the model then ended by itself.
    """
    opened = {s: text.rfind("<" + s[2:]) for s in stop if s.startswith("</")}
    latest = max(opened, key=lambda s: opened[s], default="")
    if latest and opened[latest] >= 0 and opened[latest] > text.rfind(latest):
        return latest
    plain = [s for s in stop if not s.startswith("</")]
    return plain[0] if len(plain) == 1 and len(stop) == 1 else ""
