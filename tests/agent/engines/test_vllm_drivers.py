"""What vLLM's drivers do around vLLM itself, without starting it."""

import asyncio
import threading
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from agent.engine import EngineError
from agent.engines import vllm_async
from agent.engines.vllm_async import AsyncVLLMEngine
from agent.engines.vllm_processes import VLLMProcesses
from agent.engines.vllm_requests import NotFinite, engine_error, engine_prompt, needs_reset
from agent.engines.vllm_settings import VLLMSettings
from agent.engines.vllm_transfer import _free_port
from agent.out_of_memory import OutOfMemory


def test_a_version_that_is_not_newer_empties_a_salted_cache() -> None:
    """Its blocks may lie there from other weights, under the salt that new prompts get."""
    salt, reset = VLLMSettings(prefix_cache_on_update="salt"), VLLMSettings()
    assert engine_prompt([1], 3, salt) == engine_prompt([1], 3, salt) != engine_prompt([1], 4, salt)
    assert [needs_reset(salt, 3, version) for version in (2, 3, 4)] == [True, True, False]
    assert needs_reset(reset, 3, 4)


class Loop:
    """Runs coroutines as the driver's loop does."""

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def end(self, last: Coroutine[Any, Any, None]) -> None:
        asyncio.run(last)


class Processes:
    """vLLM's processes, which remember what broke them."""

    failure: BaseException | None = None

    async def begin_update(self) -> None: ...

    def fail(self, error: BaseException) -> None:
        self.failure = error

    async def close(self) -> None:
        raise EngineError("already gone")


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory, "lower engine.max_num_seqs"),
        (OSError("a worker went away"), EngineError, "the engine failed: OSError: a worker went away"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_transfer_that_breaks_ends_the_engine_and_says_what_it_was(
    error: BaseException, raised: type[BaseException], said: str | None
) -> None:
    def send(pairs: object) -> None:
        raise error

    engine = object.__new__(AsyncVLLMEngine)
    engine._model = SimpleNamespace(match=list)  # type: ignore[assignment]
    engine._loop, engine._vllm, engine._updating = Loop(), Processes(), threading.Lock()  # type: ignore[assignment]
    engine._transfer = SimpleNamespace(send=send)  # type: ignore[assignment]
    with pytest.raises(raised, match=said):
        engine.update_weights([], 1)
    assert engine._vllm.failure is error, "no token is sampled from a mixture"


def test_an_update_that_waits_for_a_request_knows_that_it_spoiled_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(output: object, key: str) -> None:
        raise NotFinite("the weights have diverged")

    monkeypatch.setattr(vllm_async, "completion_of", diverged)

    async def run() -> None:
        ended = asyncio.Event()

        class Sampling:
            cache_spoiled = False

            async def sample(self, *request: object) -> None:
                ended.set()

        vllm: Any = Sampling()
        asked = asyncio.create_task(vllm_async._completion(vllm, "a", [1], None))
        await ended.wait()
        assert vllm.cache_spoiled, "nothing comes between a request's end and what it says of the cache"
        with pytest.raises(NotFinite):
            await asked

    asyncio.run(run())


def test_a_process_that_died_names_the_settings_too() -> None:
    """vLLM passes nothing on of why its process died, and on a GPU that is most often memory."""
    dead = type("EngineDeadError", (Exception,), {})("EngineCore encountered an issue. See stack trace (above)")
    assert "If they are of memory: lower engine.max_num_seqs" in str(engine_error(dead))

    async def run() -> None:
        processes = VLLMProcesses(SimpleNamespace(errored=True), VLLMSettings(), 0)
        with pytest.raises(EngineError, match=r"process has ended; why stands .* lower engine\.max_num_seqs"):
            await processes.sample("a", [1], None)

    asyncio.run(run())


def test_a_score_does_not_open_the_gate_of_an_engine_that_sleeps() -> None:
    async def run() -> None:
        llm = SimpleNamespace(errored=False, sleep=lambda level: asyncio.sleep(0))
        processes = VLLMProcesses(llm, VLLMSettings(), 0)
        await processes.sleep()
        with pytest.raises(EngineError, match="the engine sleeps; it scores once it has been given weights"):
            await processes.sample_scaled([1], None, 0.5)
        waiting = asyncio.create_task(processes.sample("a", [1], None))
        await asyncio.sleep(0.01)
        assert not waiting.done(), "its weights are lost"
        waiting.cancel()

    asyncio.run(run())


def test_closing_leaves_the_group_of_the_transfer_whatever_happens() -> None:
    left: list[str] = []
    transfer: Any = SimpleNamespace(close=lambda: left.append("group"))
    with pytest.raises(EngineError, match="already gone"):
        vllm_async._close(Processes(), Loop(), transfer)  # type: ignore[arg-type]
    assert left == ["group"]


def test_a_rendezvous_on_another_machine_is_refused() -> None:
    assert _free_port("127.0.0.1") > 0
    with pytest.raises(ValueError, match=r"engine\.transfer_host is 203\.0\.113\.7, which is no address of this"):
        _free_port("203.0.113.7")
