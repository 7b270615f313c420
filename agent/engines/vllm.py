"""vLLM in this process: `LLMEngine` on a thread of its own, up in seconds. The driver on a CPU and in tests.

Requests come from any number of tasks and event loops and decode together. New weights are loaded in place between two
steps, by vLLM's own reload; `VLLMSettings.on_update` says whether what runs ends first:

- "finish": an update waits for it, and new requests wait for the update; every completion has one version.
- "continue": what runs goes on with the new weights, and each token carries the version that sampled it.

After an update no prompt finds keys and values of older weights in the prefix cache.
"""

import asyncio
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.sample_groups import SampleGroups
from agent.engines.served_model import ServedModel
from agent.engines.vllm_requests import (
    checked_sampling,
    checked_scoring,
    completion_of,
    engine_prompt,
    needs_reset,
    scores_of,
)
from agent.engines.vllm_settings import VLLMSettings, engine_arguments, import_vllm, startup_error
from agent.engines.vllm_thread import EngineRequest, EngineThread, StartFailed


class VLLMEngine(SampleGroups):
    """Samples a model that vLLM serves in this process; implements `agent.engine.Engine`. One at a time a process.

    Args:
        model: a Hugging Face folder or id.
        settings: how vLLM serves it.
        version: of the weights in the folder.

    Raises:
        ValueError: vLLM is missing or cannot serve this model here, another engine of this process is open, or a
            setting asks for more memory than there is.
        EngineError: vLLM failed to start for another reason.
    """

    def __init__(self, model: str | Path, settings: VLLMSettings | None = None, *, version: int = 0) -> None:
        self._settings = settings or VLLMSettings()
        self._model = ServedModel(
            model,
            max_model_len=self._settings.max_model_len,
            trust_remote_code=self._settings.trust_remote_code,
        )
        self._model.check_servable(on_cpu=not torch.cuda.is_available())
        on_cpu = import_vllm()
        arguments = engine_arguments(self._model, self._settings, "thread", on_cpu=on_cpu)
        try:
            self._thread = EngineThread(arguments, self._settings, version)
        except StartFailed as failed:
            raise startup_error(failed.__cause__, self._model) from failed.__cause__
        self._closer = weakref.finalize(self, EngineThread.stop, self._thread)

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        return self._thread.version

    @property
    def context_window(self) -> int:
        """Most tokens, prompt and completion together, that the engine takes."""
        return self._model.context_window

    @contextmanager
    def episode(self) -> Iterator[None]:
        """Announce a live episode; this engine waits for nobody."""
        yield

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        """Sample one completion; cancelling the caller takes the request out of the engine.

        Raises:
            ValueError: a sampling parameter out of range, an empty prompt, one that leaves no room in the context
                window, or an id outside the model's vocabulary.
            EngineError: the engine failed or was closed.
        """
        request = EngineRequest(
            key=key,
            make_prompt=lambda version: engine_prompt(prompt_ids, version, self._settings),
            params=checked_sampling(self._model, prompt_ids, params),
            read=lambda output: completion_of(output, key),
        )
        self._thread.submit(request)
        try:
            completion: Completion = await asyncio.wrap_future(request.future)
        finally:
            request.future.cancel()
        return completion

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Replace every weight in place and set the version; returns when the new weights sample.

        Names as in `match_weights`: they are checked as a whole before anything is changed. If loading fails halfway
        the engine ends, so that no token is sampled from a mixture.

        Raises:
            ValueError: names or shapes that do not fit; the old weights are then untouched.
            EngineError: loading failed, and with it the engine.
        """
        pairs = self._model.match(named_tensors)
        self._thread.call(lambda engine: self._load(engine, pairs, version), alone=self._settings.on_update == "finish")

    def score(self, token_ids: Sequence[int], *, temperature: float = 1.0) -> list[float]:
        """Logprob of each token given those before it; the first is 0.0: `[num_tokens]`.

        vLLM gives the logprobs of a prompt at temperature 1. For another the logits themselves are divided by it, while
        nothing else runs; such a call waits for what does.

        Raises:
            ValueError: no tokens, more than the context window, an unknown id, or a temperature that is not positive.
            EngineError: the engine failed or was closed.
        """
        checked = checked_scoring(self._model, token_ids, temperature)
        if checked is None:
            return [0.0]
        ids, params = checked

        def read(output: Any) -> list[float]:
            return scores_of(output, token_ids)

        if temperature == 1:
            request = EngineRequest("score", lambda v: engine_prompt(ids, v, self._settings), params, read)
            self._thread.submit(request)
            scores: list[float] = request.future.result()
            return scores

        def alone(engine: Any) -> list[float] | None:
            if self._thread.is_held:
                return None
            engine.collective_rpc("waymark_scale_logits", args=(1 / temperature,))
            engine.add_request("score", engine_prompt(ids, self.version, self._settings), params)
            finished: list[Any] = []
            while not finished:
                finished = [output for output in engine.step() if output.finished]
            engine.collective_rpc("waymark_scale_logits", args=(temperature,))
            return read(finished[0])

        scored: list[float] | None = self._thread.call(alone, alone=True)
        if scored is None:
            raise EngineError("the engine sleeps; it scores once it has been given weights")
        return scored

    def sleep(self) -> None:
        """Give back the GPU's memory, once what runs has ended. New requests wait. See `agent.engine.Sleeper`."""

        def put(engine: Any) -> None:
            self._thread.is_held = True
            engine.sleep(level=2)

        self._thread.call(put, alone=True)

    def wake(self) -> None:
        """Take the memory back; requests wait until the weights are given, which are lost."""
        self._thread.call(lambda engine: engine.wake_up(), alone=True)

    async def close(self) -> None:
        """Fail what still waits, end the thread and give its memory back. A second call does nothing."""
        await asyncio.to_thread(self._closer)

    def _load(self, engine: Any, pairs: list[tuple[str, torch.Tensor]], version: int) -> None:
        engine.collective_rpc("waymark_load", args=(pairs,))
        reset = self._thread.cache_spoiled or needs_reset(self._settings, self._thread.version, version)
        if reset and not engine.reset_prefix_cache(reset_running_requests=True):
            raise EngineError("vLLM could not empty its prefix cache after an update")
        if self._thread.cache_spoiled:
            engine.collective_rpc("waymark_clear_cache")
            self._thread.cache_spoiled = False
        engine.set_weight_version(str(version))
        self._thread.version = version
        self._thread.is_held = False
        if self._settings.prefix_cache_on_update == "salt":
            self._thread.begin_again(engine)
