"""The thread that owns vLLM's `LLMEngine`: nothing of the engine is touched from anywhere else.

One turn of its loop takes what came in (new requests, cancelled ones, jobs such as an update), then steps the engine
once. A job is done between two steps: at once, or, if it asks for that, when nothing runs any more; new requests wait
as long. Futures carry the results out, to any thread or event loop.

An exception in the thread ends it: whoever waits, and whoever comes later, gets an `EngineError`.
"""

import os
import random
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from agent.engine import EngineError
from agent.engines.vllm_requests import NotFinite, engine_error, request_id
from agent.engines.vllm_settings import VLLMSettings

_PROCESSES = "VLLM_ENABLE_V1_MULTIPROCESSING"
_KEEP_VARIABLES = ("VLLM_", "TORCHINDUCTOR_")  # read later too
_one_a_process = threading.Lock()


@dataclass(slots=True, eq=False)
class EngineRequest:
    """A request to vLLM. `make_prompt` gives its prompt for a version of the weights, `read` its result."""

    key: str
    make_prompt: Callable[[int], dict[str, Any]]
    params: Any
    read: Callable[[Any], Any]
    future: "Future[Any]" = field(default_factory=Future)
    id: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """Something done to the engine between two steps. `alone`: when nothing runs. It ends the thread if it fails."""

    do: Callable[[Any], Any]
    alone: bool
    future: "Future[Any]" = field(default_factory=Future)


class StartFailed(Exception):
    """vLLM could not start; `__cause__` says why."""


class EngineThread:
    """Starts vLLM in a thread of this process and steps it. `version` is that of the weights in the model's folder.

    Raises:
        ValueError: another engine of this process is open, or the process belongs to a group of several.
        StartFailed: vLLM raised something while it started.
    """

    def __init__(self, arguments: dict[str, Any], settings: VLLMSettings, version: int) -> None:
        if not _one_a_process.acquire(blocking=False):
            raise ValueError(
                "this process has an open vLLM engine, and vLLM's state is one a process; close that engine first, or "
                "set driver: process"
            )
        if torch.distributed.is_initialized():
            _one_a_process.release()
            raise ValueError(
                "this process has a torch.distributed group, which vLLM in the same process would take for its own; "
                "set driver: process"
            )
        self.version = version
        self.cache_spoiled = False
        self.is_held = False
        """True from sleep to the first weights after it: requests wait."""
        self._settings = settings
        self._changed = threading.Condition()
        self._arrivals: deque[EngineRequest] = deque()
        self._cancelled: list[EngineRequest] = []
        self._jobs: deque[Job] = deque()
        self._joining: list[EngineRequest] = []
        self._running: dict[str, EngineRequest] = {}
        self._stopping = False
        self._failure: BaseException | None = None
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(arguments,), name="waymark-vllm", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException as error:
            self._thread.join()
            raise StartFailed from error

    @property
    def num_running(self) -> int:
        """Requests that vLLM has."""
        return len(self._running)

    def submit(self, request: EngineRequest) -> None:
        """Queue a request. Cancelling its future takes it out again, also out of the engine.

        Raises:
            EngineError: the thread has ended.
        """
        with self._changed:
            self._check_alive()
            self._arrivals.append(request)
            self._changed.notify()
        request.future.add_done_callback(lambda future: self._cancel(request) if future.cancelled() else None)

    def call(self, do: Callable[[Any], Any], *, alone: bool) -> Any:
        """Have something done to the engine between two steps, and wait for it.

        Raises:
            EngineError: it failed, and with it the engine.
        """
        job = Job(do, alone)
        with self._changed:
            self._check_alive()
            self._jobs.append(job)
            self._changed.notify()
        return job.future.result()

    def stop(self) -> None:
        """End the thread and wait for that; what still waits fails. A second call does nothing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise engine_error(self._failure)
        if self._stopping:
            raise EngineError("the engine is closed")

    def _cancel(self, request: EngineRequest) -> None:
        with self._changed:
            self._cancelled.append(request)
            self._changed.notify()

    def _run(self, arguments: dict[str, Any]) -> None:
        engine = None
        failure: BaseException = EngineError("the engine was closed")
        try:
            engine = _start(arguments)
            if arguments["enforce_eager"]:
                engine.collective_rpc("waymark_skip_compiling")
            engine.collective_rpc("waymark_leave_random_state")
            engine.set_weight_version(str(self.version))
            self._started.set_result(None)
            while self._turn(engine):
                pass
        except BaseException as error:
            failure = error
        finally:
            with self._changed:
                self._failure = failure
                waiting: list[EngineRequest | Job] = [*self._running.values(), *self._joining, *self._arrivals]
                waiting += self._jobs
                self._running, self._joining, self._arrivals, self._jobs = {}, [], deque(), deque()
            try:
                _shut_down(engine)
            finally:
                engine = None
                _one_a_process.release()
                if not self._started.done():
                    self._started.set_exception(failure)
                for one in waiting:
                    _settle(one.future, engine_error(failure))

    def _turn(self, engine: Any) -> bool:
        """Take what came in, then step; False once the thread is to end."""
        with self._changed:
            while not (
                self._stopping
                or (self._arrivals and not self.is_held)
                or self._cancelled
                or self._jobs
                or self._running
            ):
                self._changed.wait()
            if self._stopping:
                return False
            cancelled, self._cancelled = self._cancelled, []
            job = self._jobs[0] if self._jobs and not (self._jobs[0].alone and self._running) else None
            self._joining = [] if self._jobs or self.is_held else self._next_requests()
        gone = [request.id for request in cancelled if self._running.pop(request.id, None)]
        if gone:
            engine.abort_request(gone)
        if job is not None:
            result = job.do(engine)
            with self._changed:
                self._jobs.popleft()
            _settle(job.future, result)
        self._add(engine, self._joining)
        self._joining = []
        if self._running:
            self._step(engine)
        return True

    def _next_requests(self) -> list[EngineRequest]:
        """Requests that join now: vLLM never has more than run together, so that an update finds few of them."""
        joining: list[EngineRequest] = []
        while self._arrivals and len(self._running) + len(joining) < self._settings.max_num_seqs:
            request = self._arrivals.popleft()
            if not request.future.cancelled():
                joining.append(request)
        return joining

    def _add(self, engine: Any, requests: Sequence[EngineRequest]) -> None:
        from vllm.exceptions import VLLMClientError

        for request in requests:
            request.id = request_id(request.key)
            try:
                engine.add_request(request.id, request.make_prompt(self.version), request.params)
            except (ValueError, VLLMClientError) as error:
                _settle(request.future, EngineError(f"vLLM refuses request {request.key!r}: {error}"))
                continue
            self._running[request.id] = request

    def _step(self, engine: Any) -> None:
        for output in engine.step():
            request = self._running.pop(output.request_id, None) if output.finished else None
            if request is None:
                continue
            try:
                result = request.read(output)
            except EngineError as error:
                result = error
                self.cache_spoiled |= isinstance(error, NotFinite)
            _settle(request.future, result)

    def begin_again(self, engine: Any) -> None:
        """Hand requests that have no token yet to vLLM anew; called by a job that has changed the version."""
        states = engine.output_processor.request_states.values()
        begun = {s.external_req_id for s in states if s.detokenizer is not None and s.detokenizer.num_output_tokens()}
        fresh = [request for id, request in self._running.items() if id not in begun]
        engine.abort_request([request.id for request in fresh])
        self._joining += fresh
        for request in fresh:
            del self._running[request.id]
        self._add(engine, fresh)
        self._joining = []


def _settle(future: "Future[Any]", result: Any) -> None:
    """Give a future its result or error, unless it was cancelled meanwhile."""
    try:
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
    except InvalidStateError:
        pass


def _start(arguments: dict[str, Any]) -> Any:
    from vllm import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor import Executor

    with untouched_process(), _looking_at_own_modules():
        os.environ[_PROCESSES] = "0"  # vLLM's executor for a CPU is else one of several processes
        config = EngineArgs(**arguments).create_engine_config()
        return LLMEngine(config, Executor.get_class(config), log_stats=False, multiprocess_mode=False)


def _shut_down(engine: Any | None) -> None:
    """Give back the engine's memory, and vLLM's process-wide state, also after a start that failed halfway."""
    if engine is not None:
        engine.renderer.shutdown()
        engine.engine_core.shutdown()
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()


class _OwnModules:
    """`sys.modules`, of which nothing but vLLM's are listed."""

    def __getitem__(self, name: str) -> ModuleType:
        return sys.modules[name]

    def values(self) -> list[ModuleType]:
        return [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "vllm"]


@contextmanager
def _looking_at_own_modules() -> Iterator[None]:
    """Let vLLM look for its kernels in its own modules alone.

    On a CPU it reads every object of every module of the process, and fails at llvmlite's functions, which are there as
    soon as numba is (vLLM 0.32, `triton_utils.dispatcher`).
    """
    from vllm.triton_utils import dispatcher

    dispatcher.sys = SimpleNamespace(modules=_OwnModules())  # type: ignore[assignment]
    try:
        yield
    finally:
        dispatcher.sys = sys


@contextmanager
def untouched_process() -> Iterator[None]:
    """Put back what vLLM's start changes in the whole process: random states, thread setting and variables."""
    set_num_threads = torch.set_num_threads
    numbers = torch.get_rng_state(), np.random.get_state(), random.getstate()
    variables = dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_rng_state(numbers[0])
        np.random.set_state(numbers[1])
        random.setstate(numbers[2])
        for name in set(os.environ) | set(variables):
            if name.startswith(_KEEP_VARIABLES) and name != _PROCESSES:
                continue
            if name in variables:
                os.environ[name] = variables[name]
            else:
                del os.environ[name]
