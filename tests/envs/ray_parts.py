"""What crews of the tests are made of: an engine that sleeps and says what the seed says, and a worker around it."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.engine import Completion, SamplingParams
from agent.protocols.registry import load_protocol
from envs.engine_server import RemoteActor
from envs.episode_worker import EpisodeWorker
from envs.retrieval_replicas import ReplicaClient
from envs.search_env import EpisodeLimits
from retrieval.passage import Hit
from tests.envs.small_world import OverlapRetriever, byte_tokenizer

LIMITS = EpisodeLimits(max_turns=6, max_trajectory_tokens=6000, top_k=2)


class SleepingEngine:
    """Searches or answers by the request's seed, after `sleep_s`. Its version is part of what it says in thought."""

    context_window = 8000

    def __init__(self, sleep_s: float = 0.002) -> None:
        tokenizer = byte_tokenizer()
        self._said = [
            tuple(tokenizer.encode(text, add_special_tokens=False))
            for text in ("<search>Who founded Velmora?</search>", "<answer>Quillon Bay [1]</answer>")
        ]
        self._sleep_s = sleep_s
        self.version = 0
        self.weight = 0.0

    @contextmanager
    def episode(self):
        yield

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        await asyncio.sleep(self._sleep_s)
        ids = self._said[params.seed % 3 == 0]
        return Completion(
            token_ids=ids, logprobs=(-0.5,) * len(ids), versions=(self.version,) * len(ids), finish="stop"
        )

    def update_weights(self, named: Iterable[tuple[str, Any]], version: int) -> None:
        for _, tensor in named:
            self.weight = float(tensor.sum())
        self.version = version

    async def close(self) -> None:
        return None


class HangingEngine(SleepingEngine):
    """Hangs for good, without dying, as soon as the file is there; whoever replaces it finds the file gone."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = Path(file)
        self._hangs = False

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        if self._file.exists():
            self._file.unlink()
            self._hangs = True
        if self._hangs:
            await asyncio.sleep(3600)
        return await super().generate(prompt_ids, params, key=key)


class FailsToReopen(SleepingEngine):
    """Can be opened the first time, not the second, and from then on again: each opening is a line of the file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        with Path(file).open("a") as openings:
            openings.write("opened\n")
        if Path(file).read_text().count("opened") == 2:
            raise MemoryError("the GPU's memory is not free yet")


class HangsToReopen(SleepingEngine):
    """Hangs where it is opened the second time."""

    def __init__(self, file: str) -> None:
        super().__init__()
        with Path(file).open("a") as openings:
            openings.write("opened\n")
        if Path(file).read_text().count("opened") == 2:
            time.sleep(3600)


def slow_engine() -> SleepingEngine:
    """An engine that takes eighteen seconds to open."""
    time.sleep(18)
    return SleepingEngine()


def broken_engine() -> SleepingEngine:
    """An engine that cannot be opened."""
    raise OSError("there is no such model")


async def search(query: str, k: int) -> list[Hit]:
    await asyncio.sleep(0.001)
    return OverlapRetriever().search([query], k)[0]


def sleeping_worker(call: Callable[..., Awaitable[Completion]], replicas: ReplicaClient | None) -> EpisodeWorker:
    """The maker of a worker."""
    return EpisodeWorker(
        actor=RemoteActor(call, context_window=SleepingEngine.context_window, timeout_s=300, pause_s=0.1),
        search=search if replicas is None else replicas.search,
        protocol=load_protocol("waymark"),
        tokenizer=byte_tokenizer(),
        limits=LIMITS,
        max_concurrent=64,
    )


def closing_limit_s() -> float:
    """Ten seconds, and more where the machine has so much else to do that any number would be missed."""
    return 10 * max(1.0, os.getloadavg()[0] / (4 * (os.cpu_count() or 1)))


def loaded_models() -> list[str]:
    """Which of the heavy libraries this process has imported."""
    import sys

    return [name for name in ("torch", "vllm") if sys.modules.get(name) is not None]
