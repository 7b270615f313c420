"""vLLM in processes of its own: `AsyncLLM`, driven from one event loop on a thread of this process. The GPU driver.

The same interface, settings and rules as `agent.engines.vllm`, and callers may come from any event loop. An update
closes a gate: new requests wait before it. Then what runs ends ("finish") or is frozen where it is ("continue"), the
weights travel (`agent.engines.vllm_transfer`), and the gate opens with the new version.
"""

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.sample_groups import SampleGroups
from agent.engines.served_model import ServedModel
from agent.engines.vllm_processes import VLLMProcesses
from agent.engines.vllm_requests import (
    NotFinite,
    checked_sampling,
    checked_scoring,
    completion_of,
    engine_error,
    scores_of,
)
from agent.engines.vllm_settings import VLLMSettings, engine_arguments, import_vllm, startup_error
from agent.engines.vllm_transfer import Transfer, open_transfer


class AsyncVLLMEngine(SampleGroups):
    """Samples a model that vLLM serves in processes of its own; implements `agent.engine.Engine`.

    Args:
        model: a Hugging Face folder or id.
        settings: how vLLM serves it.
        version: of the weights in the folder.

    Raises:
        ValueError: vLLM is missing or cannot serve this model here, or a setting asks for more memory than there is.
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
        arguments = engine_arguments(self._model, self._settings, "process", on_cpu=on_cpu)
        self._transfer = open_transfer(_Remote(self), self._settings, on_cpu=on_cpu)
        self._loop = _LoopThread()
        self._updating = threading.Lock()
        try:
            self._vllm: VLLMProcesses = self._loop.call(VLLMProcesses.start(arguments, self._settings, version))
        except Exception as error:
            self._loop.end()
            raise startup_error(error, self._model) from error
        self._closer = weakref.finalize(self, _close, self._vllm, self._loop, self._transfer)

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        return self._vllm.version

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
        wanted = checked_sampling(self._model, prompt_ids, params)
        sampling = self._loop.submit(_completion(self._vllm, key, list(prompt_ids), wanted))
        completion: Completion = await asyncio.wrap_future(sampling)
        return completion

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Replace every weight in place and set the version; returns when the new weights sample.

        Names as in `match_weights`: they are checked as a whole before anything is changed. If the transfer fails
        halfway the engine ends, so that no token is sampled from a mixture.

        Raises:
            ValueError: names or shapes that do not fit; the old weights are then untouched.
            EngineError: the transfer failed, and with it the engine.
        """
        pairs = self._model.match(named_tensors)
        with self._updating:
            self._loop.call(self._vllm.begin_update())
            try:
                self._transfer.send(pairs)
                self._loop.call(self._vllm.end_update(version))
            except BaseException as error:
                self._vllm.fail(error)
                if not isinstance(error, Exception):
                    raise
                raise engine_error(error) from error

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
        if temperature == 1:
            return scores_of(self._loop.call(self._vllm.sample("score", ids, params)), token_ids)
        with self._updating:
            return scores_of(self._loop.call(self._vllm.sample_scaled(ids, params, 1 / temperature)), token_ids)

    def sleep(self) -> None:
        """Give back the GPU's memory, once what runs has ended. New requests wait. See `agent.engine.Sleeper`."""
        with self._updating:
            self._loop.call(self._vllm.sleep())

    def wake(self) -> None:
        """Take the memory back; requests wait until the weights are given, which are lost."""
        with self._updating:
            self._loop.call(self._vllm.wake())

    async def close(self) -> None:
        """Fail what still waits and end vLLM's processes. A second call does nothing."""
        await asyncio.to_thread(self._closer)


async def _completion(vllm: VLLMProcesses, key: str, prompt: list[int], params: Any) -> Completion:
    """A request's completion, read on the driver's loop: an update that waits for it must know of a spoiled cache."""
    output = await vllm.sample(key, prompt, params)
    try:
        return completion_of(output, key)
    except NotFinite:
        vllm.cache_spoiled = True
        raise


class _Remote:
    """vLLM's control calls, each waited for: what a transfer drives an update through."""

    def __init__(self, engine: AsyncVLLMEngine) -> None:
        self._engine = weakref.ref(engine)

    def rpc(self, method: str, *args: Any) -> None:
        self._wait("rpc", method, *args)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._wait("rpc", "init_weight_transfer_engine", init_info)

    def start_weight_update(self) -> None:
        self._wait("rpc", "start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self._wait("rpc", "update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._wait("rpc", "finish_weight_update")

    def _wait(self, method: str, *args: Any) -> None:
        engine = self._engine()
        if engine is None:
            raise EngineError("the engine is closed")
        engine._loop.call(getattr(engine._vllm, method)(*args))


class _LoopThread:
    """An event loop on a thread of its own. Nothing can be handed to it once it ends, so nobody waits in vain."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="waymark-vllm-processes", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """Run a coroutine there.

        Raises:
            EngineError: the loop has ended.
        """
        with self._lock:
            if self._ended:
                work.close()
                raise EngineError("the engine is closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and wait for its result."""
        return self.submit(work).result()

    def end(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Run one more coroutine, then end."""
        with self._lock:
            self._ended = True
            closing = asyncio.run_coroutine_threadsafe(last, self._loop) if last is not None else None
        try:
            if closing is not None:
                closing.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _close(vllm: VLLMProcesses, loop: _LoopThread, transfer: Transfer) -> None:
    try:
        loop.end(vllm.close())
    finally:
        transfer.close()
