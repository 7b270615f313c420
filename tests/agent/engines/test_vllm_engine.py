"""What vLLM samples in this process: equal to transformers, to itself in any batch, and with the same errors."""

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.engine import Completion, SamplingParams
from agent.engines.transformers import TransformersEngine, load_engine
from agent.engines.vllm import VLLMEngine
from agent.engines.vllm_settings import VLLMSettings
from tests.agent.engines.served_models import llama_untied, logprobs_after, reference, save
from tests.agent.engines.small_engine import PROMPTS, TOKENIZER, VOCAB, sample

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

SETTINGS = VLLMSettings(kv_cache_gb=0.1, max_num_seqs=4, block_size=32, max_batched_tokens=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(llama_untied, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[VLLMEngine]:
    began = time.monotonic()
    made = VLLMEngine(folder, SETTINGS)
    assert time.monotonic() - began < 60, "in process it starts in seconds, also on a busy machine"
    yield made
    asyncio.run(made.close())


@pytest.fixture(scope="module")
def embedded(folder: Path) -> Iterator[TransformersEngine]:
    made = load_engine(folder, device="cpu")
    yield made
    asyncio.run(made.close())


def same(mine: Completion, other: Completion) -> None:
    assert mine.token_ids == other.token_ids and mine.finish == other.finish and mine.versions == other.versions
    assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_greedy_equals_the_embedded_engine(engine: VLLMEngine, embedded: TransformersEngine) -> None:
    for mine, other in zip(
        sample(engine, PROMPTS, temperature=0.0), sample(embedded, PROMPTS, temperature=0.0), strict=True
    ):
        same(mine, other)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_logprobs_and_scores_equal_a_plain_forward(engine: VLLMEngine, folder: Path, temperature: float) -> None:
    model = reference(folder)
    for prompt, completion in zip(PROMPTS, sample(engine, PROMPTS, temperature=temperature), strict=True):
        expected = logprobs_after(model, prompt, list(completion.token_ids), temperature)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)
        ids = [*prompt, *completion.token_ids]
        scores = engine.score(ids, temperature=temperature)
        assert scores[0] == 0.0
        assert scores[1:] == pytest.approx(logprobs_after(model, ids[:1], ids[1:], temperature), abs=1e-4)


def test_a_score_at_another_temperature_leaves_the_samples_of_others_alone(
    engine: VLLMEngine, embedded: TransformersEngine
) -> None:
    async def run() -> tuple[list[Completion], list[float]]:
        tasks = [
            asyncio.create_task(engine.generate(p, SamplingParams(max_new_tokens=60, temperature=0.0), key=str(i)))
            for i, p in enumerate(PROMPTS)
        ]
        await asyncio.sleep(0.02)
        scores = await asyncio.to_thread(engine.score, [5, 9, 30, 7], temperature=0.5)
        return await asyncio.gather(*tasks), scores

    completions, scores = asyncio.run(run())
    assert scores == pytest.approx(embedded.score([5, 9, 30, 7], temperature=0.5), abs=1e-4)
    for mine, other in zip(completions, sample(embedded, PROMPTS, max_new_tokens=60, temperature=0.0), strict=True):
        same(mine, other)
    assert engine.score([5]) == [0.0]


def test_filtered_logprobs_are_those_of_the_filtered_distribution(engine: VLLMEngine) -> None:
    [narrow] = sample(engine, PROMPTS[:1], top_k=1, temperature=1.0)
    [greedy] = sample(engine, PROMPTS[:1], temperature=0.0)
    assert narrow.token_ids == greedy.token_ids
    assert narrow.logprobs == pytest.approx([0.0] * 20)


def test_equal_seed_and_prompt_give_an_equal_sample_alone_and_in_any_batch(engine: VLLMEngine) -> None:
    together = sample(engine, PROMPTS, temperature=0.8)
    for i, prompt in enumerate(PROMPTS):
        [alone] = sample(engine, [prompt], seeds=[i], temperature=0.8)
        assert alone.token_ids == together[i].token_ids
    [other] = sample(engine, PROMPTS[:1], seeds=[77], temperature=0.8)
    assert other.token_ids != together[0].token_ids
    [huge] = sample(engine, PROMPTS[:1], seeds=[2**100 + 5], temperature=0.8)
    assert huge == sample(engine, PROMPTS[:1], seeds=[2**100 + 5], temperature=0.8)[0]


def test_n_samples_of_a_prompt_are_those_of_n_seeds(engine: VLLMEngine, embedded: TransformersEngine) -> None:
    params = SamplingParams(max_new_tokens=12, temperature=0.9, seed=40)
    for one in (engine, embedded):
        group = asyncio.run(one.generate_n([5, 9], params, 6, key="g"))
        alone = sample(one, [[5, 9]] * 6, seeds=list(range(40, 46)), max_new_tokens=12, temperature=0.9)
        assert [c.token_ids for c in group] == [c.token_ids for c in alone]
        assert len({c.token_ids for c in group}) > 3
        with pytest.raises(ValueError, match="n is 0; at least 1 sample"):
            asyncio.run(one.generate_n([5, 9], params, 0, key="g"))
        with pytest.raises(ValueError, match="the prompt is empty"):
            asyncio.run(one.generate_n([], params, 3, key="g"))


def test_prompts_that_do_not_fit_one_step_sample_the_same(engine: VLLMEngine) -> None:
    prompts = [[(11 * i + start) % 250 for i in range(180)] for start in range(8)]
    together = sample(engine, prompts, temperature=0.9)
    for i in (1, 3, 6):
        assert sample(engine, [prompts[i]], seeds=[i], temperature=0.9)[0].token_ids == together[i].token_ids


def test_mixed_settings_in_one_batch(engine: VLLMEngine) -> None:
    async def run() -> list[Completion]:
        settings = [
            SamplingParams(max_new_tokens=9, temperature=0.0),
            SamplingParams(max_new_tokens=3, temperature=1.0, seed=5),
            SamplingParams(max_new_tokens=30, temperature=0.5, top_k=4, seed=6),
            SamplingParams(max_new_tokens=5, top_p=0.6, seed=7),
        ]
        return await asyncio.gather(*(engine.generate([9, 8], p, key=str(i)) for i, p in enumerate(settings)))

    first = asyncio.run(run())
    assert [len(c.token_ids) for c in first] == [9, 3, 30, 5]
    assert first[0].token_ids == sample(engine, [[9, 8]], temperature=0.0)[0].token_ids[:9]
    assert first[2].token_ids[:20] == sample(engine, [[9, 8]], seeds=[6], temperature=0.5, top_k=4)[0].token_ids


def test_a_stop_string_over_several_tokens_ends_the_completion_and_stays_in_it(
    engine: VLLMEngine, embedded: TransformersEngine
) -> None:
    for prompt in PROMPTS:
        [whole] = sample(engine, [prompt], max_new_tokens=40, temperature=0.0)
        for begin in range(4, 30):
            text = TOKENIZER.decode(list(whole.token_ids[begin : begin + 2]))
            if text.isascii() and len(text) >= 2:
                break
        else:
            continue
        [stopped] = sample(engine, [prompt], max_new_tokens=40, temperature=0.0, stop=("</nothing>", text))
        assert stopped.finish == "stop" and TOKENIZER.decode(list(stopped.token_ids)).endswith(text)
        assert stopped.token_ids == whole.token_ids[: len(stopped.token_ids)]
        same(stopped, sample(embedded, [prompt], max_new_tokens=40, temperature=0.0, stop=("</nothing>", text))[0])
        exactly = len(stopped.token_ids)
        [both] = sample(engine, [prompt], max_new_tokens=exactly, temperature=0.0, stop=(text,))
        assert both.finish == "stop", "a stop string comes before the length"
        return
    raise AssertionError("no prompt's completion has two readable tokens in a row")


def test_a_stop_string_in_the_prompt_ends_nothing(engine: VLLMEngine) -> None:
    [completion] = sample(engine, [TOKENIZER.encode("of </search>")], max_new_tokens=4, stop=("</search>",), seeds=[2])
    assert len(completion.token_ids) == 4


def test_lengths_are_cut_to_the_room_in_the_window(engine: VLLMEngine, folder: Path) -> None:
    assert engine.context_window == 256
    [completion] = sample(engine, [[7] * 250], max_new_tokens=50)
    assert len(completion.token_ids) == 6 and completion.finish == "length"
    ids = [*[7] * 250, *completion.token_ids]
    assert engine.score(ids)[250:] == pytest.approx(list(completion.logprobs), abs=1e-4), "a full window can be scored"
    with pytest.raises(ValueError, match="257 tokens to score do not fit the context window of 256"):
        engine.score([7] * 257)
    with pytest.raises(ValueError, match="temperature is 0; scoring needs a positive one"):
        engine.score([7], temperature=0)


@pytest.mark.parametrize(
    ("prompt", "params"),
    [
        ([], {}),
        ([1, VOCAB], {}),
        ([-1], {}),
        ([7] * 256, {}),
        ([1], {"max_new_tokens": 0}),
        ([1], {"temperature": -1.0}),
        ([1], {"temperature": math.nan}),
        ([1], {"top_p": 0.0}),
        ([1], {"top_k": -1}),
        ([1], {"stop": ("",)}),
    ],
)
def test_bad_requests_reach_only_their_caller_with_the_embedded_engines_words(
    engine: VLLMEngine, embedded: TransformersEngine, prompt: list[int], params: dict[str, object]
) -> None:
    async def run() -> Completion:
        good = asyncio.create_task(engine.generate([1], SamplingParams(max_new_tokens=3), key="a"))
        messages = []
        for one in (engine, embedded):
            with pytest.raises(ValueError) as refused:
                await one.generate(prompt, SamplingParams(**{"max_new_tokens": 3, **params}), key="b")  # type: ignore[arg-type]
            messages.append(str(refused.value))
        assert messages[0] == messages[1]
        return await good

    assert len(asyncio.run(run()).token_ids) == 3


def test_a_temperature_that_vllm_would_raise_is_refused(engine: VLLMEngine) -> None:
    with pytest.raises(ValueError, match=r"temperature is 0.001; vLLM samples at 0 \(greedy\) or 0.01 and above"):
        sample(engine, [[1]], temperature=0.001)


def test_tasks_of_several_event_loops_decode_together(engine: VLLMEngine) -> None:
    results: dict[int, list[Completion]] = {}

    def ask(number: int) -> None:
        results[number] = sample(engine, PROMPTS * 2, max_new_tokens=15, temperature=0.9)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [results[number] for number in range(4)] == [results[0]] * 4


def test_a_cancelled_caller_takes_its_request_out_of_the_engine(engine: VLLMEngine) -> None:
    async def run() -> Completion:
        long = [
            asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=250, seed=i), key=f"long {i}"))
            for i in range(8)  # four run, four wait
        ]
        while engine._thread.num_running < 4:
            await asyncio.sleep(0.001)
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)
        return await engine.generate([4], SamplingParams(max_new_tokens=2), key="short")

    assert len(asyncio.run(run()).token_ids) == 2
    assert engine._thread.num_running == 0
    assert engine._thread.call(lambda vllm: vllm.has_unfinished_requests(), alone=False) is False


def test_turns_of_an_episode_find_their_prefix_in_the_cache(engine: VLLMEngine) -> None:
    prompt = [(7 * i) % 200 for i in range(150)]
    [first] = sample(engine, [prompt], max_new_tokens=20, temperature=0.0)

    def cached(vllm: object) -> int:
        from vllm import SamplingParams as VLLMParams

        ids = [*prompt, *first.token_ids, 5, 6]
        vllm.add_request("probe", {"prompt_token_ids": ids}, VLLMParams(max_tokens=1, detokenize=False))  # type: ignore[attr-defined]
        while True:
            for output in vllm.step():  # type: ignore[attr-defined]
                if output.finished:
                    return int(output.num_cached_tokens)

    assert engine._thread.call(cached, alone=True) == 160


def test_the_kernels_head_sizes_are_vllms_own() -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    from agent.engines.served_model import CPU_HEAD_SIZES

    assert list(CPU_HEAD_SIZES) == CPUAttentionBackend.get_supported_head_sizes()
