"""Who is computed with whom, and what happens when something breaks."""

import asyncio
import threading
from collections.abc import Callable

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.transformers import TransformersEngine
from tests.agent.engines.small_engine import PROMPTS, SIZES, TOKENIZER, llama, qwen2, sample


def record_batches(engine: TransformersEngine) -> list[list[str]]:
    """Keys of the rows admitted together, in order."""
    batches: list[list[str]] = []
    admit = engine._batch.admit

    def recorded(requests: list[object], version: int) -> None:
        batches.append([r.key for r in requests])  # type: ignore[attr-defined]
        admit(requests, version)  # type: ignore[arg-type]

    engine._batch.admit = recorded  # type: ignore[method-assign, assignment]
    return batches


@pytest.mark.parametrize("delays", [(0.0, 0.02, 0.04), (0.04, 0.0, 0.02)])
def test_the_deterministic_schedule_waits_for_all_and_sorts_by_key(delays: tuple[float, ...]) -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="deterministic", max_batch=2, eos_token_ids=())
    batches = record_batches(engine)

    async def episode(name: str, delay: float) -> list[tuple[int, ...]]:
        with engine.episode():
            said = []
            for turn in range(2):
                await asyncio.sleep(delay)
                params = SamplingParams(max_new_tokens=5 + ord(name) % 3, seed=turn)
                said.append((await engine.generate([ord(name)], params, key=f"{name}/{turn}")).token_ids)
            return said

    async def run() -> list[list[tuple[int, ...]]]:
        return await asyncio.gather(*(episode(n, d) for n, d in zip("cab", delays, strict=True)))

    said = asyncio.run(run())
    assert batches == [["a/0", "b/0"], ["c/0"], ["a/1", "b/1"], ["c/1"]]
    assert len({tuple(s) for s in said}) == 3
    asyncio.run(engine.close())


def test_an_episode_that_ends_does_not_hold_back_the_others() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="deterministic", eos_token_ids=())

    async def short() -> None:
        with engine.episode():
            await asyncio.sleep(0.05)

    async def long() -> Completion:
        with engine.episode():
            return await engine.generate([4], SamplingParams(max_new_tokens=3), key="a")

    async def run() -> Completion:
        return (await asyncio.wait_for(asyncio.gather(long(), short()), timeout=10))[0]

    assert len(asyncio.run(run()).token_ids) == 3
    asyncio.run(engine.close())


def play_turns(
    engine: TransformersEngine, num_episodes: int, turns: int, update: PreTrainedModel | None = None
) -> list:
    """Episodes whose prompts grow by what they said and by an observation; returns all completions of each."""

    async def episode(number: int) -> list[Completion]:
        ids, said = [3 + number, *range(20, 24 + number % 3)], []
        with engine.episode():
            for turn in range(turns):
                params = SamplingParams(max_new_tokens=4 + (number + turn) % 4, seed=number * turns + turn)
                said.append(await engine.generate(ids, params, key=f"e{number}/{turn}"))
                ids = [*ids, *said[-1].token_ids, *range(40, 41 + (number + turn) % 5)]
                await asyncio.sleep(0.001 * (number % 3))
                if update is not None and number == 0:
                    engine.update_weights(update.named_parameters(), version=engine.version + 1)
        return said

    async def run() -> list[list[Completion]]:
        return await asyncio.gather(*(episode(n) for n in range(num_episodes)))

    return asyncio.run(run())


@pytest.mark.parametrize("schedule", ["eager", "deterministic"])
@pytest.mark.parametrize("max_batch", [2, 5, 16])
@pytest.mark.parametrize("make", [llama, qwen2])
def test_going_on_from_the_last_turn_changes_no_sample(
    make: Callable[[], PreTrainedModel], max_batch: int, schedule: str
) -> None:
    said, work = [], []
    for reuse in (True, False):
        engine = TransformersEngine(make(), TOKENIZER, schedule=schedule, max_batch=max_batch, eos_token_ids=())  # type: ignore[arg-type]
        engine._batch._reuse = reuse
        said.append([[c.token_ids for c in turns] for turns in play_turns(engine, num_episodes=7, turns=4)])
        work.append(engine._batch.prefilled_tokens)
        asyncio.run(engine.close())
    assert said[0] == said[1]
    assert work[0] < work[1] if max_batch > 7 else work[0] <= work[1]


def test_new_weights_end_what_the_old_ones_computed() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, max_batch=4, eos_token_ids=())
    reference = TransformersEngine(llama(), TOKENIZER, max_batch=4, eos_token_ids=())
    reference._batch._reuse = False
    for made in (engine, reference):
        play_turns(made, num_episodes=1, turns=3, update=made._model)  # type: ignore[arg-type]
    assert engine._batch.prefilled_tokens == reference._batch.prefilled_tokens
    for made in (engine, reference):
        asyncio.run(made.close())


def test_requests_join_a_running_batch_when_eager() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="eager", max_batch=4, eos_token_ids=())

    async def run() -> bool:
        long = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120), key="long"))
        await asyncio.sleep(0.01)
        await engine.generate([5], SamplingParams(max_new_tokens=2), key="short")
        still_running = not long.done()
        await long
        return still_running

    assert asyncio.run(run())
    asyncio.run(engine.close())


def test_the_event_loop_stays_free_while_the_engine_computes(engine: TransformersEngine) -> None:
    async def run() -> int:
        ticks = 0
        task = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=100), key="a"))
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return ticks

    assert asyncio.run(run()) > 5


class Broken(LlamaForCausalLM):
    """Fails at the n-th forward."""

    forwards_left = 4

    def forward(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        self.forwards_left -= 1
        if self.forwards_left == 0:
            raise RuntimeError("out of luck")
        return super().forward(*args, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["eager", "deterministic"])
def test_a_failure_resolves_everybody_and_the_engine_goes_on(schedule: str) -> None:
    config = LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, max_position_embeddings=128)
    engine = TransformersEngine(Broken(config), TOKENIZER, schedule=schedule, max_batch=2, eos_token_ids=())  # type: ignore[arg-type]

    async def run() -> list[Completion | BaseException]:
        requests = (engine.generate(p, SamplingParams(max_new_tokens=9), key=str(p)) for p in PROMPTS)
        return await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), timeout=10)

    results = asyncio.run(run())
    assert all(isinstance(r, EngineError) and "RuntimeError: out of luck" in str(r) for r in results)
    assert len(sample(engine, PROMPTS, max_new_tokens=3)) == len(PROMPTS)
    asyncio.run(engine.close())


def test_weights_that_are_not_finite_fail_loudly(engine: TransformersEngine) -> None:
    with torch.no_grad():
        engine._model.model.norm.weight[0] = torch.nan  # type: ignore[union-attr, index]
    with pytest.raises(EngineError, match="are not finite: the weights have diverged"):
        sample(engine, PROMPTS[:1])


def test_a_cancelled_request_leaves_its_row(engine: TransformersEngine) -> None:
    async def run() -> int:
        doomed = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120), key="a"))
        other = asyncio.create_task(engine.generate([5], SamplingParams(max_new_tokens=8), key="b"))
        await asyncio.sleep(0.005)
        doomed.cancel()
        return len((await asyncio.wait_for(other, timeout=10)).token_ids)

    assert asyncio.run(run()) == 8
    assert len(sample(engine, [[5]])[0].token_ids) == 20


def test_a_loop_that_is_torn_down_leaves_a_usable_engine(engine: TransformersEngine) -> None:
    async def run() -> None:
        asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120), key="a"))  # noqa: RUF006
        await asyncio.sleep(0.005)

    asyncio.run(run())
    assert len(sample(engine, [[5]])[0].token_ids) == 20


def test_closing_fails_what_waits_and_what_comes_later() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="deterministic", eos_token_ids=())
    threads = threading.active_count()

    async def run() -> None:
        with engine.episode(), engine.episode():
            waiting = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=9), key="a"))
            await asyncio.sleep(0.01)
            await engine.close()
            with pytest.raises(EngineError, match="the engine was closed"):
                await waiting
            with pytest.raises(EngineError, match="the engine is closed"):
                await engine.generate([4], SamplingParams(max_new_tokens=9), key="b")

    asyncio.run(run())
    asyncio.run(engine.close())
    assert threading.active_count() <= threads
