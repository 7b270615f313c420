"""vLLM in processes of its own, on a CPU: the same engine as in process, and no process outlives its owner."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.openai import OpenAIEngine
from agent.engines.openai_settings import OpenAISettings
from agent.engines.transformers import load_engine
from agent.engines.vllm_async import AsyncVLLMEngine
from agent.engines.vllm_settings import VLLMSettings
from tests.agent.engines.served_models import changed, llama_tied, logprobs_after, reference, save
from tests.agent.engines.small_engine import PROMPTS, TOKENIZER, sample

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


def settings(**options: object) -> VLLMSettings:
    return VLLMSettings.model_validate({"kv_cache_gb": 0.1, "max_num_seqs": 4, "block_size": 32, **options})


def vllms_processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("VLLM")]


def shared_files() -> list[Path]:
    return list(Path("/dev/shm").glob("*waymark*"))


def test_it_samples_updates_and_scores_as_in_process_and_ends_when_killed(tmp_path: Path) -> None:
    old = reference(save(llama_tied, tmp_path))
    engine = AsyncVLLMEngine(tmp_path, settings(on_update="continue", prefix_cache_on_update="salt"), version=2)
    embedded = load_engine(tmp_path, device="cpu", version=2)
    for mine, other in zip(
        sample(engine, PROMPTS, temperature=0.0), sample(embedded, PROMPTS, temperature=0.0), strict=True
    ):
        assert (mine.token_ids, mine.versions, mine.finish) == (other.token_ids, other.versions, other.finish)
        assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    stops = {"temperature": 0.0, "stop": ("e", "o")}
    for mine, other in zip(sample(engine, PROMPTS, **stops), sample(embedded, PROMPTS, **stops), strict=True):
        assert (mine.token_ids, mine.finish) == (other.token_ids, other.finish), "a stop string ends it and stays"
    for temperature in (1.0, 0.6):
        ids = [5, 9, 30, 7, 7]
        assert engine.score(ids, temperature=temperature) == pytest.approx(
            embedded.score(ids, temperature=temperature), abs=1e-4
        )
    group = asyncio.run(engine.generate_n([5, 9], SamplingParams(max_new_tokens=9, seed=3), 3, key="g"))
    assert [c.token_ids for c in group] == [
        c.token_ids for c in sample(engine, [[5, 9]] * 3, seeds=[3, 4, 5], max_new_tokens=9)
    ]
    with pytest.raises(ValueError, match="unknown extra"):
        engine.update_weights([*old.named_parameters(), ("extra", old.lm_head.weight)], 3)

    new = changed(reference(tmp_path), 8)

    async def through_an_update() -> list[Completion]:
        tasks = [
            asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=200, seed=i), key=str(i)))
            for i in range(8)
        ]
        await asyncio.sleep(0.15)
        await asyncio.to_thread(engine.update_weights, new.named_parameters(), 3)
        return await asyncio.gather(*tasks)

    completions = asyncio.run(through_an_update())
    assert engine.version == 3 and {c.versions[-1] for c in completions} == {3}
    for completion in completions:
        before, ids = completion.versions.count(2), list(completion.token_ids)
        assert completion.logprobs[:before] == pytest.approx(logprobs_after(old, [4], ids, 1.0)[:before], abs=2e-4)
        if not before:
            assert completion.logprobs == pytest.approx(logprobs_after(new, [4], ids, 1.0), abs=2e-4)
    for version in (4, 5):
        engine.update_weights(changed(new, version).named_parameters(), version)
        [sure] = sample(engine, PROMPTS[2:3], temperature=0.0)
        assert set(sure.versions) == {version}
        expected = logprobs_after(new, PROMPTS[2], list(sure.token_ids), 0.0)
        assert sure.logprobs == pytest.approx(expected, abs=2e-4)

    async def through_a_kill() -> list[object]:
        tasks = [
            asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=250, seed=i), key=str(i)))
            for i in range(8)
        ]
        await asyncio.sleep(0.1)
        for process in vllms_processes():
            process.kill()
        async with asyncio.timeout(30):
            return await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(outcome, EngineError) for outcome in asyncio.run(through_a_kill()))
    for later in (
        lambda: sample(engine, [[4]]),
        lambda: engine.score([4, 5]),
        lambda: engine.update_weights(new.named_parameters(), 9),
    ):
        with pytest.raises(EngineError):
            later()
    asyncio.run(engine.close())
    asyncio.run(engine.close())
    assert vllms_processes() == [] and shared_files() == []


def test_a_finishing_update_waits_and_closing_is_quick_and_leaves_nothing(tmp_path: Path) -> None:
    old, new = reference(save(llama_tied, tmp_path)), changed(reference(tmp_path), 8)
    engine = AsyncVLLMEngine(tmp_path, settings())

    async def run() -> list[object]:
        tasks = [
            asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120, seed=i), key=str(i)))
            for i in range(8)
        ]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(engine.update_weights, new.named_parameters(), 1)
        completions = await asyncio.gather(*tasks)
        for completion in completions:
            [version] = set(completion.versions)
            expected = logprobs_after((old, new)[version], [4], list(completion.token_ids), 1.0)
            assert completion.logprobs == pytest.approx(expected, abs=2e-4)
        assert {c.versions[0] for c in completions} == {0, 1}
        endless = next(i for i, c in enumerate(completions) if c.versions[0] == 1 and c.finish == "length")
        waiting = [
            asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=250, seed=endless), key=str(i)))
            for i in range(8)
        ]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        began = time.monotonic()
        await engine.close()
        assert time.monotonic() - began < 15
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [str(outcome) for outcome in outcomes[1:]] == ["the engine is closed"] * 7
    assert vllms_processes() == []


def test_vllms_processes_end_with_an_owner_that_was_killed(tmp_path: Path) -> None:
    save(llama_tied, tmp_path)
    script = tmp_path / "owner.py"
    script.write_text(
        "import os, signal, sys\n"
        "if __name__ == '__main__':\n"
        "    import psutil\n"
        "    from agent.engines.vllm_async import AsyncVLLMEngine\n"
        "    from agent.engines.vllm_settings import VLLMSettings\n"
        f"    engine = AsyncVLLMEngine({str(tmp_path)!r}, VLLMSettings(kv_cache_gb=0.1))\n"
        "    children = psutil.Process().children(recursive=True)\n"
        "    print(*(p.pid for p in children if p.name().startswith('VLLM')), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment, timeout=240)
    pids = [int(pid) for pid in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL and len(pids) == 2
    until = time.monotonic() + 10
    while any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids):
        assert time.monotonic() < until, "vLLM's processes outlived their owner"
        time.sleep(0.1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """vLLM's own OpenAI-compatible server."""
    save(llama_tied, tmp_path)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tmp_path)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command += ["--served-model-name", "policy", "--dtype", "float32", "--enforce-eager", "--port", port]
    command += ["--host", "127.0.0.1", "--logprobs-mode", "processed_logprobs", "--max-num-seqs", "4"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = (tmp_path / "server.log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        log.close()


def test_vllms_own_server_gives_what_the_embedded_engine_samples(server: str, tmp_path: Path) -> None:
    import httpx

    until = time.monotonic() + 240
    while True:
        try:
            if httpx.get(f"{server}/health", timeout=2).status_code == 200:
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, (tmp_path / "server.log").read_text()[-2000:]
        time.sleep(0.5)
    engine = OpenAIEngine(OpenAISettings(url=server), TOKENIZER, purpose="rollouts", version=1)
    embedded = load_engine(tmp_path, device="cpu", version=1)
    assert engine.context_window == 256 and engine.exact
    for options in ({"temperature": 0.0}, {"temperature": 0.0, "stop": ("e", "o")}):
        for mine, other in zip(sample(engine, PROMPTS, **options), sample(embedded, PROMPTS, **options), strict=True):
            assert (mine.token_ids, mine.versions, mine.finish) == (other.token_ids, other.versions, other.finish)
            assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    [drawn] = sample(engine, [[5, 9]], temperature=0.7)
    expected = logprobs_after(reference(tmp_path), [5, 9], list(drawn.token_ids), 0.7)
    assert drawn.logprobs == pytest.approx(expected, abs=1e-4), "logprobs at the sampling temperature"
    assert engine.score([5, 9, 30]) == pytest.approx(embedded.score([5, 9, 30]), abs=1e-4)
    assert sample(engine, [[5, 9]], temperature=0.7)[0].token_ids == drawn.token_ids, "equal seeds, equal samples"
    with pytest.raises(ValueError, match="cannot change"):
        engine.update_weights([], 2)
    asyncio.run(engine.close())
