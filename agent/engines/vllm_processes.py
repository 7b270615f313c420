"""`AsyncLLM` with a gate before it; everything here runs on one event loop.

A request passes the gate, takes one of `max_num_seqs` slots, and is handed to vLLM. So vLLM never holds more than run
together, and an update knows what it has to wait for.
"""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Coroutine
from typing import Any

from agent.engine import EngineError
from agent.engines.vllm_requests import PROCESS_ENDED, engine_error, engine_prompt, needs_reset, request_id
from agent.engines.vllm_settings import VLLMSettings
from agent.engines.vllm_thread import untouched_process

_LOOK_AGAIN_S = 1.0
_LAST_S = 5


class VLLMProcesses:
    """A started `AsyncLLM`. `version` is that of the weights that sample now."""

    def __init__(self, llm: Any, settings: VLLMSettings, version: int) -> None:
        self.version = version
        self.cache_spoiled = False
        self._llm = llm
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(settings.max_num_seqs)
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running: dict[asyncio.Task[Any], str] = {}
        self._again: set[asyncio.Task[Any]] = set()
        self._callers: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None
        self._workers: list[int] = []

    @classmethod
    async def start(cls, arguments: dict[str, Any], settings: VLLMSettings, version: int) -> "VLLMProcesses":
        """Start vLLM's processes and wait until they serve.

        Raises:
            Exception: what vLLM raised.
        """
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        if arguments.get("weight_transfer_config", {}).get("backend") == "ipc":
            os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # vLLM pickles the handles between its processes
        with untouched_process():
            os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # of vLLM's own imports, in its processes
            os.environ["WAYMARK_VLLM_OWNER"] = str(os.getpid())  # agent.engines.vllm_worker ends with it
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        made = cls(llm, settings, version)
        try:
            made._workers = [os.pidfd_open(pid) for pid in await made.rpc("waymark_pid")]
            if arguments["enforce_eager"]:
                await made.rpc("waymark_skip_compiling")
            await made._answered(llm.update_weight_version(str(version)))
        except BaseException:
            await made.close()
            raise
        return made

    async def sample(self, key: str, prompt: list[int], params: Any) -> Any:
        """vLLM's finished output for a prompt.

        Raises:
            EngineError: vLLM failed, or refuses the request.
        """
        caller = asyncio.current_task()
        assert caller is not None
        self._callers.add(caller)
        try:
            async with self._slots:
                while True:
                    await self._open.wait()
                    self._check_alive()
                    run = asyncio.ensure_future(self._finished(key, prompt, params))
                    try:
                        return await self._counted(run)
                    except asyncio.CancelledError:
                        if run not in self._again or caller.cancelling():
                            self._check_alive()
                            raise
                    finally:
                        self._again.discard(run)
        finally:
            self._callers.discard(caller)

    async def sample_scaled(self, prompt: list[int], params: Any, factor: float) -> Any:
        """As `sample`, alone in the engine and with its logits multiplied.

        Raises:
            EngineError: vLLM failed, or sleeps: the gate must then stay closed, for its weights are lost.
        """
        self._check_alive()
        if not self._open.is_set():
            raise EngineError("the engine sleeps; it scores once it has been given weights")
        self._open.clear()
        try:
            await self._idle.wait()
            self._check_alive()
            await self.rpc("waymark_scale_logits", factor)
            output = await self._finished("score", prompt, params)
            await self.rpc("waymark_scale_logits", 1 / factor)
            return output
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            self._open.set()

    async def begin_update(self) -> None:
        """Close the gate, and wait until what runs has ended ("finish") or stands still ("continue").

        Raises:
            EngineError: the engine has failed.
        """
        self._check_alive()
        self._open.clear()
        try:
            if self._settings.on_update == "finish":
                await self._idle.wait()
                self._check_alive()
            await self._answered(self._llm.pause_generation(mode="keep", clear_cache=False))
        except BaseException as error:
            self.fail(error)
            raise engine_error(error) from error

    async def end_update(self, version: int) -> None:
        """Make the cache and the version those of the new weights, and open the gate."""
        reset = self.cache_spoiled or needs_reset(self._settings, self.version, version)
        if reset and not await self._answered(self._llm.reset_prefix_cache(reset_running_requests=True)):
            raise EngineError("vLLM could not empty its prefix cache after an update")
        if self.cache_spoiled:
            await self.rpc("waymark_clear_cache")
            self.cache_spoiled = False
        if self._settings.prefix_cache_on_update == "salt":
            await self._begin_again()
        await self._answered(self._llm.update_weight_version(str(version)))
        self.version = version
        await self._answered(self._llm.resume_generation())
        self._open.set()

    async def sleep(self) -> None:
        """Close the gate until the next update has ended, wait for what runs, and give back the GPUs' memory.

        Raises:
            EngineError: the engine has failed.
        """
        self._check_alive()
        self._open.clear()
        await self._idle.wait()
        await self._controlled(self._llm.sleep(level=2))

    async def wake(self) -> None:
        """Take the GPUs' memory back. What lies there is no policy: the gate stays closed until an update."""
        self._check_alive()
        await self._controlled(self._llm.wake_up())

    async def _controlled(self, call: Coroutine[Any, Any, Any]) -> None:
        try:
            await self._answered(call)
        except BaseException as error:
            self.fail(error)
            raise engine_error(error) from error

    async def rpc(self, method: str, *args: Any) -> list[Any]:
        """What a method of every worker gives."""
        results: list[Any] = await self._answered(self._llm.collective_rpc(method, args=args))
        return results

    def fail(self, error: BaseException) -> None:
        """Remember that the engine is of no more use; whoever waits, and whoever comes later, is told. Any thread."""
        self._failure = self._failure or error
        self._loop.call_soon_threadsafe(self._release)

    async def close(self) -> None:
        """End vLLM's processes, the slow ones by force."""
        if self._failure is None:
            self._failure = EngineError("the engine is closed")
        self._release()
        await asyncio.gather(*self._callers, return_exceptions=True)
        llm, self._llm = self._llm, None
        if llm is not None:
            manager = llm.engine_core.resources.engine_manager
            began = [] if manager is None else list(manager.processes)
            llm.shutdown(timeout=self._settings.shutdown_timeout_s)
            _end_all(self._workers)
            for process in began:
                process.join(_LAST_S)

    def _release(self) -> None:
        for run in self._running:
            run.cancel()
        self._open.set()

    async def _counted(self, run: "asyncio.Task[Any]") -> Any:
        self._running[run] = ""
        self._idle.clear()
        try:
            return await run
        finally:
            self._running.pop(run, None)
            if not self._running:
                self._idle.set()

    async def _answered(self, call: Coroutine[Any, Any, Any]) -> Any:
        """A control call's answer; vLLM leaves such calls waiting for ever when its process dies."""
        task = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_AGAIN_S))[0]:
                if self._llm is None or self._llm.errored:
                    raise EngineError(PROCESS_ENDED)
            return task.result()
        finally:
            task.cancel()

    async def _finished(self, key: str, prompt: list[int], params: Any) -> Any:
        """vLLM's last output for a request."""
        name = request_id(key)
        task = asyncio.current_task()
        if task in self._running:
            self._running[task] = name
        try:
            async for output in self._llm.generate(engine_prompt(prompt, self.version, self._settings), params, name):
                if output.finished:
                    return output
        except ValueError as error:
            raise EngineError(f"vLLM refuses request {key!r}: {error}") from error
        except Exception as error:
            if self._llm is not None and self._llm.errored:
                self._failure = self._failure or error
            raise engine_error(error) from error
        raise EngineError(f"vLLM ended request {key!r} without an output")

    async def _begin_again(self) -> None:
        """Take back requests without a token: they might read prompts that the old weights have computed."""
        states = self._llm.output_processor.request_states.values()
        begun = {s.external_req_id for s in states if s.detokenizer is not None and s.detokenizer.num_output_tokens()}
        fresh = [run for run, name in self._running.items() if name not in begun]
        self._again.update(fresh)
        for run in fresh:
            run.cancel()
        await asyncio.gather(*fresh, return_exceptions=True)

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise engine_error(self._failure)
        if self._llm.errored:
            raise EngineError(PROCESS_ENDED)


def _end_all(workers: list[int]) -> None:
    """Kill what is left of the processes behind these file descriptors, and wait until they are gone."""
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(worker, signal.SIGKILL)
        gone = select.poll()
        gone.register(worker, select.POLLIN)
        gone.poll(_LAST_S * 1000)
        os.close(worker)
    workers.clear()
